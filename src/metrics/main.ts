// Process entry of init's metrics: init speaks no HTTP, so a process of its own does, as a user of its own, that can do
// nothing but count. What the proxy said comes on standard input, a line of JSON each; its end means that init is gone.

import { createInterface } from 'node:readline'
import { Failure } from '../errors.ts'
import type { SocketOptions } from '../init/options.ts'
import type { Event } from '../proxy/event.ts'
import type { MetricsAddress } from './address.ts'
import { serveMetrics } from './serve.ts'

/** What init hands down: a Unix socket it has bound itself. */
export interface Launch {
  readonly address: Extract<MetricsAddress, { host: string }> | { readonly fd: number }
  readonly sockets: readonly SocketOptions[]
}

/** What it is told: an event of the proxy, or that the proxy has ended. */
export type Told = Event | { readonly kind: 'away' }

/** What comes back, once. */
export type Said = { readonly kind: 'listening' } | { readonly kind: 'failed'; readonly message: string }

const say = (said: Said): boolean => process.stdout.write(`${JSON.stringify(said)}\n`)

process.on('SIGTERM', () => process.exit())
process.stdout.on('error', () => process.exit())

async function serve({ address, sockets }: Launch): Promise<void> {
  try {
    const metrics = await serveMetrics(address, sockets)
    say({ kind: 'listening' })
    for await (const line of createInterface({ input: process.stdin })) {
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- both ends are one source tree
      const told = JSON.parse(line) as Told
      if (told.kind === 'away') metrics.away()
      else metrics.event(told)
    }
    await metrics.close()
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    say({ kind: 'failed', message: error.message })
    process.exitCode = 1
  }
}

// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the same
void serve(JSON.parse(process.argv[2] ?? '') as Launch)
