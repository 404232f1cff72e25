// The trusted process: takes the page, listens on inherited sockets, drops its rights, serves. Its argument is one
// JSON object, made by src/init/launch.ts; it has an empty environment, and no knob that weakens a guarantee.
// It says Events, a JSON line each, on descriptor 1; end of input on descriptor 0 or SIGTERM means: drain and end.

import { createServer, Socket } from 'node:net'
import type { Server } from 'node:net'
import { refuseNewRights, refuseTracers } from '../os/confine.ts'
import { callerOf } from '../os/peer.ts'
import { mapPage } from '../os/page.ts'
import type { Event, Exchange } from './event.ts'
import { Guest } from './guest.ts'
import { compile } from './policy.ts'
import type { Policy } from './policy.ts'
import { Credential, secretMemory } from './secret.ts'
import { Needles } from './strip.ts'
import { Flyd } from './upstream.ts'
import type { Target } from './upstream.ts'

/** The launch line. Descriptors are inherited; paths and names were checked by whoever launched. */
export interface Launch {
  readonly page: number
  readonly flyd:
    | { readonly path: string }
    | { readonly host: string; readonly port: number; readonly secure: boolean; readonly ca?: string }
  readonly sockets: readonly (Policy & { readonly fd: number; readonly uid?: number })[]
  /** What an operator has asked not to be given up: `--no-harden`. */
  readonly keeps: readonly string[]
}

const CONNECTION_LIMIT = 16_384 // a socket; an idle connection costs a few KiB
const RESERVED = 64 // more, for root: whoever holds all others open must not keep init's own clients out
const BACKLOG = 4096 // listen(2) again with Node's own 511 would shrink what the launcher asked for
const DRAIN_LIMIT = 10_000 // ms for requests in flight when the process is told to end
const EVENTS_LIMIT = 1024 * 1024 // unread event bytes; beyond it events are dropped rather than memory filled
const EVENTS_PAUSE = 20 // ms in which exchanges are told in one write: each write wakes the launcher
const EVENTS_FULL = 32 * 1024 // characters that are written at once

const events = new Socket({ fd: 1, readable: false, writable: true })
events.on('error', () => events.destroy()) // nobody listens any more: serving goes on
let lines = ''

/** Reports an event. What is not an exchange has somebody waiting for it. */
function report(event: Event): void {
  if (event.kind === 'exchange' && lines === '') setTimeout(flushEvents, EVENTS_PAUSE)
  lines += `${event.kind === 'exchange' ? exchangeLine(event) : JSON.stringify(event)}\n`
  if (event.kind !== 'exchange' || lines.length > EVENTS_FULL) flushEvents()
}

/** As JSON.stringify has it, at a third of its cost: only an audience holds characters that are not ours. */
function exchangeLine(e: Exchange): string {
  const audience = e.audience === undefined ? '' : `,"audience":${JSON.stringify(e.audience)}`
  const code = e.code === undefined ? '' : `,"code":"${e.code}"`
  return `{"kind":"exchange","time":${e.time},"socket":${e.socket},"pid":${e.pid},"uid":${e.uid},"gid":${e.gid},"method":"${e.method}","route":"${e.route}"${audience},"status":${e.status}${code},"hits":${e.hits},"bytes":${e.bytes},"ms":${e.ms}}`
}

function flushEvents(): void {
  if (lines !== '' && events.writableLength < EVENTS_LIMIT) events.write(lines)
  lines = ''
}

// Nothing is told but a code: an error's text or stack could quote the wire. The launcher starts a new process.
process.on('uncaughtException', () => {
  report({ kind: 'fault', code: 'UNCAUGHT' })
  flushEvents()
  process.exit(70)
})
// A handler keeps Node from opening the inspector, whose port any user of the Machine could dial.
process.on('SIGUSR1', () => undefined)

async function serve(launch: Launch): Promise<void> {
  // Before the page is mapped: nobody may be looking when it is.
  if (!launch.keeps.includes('dumpable')) refuseTracers()
  if (!launch.keeps.includes('new-privileges')) refuseNewRights()
  const credential = new Credential(mapPage(launch.page))
  const needles = credential.derive((bytes) => {
    const memory = secretMemory(Needles.memory(bytes.length))
    if (!memory.secret) report({ kind: 'fault', code: 'NO_SECRET_MEMORY' })
    return new Needles(bytes, memory)
  })
  const { flyd: at } = launch
  const target: Target = 'path' in at || !at.secure ? at : { ...at, tls: await import('node:tls') }
  const flyd = new Flyd(target, credential)
  const guests = new Set<Guest>()

  const servers = launch.sockets.map((options, socket): Server => {
    const door = { socket, judge: compile(options), flyd, needles, report }
    let open = 0 // of those who are served: whoever is turned away must not take the place of another while it lingers
    const server = createServer({ allowHalfOpen: true }, (connection) => {
      const caller = callerOf(connection)
      const guest = new Guest(connection, door, caller)
      guests.add(guest)
      connection.on('close', () => guests.delete(guest))
      if (options.uid !== undefined && caller.uid !== options.uid && caller.uid !== 0)
        guest.turnAway('CALLER_NOT_ALLOWED')
      else if (open >= CONNECTION_LIMIT + (caller.uid === 0 ? RESERVED : 0)) guest.turnAway('TOO_MANY_CONNECTIONS')
      else {
        open++
        connection.on('close', () => open--)
      }
    })
    server.on('error', () => report({ kind: 'fault', code: 'SOCKET_LOST' }))
    server.listen({ fd: options.fd }, BACKLOG, () => report({ kind: 'listening', socket }))
    return server
  })

  const clock = setInterval(() => {
    const now = performance.now()
    for (const guest of guests) guest.expire(now)
  }, 1000)

  let draining = false
  function drain(): void {
    if (draining) return
    draining = true
    report({ kind: 'draining' })
    const last = setTimeout(end, DRAIN_LIMIT)
    let left = servers.length
    for (const server of servers) server.close(() => --left === 0 && end())
    for (const guest of guests) guest.drain()
    function end(): void {
      clearTimeout(last)
      clearInterval(clock)
      flyd.close()
      report({ kind: 'stopped' })
      flushEvents()
      events.end(() => process.exit(0))
    }
  }
  process.on('SIGTERM', drain)
  process.on('SIGINT', () => undefined) // Ctrl-C reaches the whole group: the launcher decides
  new Socket({ fd: 0, readable: true, writable: false }).on('error', drain).on('end', drain).resume()
}

// The one place where the launch line is believed: its maker is src/init, on our side of the boundary.
const [, , line = ''] = process.argv
// oxlint-disable-next-line typescript/no-unsafe-type-assertion
await serve(JSON.parse(line) as Launch)
