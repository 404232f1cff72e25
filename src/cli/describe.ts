// Event → log line, the only place where what the proxy says becomes text. Nothing is added to what Event allows, and
// every string is made safe to look at. Init says the same lines, and loads no logger for it.

import type { SocketOptions } from '../init/options.ts'
import type { Event, Exchange } from '../proxy/event.ts'
import { printable } from './printable.ts'

type LineLevel = 'info' | 'warn' | 'error'
export interface Line {
  level: LineLevel
  /** Beside the message, for machines. */
  fields: Readonly<Record<string, unknown>>
  message: string
}

/** What to say of an event, and how loud. */
export function describe(event: Event, sockets: readonly SocketOptions[]): Line {
  if (event.kind === 'exchange') return describeExchange(event, sockets)
  if (event.kind === 'fault') return line('error', { event: 'fault', code: event.code }, FAULT[event.code])
  if (event.kind === 'listening') {
    const socket = pathOf(event.socket, sockets)
    // Deployers grep for this text; it is the real init's own.
    return line('info', { event: 'listening', socket }, `listening at ${socket}`)
  }
  return line('info', { event: event.kind }, STAGE[event.kind])
}

/** The trusted process ended by itself, and another is started. */
export const describeRestart = (why: string, pause: number): Line =>
  line(
    'warn',
    { event: 'restarting', pause: Math.round(pause) },
    `${why}, starting it again in ${Math.round(pause)} ms`,
  )

/** The launcher has more memory than it needs. */
export const describeUntidy = (why: string): Line => line('warn', { event: 'untidy' }, printable(why))

function describeExchange(exchange: Exchange, sockets: readonly SocketOptions[]): Line {
  const { pid, uid, gid, status, code, hits, bytes, ms } = exchange
  const socket = pathOf(exchange.socket, sockets)
  const method = printable(exchange.method)
  const route = printable(exchange.route)
  const audience = exchange.audience === undefined ? {} : { audience: printable(exchange.audience) }
  const what = route === '' ? `${method || 'a request'} outside the policy` : `${method} ${route}`
  const how = status === 0 ? 'guest went away' : `${status}${code === undefined ? '' : ` ${code}`}`
  const stripped = hits === 0 ? '' : `, ${hits} blanked`
  return line(
    levelOf(exchange),
    {
      event: 'exchange',
      at: exchange.time,
      socket,
      caller: { pid, uid, gid },
      method,
      route,
      ...audience,
      status,
      ...(code === undefined ? {} : { code }),
      hits,
      bytes,
      ms,
    },
    `${what}: ${how}, ${bytes} bytes, ${ms.toFixed(1)} ms, pid ${pid} uid ${uid}${stripped}`,
  )
}

/** A blanked credential is never routine: something upstream handed it out. */
function levelOf({ status, hits }: Exchange): LineLevel {
  if (status >= 500) return 'error'
  return status >= 400 || hits > 0 ? 'warn' : 'info'
}

const STAGE: Record<'draining' | 'stopped', string> = {
  draining: 'draining: no new connections, open exchanges finish',
  stopped: 'stopped',
}

const FAULT: Record<Extract<Event, { kind: 'fault' }>['code'], string> = {
  UNCAUGHT: 'the proxy process failed unexpectedly and is started again',
  SOCKET_LOST: 'a listening socket was lost',
  NO_SECRET_MEMORY: 'this kernel has no memfd_secret: root can read the credential in memory',
}

const pathOf = (index: number, sockets: readonly SocketOptions[]): string =>
  printable(sockets[index]?.path ?? `socket ${index}`)

const line = (level: LineLevel, fields: Line['fields'], text: string): Line => ({
  level,
  fields,
  message: `[fly api proxy] ${text}`,
})
