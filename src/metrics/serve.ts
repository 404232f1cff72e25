// Event → Prometheus. Label sets are bounded by construction: sockets, route patterns and codes are closed sets, and
// an audience or a path, which a guest chooses, is never a label. Served on a listener of its own, by the launcher
// or a companion of init: the trusted process knows nothing of it.

import { createServer } from 'node:http'
import type { Server } from 'node:http'
import { lstatSync, unlinkSync } from 'node:fs'
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import { Failure, reason } from '../errors.ts'
import type { SocketOptions } from '../init/options.ts'
import type { Event } from '../proxy/event.ts'
import type { MetricsAddress } from './address.ts'

export interface Metrics {
  event(event: Event): void
  /** The proxy process has ended, and has not been able to say so. */
  away(): void
  /** The port it listens on, or undefined for a Unix socket. */
  readonly port: number | undefined
  close(): Promise<void>
}

/** Serves `GET /metrics` and `GET /healthz`: 200 when every socket is served, 503 while the proxy process is away. */
export async function serveMetrics(
  address: MetricsAddress | { fd: number },
  sockets: readonly SocketOptions[],
): Promise<Metrics> {
  const registry = new Registry()
  const registers = [registry]
  const exchanges = new Counter({
    name: 'dotfly_exchanges_total',
    help: 'Exchanges by socket, route pattern, status and dotfly code (empty when flyd answered).',
    labelNames: ['socket', 'method', 'route', 'status', 'code'],
    registers,
  })
  const seconds = new Histogram({
    name: 'dotfly_exchange_seconds',
    help: 'From the complete request to the last answer byte.',
    labelNames: ['route'],
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 60],
    registers,
  })
  const blanked = new Counter({
    name: 'dotfly_strip_hits_total',
    help: 'Runs of the credential blanked in answers.',
    registers,
  })
  const bytes = new Counter({ name: 'dotfly_answer_bytes_total', help: 'Body bytes sent to guests.', registers })
  const faults = new Counter({
    name: 'dotfly_faults_total',
    help: 'Faults of the proxy process.',
    labelNames: ['code'],
    registers,
  })
  const starts = new Counter({
    name: 'dotfly_proxy_starts_total',
    help: 'Starts of the proxy process: more than one means restarts.',
    registers,
  })
  const serving = new Gauge({
    name: 'dotfly_sockets_served',
    help: 'Sockets that the proxy process serves now.',
    registers,
  })

  const served = new Set<number>()
  function away(): void {
    served.clear()
    serving.set(0)
  }
  function event(event: Event): void {
    switch (event.kind) {
      case 'listening':
        // The first socket that a new process serves is the sign of a start.
        if (served.has(event.socket)) served.clear()
        if (served.size === 0) starts.inc()
        served.add(event.socket)
        serving.set(served.size)
        break
      case 'exchange': {
        const socket = sockets[event.socket]?.path ?? ''
        exchanges.inc({
          socket,
          method: event.route === '' ? '' : event.method,
          route: event.route,
          status: event.status,
          code: event.code ?? '',
        })
        if (event.route !== '') seconds.observe({ route: event.route }, event.ms / 1000)
        blanked.inc(event.hits)
        bytes.inc(event.bytes)
        break
      }
      case 'fault':
        faults.inc({ code: event.code })
        break
      case 'draining':
      case 'stopped':
        away()
        break
    }
  }

  const server = createServer((request, response) => {
    if (request.url === '/metrics') {
      registry.metrics().then(
        (text) => response.writeHead(200, { 'content-type': registry.contentType }).end(text),
        (caught: unknown) => response.writeHead(500).end(`${reason(caught)}\n`),
      )
    } else if (request.url === '/healthz') {
      const healthy = served.size === sockets.length
      response
        .writeHead(healthy ? 200 : 503, { 'content-type': 'text/plain; charset=utf-8' })
        .end(healthy ? 'serving\n' : 'not serving\n')
    } else response.writeHead(404).end()
  })
  await listen(server, address)
  const bound = server.address()
  return {
    event,
    away,
    port: typeof bound === 'object' && bound !== null ? bound.port : undefined,
    close: () =>
      new Promise((done) => {
        server.close(() => done())
        server.closeAllConnections()
      }),
  }
}

function listen(server: Server, address: MetricsAddress | { fd: number }): Promise<void> {
  return new Promise((listening, fail) => {
    server.once('error', (caught: NodeJS.ErrnoException) => {
      const where =
        'path' in address ? address.path : 'host' in address ? `${address.host}:${address.port}` : 'its socket'
      const why =
        caught.code === 'EADDRINUSE' ? ': it is in use, choose another' : ` (${caught.code ?? reason(caught)})`
      fail(new Failure(`cannot serve metrics at ${where}${why}`, { cause: caught }))
    })
    if ('path' in address) removeStale(address.path)
    server.listen(address, listening)
  })
}

/** A socket file left by an earlier run goes; whatever else is there makes listen fail, and that says it better. */
function removeStale(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() === true) unlinkSync(path)
}
