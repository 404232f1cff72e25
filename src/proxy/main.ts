// The trusted process: takes the page, listens on inherited sockets, drops its rights, serves. Its argument is one
// JSON object, made by src/init/launch.ts; it has an empty environment, and no knob that weakens a guarantee.
// It says Events, a JSON line each, on descriptor 1; end of input on descriptor 0 or SIGTERM means: drain and end.

import { closeSync } from 'node:fs'
import { accept, listenAt, unblock } from '../os/accept.ts'
import { Buffers } from '../os/buffers.ts'
import { refuseNewRights, refuseTracers } from '../os/confine.ts'
import { addressOf, dial } from '../os/dial.ts'
import { IN, Loop } from '../os/loop.ts'
import { tidy } from '../os/memory.ts'
import { mapPage } from '../os/page.ts'
import { callerOf } from '../os/peer.ts'
import { Stream } from '../os/stream.ts'
import type { Hearer } from '../os/stream.ts'
import type { Event } from './event.ts'
import { Guest } from './guest.ts'
import type { Door } from './guest.ts'
import { compile } from './policy.ts'
import type { Ask, Policy } from './policy.ts'
import { Credential, secretMemory } from './secret.ts'
import { Seen } from './seen.ts'
import { Needles } from './strip.ts'
import { Teller } from './tell.ts'
import { Flyd } from './upstream.ts'
import type { Dial } from './upstream.ts'
import { nodeWire } from './wire.ts'

/** The launch line. Descriptors are inherited; paths and names were checked by whoever launched. */
export interface Launch {
  readonly page: number
  readonly flyd:
    | { readonly path: string }
    | { readonly cid: number; readonly port: number }
    | { readonly host: string; readonly port: number; readonly secure: boolean; readonly ca?: string }
  readonly sockets: readonly (Policy & { readonly fd: number; readonly uid?: number })[]
  /** Connections that each socket takes. */
  readonly room: number
  /** Bytes that the guests of each may have in memory. */
  readonly holds: number
  /** False: only exchanges that were refused, failed or held the credential are told of. */
  readonly tellsAll: boolean
  /** What an operator has asked not to be given up: `--no-harden`. */
  readonly keeps: readonly string[]
}

const RESERVED = 64 // more, for root: whoever holds all others open must not keep init's own clients out
const FULL_PAUSE = 100 // ms until a connection is taken again after descriptors ran out
const REQUESTS_TO_TIDY = 20_000 // after as many, and REST, V8 gives back too
const REST = 60 // s
const READ_SIZE = 128 * 1024 // what the guest's socket takes at once, so that it need not be kept: of Linux 208 KiB
const WRITE_SIZE = 64 * 1024
const TURN = 2 * 1024 // of a guest: what it sends ahead is kept, for each of thousands of connections
const DRAIN_LIMIT = 10_000 // ms for requests in flight when the process is told to end

const loop = new Loop()
unblock(1)
const teller = new Teller(1, loop)
const report = (event: Event, ask?: Ask): void => teller.report(event, ask)

// Nothing is told but a code: an error's text or stack could quote the wire. The launcher starts a new process.
process.on('uncaughtException', () => {
  report({ kind: 'fault', code: 'UNCAUGHT' })
  process.exit(70)
})
// A handler keeps Node from opening the inspector, whose port any user of the Machine could dial.
process.on('SIGUSR1', () => undefined)

