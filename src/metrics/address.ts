// Where metrics are served, as an operator writes it.

import { shown } from '../cli/printable.ts'
import { UsageError } from '../errors.ts'

/** Where the metrics are served: loopback or a Unix socket, never the network by accident. */
export type MetricsAddress = { readonly host: string; readonly port: number } | { readonly path: string }

/** `127.0.0.1:9091`, `[::1]:9091` or `unix:/path`. */
export function parseMetricsAddress(word: string): MetricsAddress {
  if (word.startsWith('unix:/')) return { path: word.slice('unix:'.length) }
  const [, host, port] = /^(127\.[0-9.]+|\[::1\]|localhost):([0-9]{1,5})$/.exec(word) ?? []
  if (host === undefined || Number(port) > 65_535)
    throw new UsageError(`metrics address ${shown(word)} is not 127.0.0.1:PORT, [::1]:PORT or unix:/PATH`)
  return { host: host.replace(/^\[|\]$/g, ''), port: Number(port) }
}
