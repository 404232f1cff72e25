// Events on their way to the launcher: a JSON line each, on a pipe that is only written. Whoever does not read them
// loses them, and holds nobody up.

import { Buffers } from '../os/buffers.ts'
import type { Loop } from '../os/loop.ts'
import { Stream } from '../os/stream.ts'
import type { Event } from './event.ts'
import type { Ask } from './policy.ts'

const UNREAD_LIMIT = 1024 * 1024 // bytes; beyond it events are dropped rather than memory filled
const PAUSE = 20 // ms in which exchanges are told in one write: each write wakes the launcher
const FULL = 32 * 1024 // bytes that are written at once
const LINE_LIMIT = 16 * 1024 // a route and an audience are under 2 KiB

export class Teller {
  readonly #pipe: Stream
  readonly #lines = Buffer.allocUnsafeSlow(FULL + LINE_LIMIT)
  #length = 0
  #last: (() => void) | undefined

  /** False: an exchange that went well is told to nobody. */
  tellsAll = true

  constructor(fd: number, loop: Loop) {
    const buffers = new Buffers(Buffer.allocUnsafeSlow(1), Buffer.allocUnsafeSlow(LINE_LIMIT)) // no secret
    const told = (): void => this.#last?.()
    this.#pipe = new Stream(fd, loop, buffers, { data: () => undefined, ended: told, drained: told, closed: told })
    this.#pipe.pause() // its other end says nothing
  }

  /** Tells an event. What is not an exchange has somebody waiting for it. `ask`: what the exchange was about. */
  report(event: Event, ask?: Ask): void {
    if (this.#length > FULL) this.flush()
    if (event.kind !== 'exchange') {
      this.#add(`${JSON.stringify(event)}\n`)
      this.flush()
      return
    }
    const { kind, time, socket, pid, uid, gid, method, route, audience, status, code, hits, bytes, ms } = event
    if (!this.tellsAll && status < 400 && hits === 0 && code === undefined) return
    if (this.#length === 0) setTimeout(() => this.flush(), PAUSE)
    if (ask === undefined) {
      this.#add(`${JSON.stringify(event)}\n`)
      return
    }
    // As JSON.stringify has it, at a fifth of its cost: what is repeated, by whomever, is made once.
    ask.told ??= Buffer.from(JSON.stringify({ kind, socket, method, route, audience }).slice(0, -1))
    const why = code === undefined ? '' : `,"code":"${code}"`
    this.#length += ask.told.copy(this.#lines, this.#length)
    this.#add(
      `,"pid":${pid},"uid":${uid},"gid":${gid},"time":${time},"status":${status}${why},"hits":${hits},"bytes":${bytes},"ms":${ms}}\n`,
    )
  }

  flush(): void {
    if (this.#length > 0 && this.#pipe.pending < UNREAD_LIMIT) this.#pipe.write([this.#lines.subarray(0, this.#length)])
    this.#length = 0
  }

  /** Flushes, and calls `then` when all is told or there is nobody to tell it to. */
  end(then: () => void): void {
    this.flush()
    if (this.#pipe.pending === 0) then()
    else this.#last = then
  }

  #add(text: string): void {
    this.#length += this.#lines.write(text, this.#length)
  }
}