async function serve(launch: Launch): Promise<void> {
  teller.tellsAll = launch.tellsAll
  // Before the page is mapped: nobody may be looking when it is.
  if (!launch.keeps.includes('dumpable')) refuseTracers()
  if (!launch.keeps.includes('new-privileges')) refuseNewRights()
  const credential = new Credential(mapPage(launch.page))
  const { needles, buffers, turn } = credential.derive((bytes) => {
    const memory = secretMemory(Needles.memory(bytes.length) + READ_SIZE + WRITE_SIZE)
    if (!memory.secret) report({ kind: 'fault', code: 'NO_SECRET_MEMORY' })
    // What comes from flyd, as it comes, lies there too, and is searched in place; and what is written to it.
    const buffers = new Buffers(memory.alloc(READ_SIZE), memory.alloc(WRITE_SIZE))
    return {
      needles: new Needles(bytes, memory),
      buffers,
      turn: new Buffers(buffers.read.subarray(0, TURN), buffers.write),
    }
  })
  const nextTurn = (run: () => void): void => loop.nextTurn(run)
  const flyd = new Flyd(await dialFlyd(launch.flyd, buffers), credential, loop)
  const guests = new Set<Guest>()
  let draining = false
  let ended = false

  const doors = launch.sockets.map((options, socket): { close: () => void } => {
    const served = new Set<Guest>() // whoever is turned away must not take the place of another while it lingers
    const away = new Set<Guest>() // and lingers, to hear why, only while these are few
    const closed = (guest: Guest): void => {
      served.delete(guest)
      away.delete(guest)
      guests.delete(guest)
      if (draining && guests.size === 0) end()
    }
    const judge = compile(options)
    const shared = { flyd, needles, report, clock: loop, nextTurn, holds: launch.holds }
    const door: Door = { ...shared, socket, judge, seen: new Seen(), heads: new Seen(), held: 0, closed }
    const take = (fd: number): void => {
      const caller = callerOf(fd)
      const isAlien = options.uid !== undefined && caller.uid !== options.uid && caller.uid !== 0
      const isServed = !isAlien && served.size < launch.room + (caller.uid === 0 ? RESERVED : 0)
      if (!isServed && away.size >= RESERVED) {
        closeSync(fd)
        return
      }
      const guest = new Guest((hearer) => new Stream(fd, loop, turn, hearer), door, caller)
      guests.add(guest)
      ;(isServed ? served : away).add(guest)
      if (!isServed) guest.turnAway(isAlien ? 'CALLER_NOT_ALLOWED' : 'TOO_MANY_CONNECTIONS')
    }
    return listen(options.fd, take, socket)
  })

  let asked = 0 // a second ago
  let rest = 0 // s, with at most one request in each
  let dirty = 0 // V8 is tidied up when as many have asked
  const everySecond = setInterval(() => {
    const time = performance.now()
    for (const guest of guests) guest.expire(time)
    rest = flyd.asked - asked > 1 ? 0 : rest + 1
    asked = flyd.asked
    // What the start, and then the work, have left behind is a fifth of all memory. Malloc's part is cheap to give back, in
    // the first second of rest. V8's takes 15 ms, and a fifth of a second when work goes on, for it has to compile all
    // again: never between two bursts.
    const much = asked >= dirty && rest >= (dirty === 0 ? 1 : REST)
    if (much || rest === 1) tidy(much ? globalThis.gc : undefined)
    if (much) dirty = asked + REQUESTS_TO_TIDY
  }, 1000)

  function drain(): void {
    if (draining) return
    draining = true
    report({ kind: 'draining' })
    setTimeout(end, DRAIN_LIMIT)
    for (const door of doors) door.close()
    for (const guest of guests) guest.drain()
    if (guests.size === 0) end()
  }
  function end(): void {
    if (ended) return
    ended = true
    clearInterval(everySecond)
    for (const guest of guests) guest.closed() // cut off: each is told of
    flyd.close()
    report({ kind: 'stopped' })
    teller.end(() => process.exit(0))
  }
  process.on('SIGTERM', drain)
  process.on('SIGINT', () => undefined) // Ctrl-C reaches the whole group: the launcher decides
  unblock(0)
  const input: Hearer = { data: () => undefined, ended: drain, drained: () => undefined, closed: drain }
  void new Stream(0, loop, buffers, input)
}

/** Takes whoever connects, until closed. */
function listen(fd: number, take: (connection: number) => void, socket: number): { close: () => void } {
  const watch = (events: number): void => {
    if (!loop.watch(fd, events, { ready })) report({ kind: 'fault', code: 'SOCKET_LOST' })
  }
  let closed = false
  function ready(): void {
    // One, for the next is told of at once, and to ask whether there is none costs each that comes alone.
    const connection = accept(fd)
    if (typeof connection === 'number') take(connection)
    else if (connection !== 'none') {
      watch(0)
      if (connection === 'lost') report({ kind: 'fault', code: 'SOCKET_LOST' })
      // Whoever waits stays in the queue: it is not turned away for what others hold.
      else setTimeout(() => closed || watch(IN), FULL_PAUSE)
    }
  }
  if (listenAt(fd)) {
    watch(IN)
    report({ kind: 'listening', socket })
  } else report({ kind: 'fault', code: 'SOCKET_LOST' })
  return {
    close() {
      closed = true
      watch(0)
    },
  }
}

/** How connections to flyd begin. Node's own streams carry what they are needed for: TLS, and names. */
async function dialFlyd(at: Launch['flyd'], buffers: Buffers): Promise<Dial> {
  const isSecure = 'host' in at && at.secure
  const address = isSecure ? undefined : addressOf(at)
  if (address !== undefined) return (hearer) => new Stream(dial(address), loop, buffers, hearer, true)
  if (!('host' in at)) return (hearer) => new Stream(-1, loop, buffers, hearer) // no such path can be
  loop.stays = false
  const net = await import('node:net')
  const secure = isSecure ? { tls: await import('node:tls') } : {}
  return (hearer) => nodeWire(net, { ...at, ...secure }, hearer)
}

// The one place where the launch line is believed: its maker is src/init, on our side of the boundary.
const [, , line = ''] = process.argv
// oxlint-disable-next-line typescript/no-unsafe-type-assertion
void serve(JSON.parse(line) as Launch) // what it throws is an uncaughtException, as above
