// Which descriptors are ready, epoll(7), told to whoever watches them. Node keeps its own event loop, for timers, signals
// and TLS, and watches this one set for us; while bytes keep coming they are served without going back there.
// What a stream of Node costs for each read and write is more than all else that a proxy does for a request.

import ffi from 'node:ffi'
import { failed } from './errno.ts'

const EPOLL_CLOEXEC = 0x80000
const ADD = 1
const DEL = 2
const MOD = 3
/** Bytes, or the end of them, can be read. */
export const IN = 1
/** Bytes can be written, or connect(2) has come to an end. */
export const OUT = 4
/** The other side of a local socket or of a pipe is gone: EPOLLHUP, and EPOLLERR, which the kernel tells unasked, too. */
export const GONE = 24

const UV_POLL = 8
const UV_READABLE = 1
const EVENTS = 256 // told at once
const STAY = 20 // ms after which Node's timers have their turn, however much there is to do here
const FRESH = 5 // ms; a turn with answers that are slow to search takes a hundred times as long
const ALONE = 1 // ms, for about a megabyte; of what is slow to search nothing more is read
const PATIENCE = 20 // ms in which the next bytes of a busy guest come; a shorter wait costs more, for it sets the clock

const { functions: libc, lib } = ffi.dlopen(null, {
  epoll_create1: { arguments: ['i32'], return: 'i32' },
  epoll_ctl: { arguments: ['i32', 'i32', 'i32', 'buffer'], return: 'i32' },
  epoll_wait: { arguments: ['i32', 'pointer', 'i32', 'i32'], return: 'i32' },
  calloc: { arguments: ['u64', 'u64'], return: 'pointer' },
  uv_handle_size: { arguments: ['i32'], return: 'u64' },
  uv_poll_init: { arguments: ['pointer', 'pointer', 'i32'], return: 'i32' },
  uv_poll_stop: { arguments: ['pointer'], return: 'i32' },
  uv_poll_start: { arguments: ['pointer', 'i32', 'pointer'], return: 'i32' },
})

/** Whoever watches a descriptor. It may be called once more than there was something to do. */
export interface Watcher {
  /** It is told before all that are not, of those who are ready at once. */
  readonly first?: boolean
  ready(events: number): void
}

/** What time it is, asked once a turn: to ask for each costs more than much of what is done. In a slow turn it is late, by
 * seconds at worst. */
export interface Clock {
  /** performance.now() */
  readonly now: number
  /** Date.now(), as it was when the first in this turn asked. */
  readonly date: number
}

/** One of these a process: its handle belongs to Node's loop for good. */
export class Loop implements Clock {
  /** False while Node's own streams carry something that an answer waits for: then they have a turn after each of ours. */
  stays = true
  readonly #poll = libc.epoll_create1(EPOLL_CLOEXEC)
  readonly #handle = libc.calloc(1n, libc.uv_handle_size(UV_POLL)) // for good: Node's loop points into it
  readonly #watchers: (Watcher | undefined)[] = [] // by descriptor
  readonly #events: number[] = [] // that they are told of
  // struct epoll_event: a word of events, eight bytes that are ours; packed on x86-64 alone.
  readonly #words = process.arch === 'x64' ? 3 : 4
  readonly #found = new Int32Array(EVENTS * this.#words)
  readonly #foundAt = ffi.getRawPointer(this.#found)
  readonly #one = new Int32Array(this.#words)
  #now = 0 // 0: not in a turn
  #date = 0 // 0: nobody has asked
  #isWhole = false
  #count = 0 // of them who are told in this turn
  #late: (() => void)[] = []
  #next: (() => void)[] = []

  constructor() {
    // A callback from native code must not throw, and what it starts would run outside of Node's books.
    const look = (): void => void setImmediate(() => this.#turn())
    const callback = lib.registerCallback({ arguments: ['pointer', 'i32', 'i32'], return: 'void' }, look)
    if (this.#poll < 0) throw failed('make an epoll set')
    if (libc.uv_poll_init(ffi.getCurrentEventLoop(), this.#handle, this.#poll) !== 0)
      throw new Error('cannot watch an epoll set')
    if (libc.uv_poll_start(this.#handle, UV_READABLE, callback) !== 0) throw new Error('cannot watch an epoll set')
  }

  /** Nothing is told any more, and nothing of this keeps the process alive. Without it only process.exit ends it. */
  close(): void {
    libc.uv_poll_stop(this.#handle)
  }

  get now(): number {
    return this.#now === 0 ? performance.now() : this.#now
  }

  get date(): number {
    return this.#now === 0 ? Date.now() : (this.#date ||= Date.now())
  }

  /** Whoever is `first`, and was ready when the events at hand were asked for, has been told; and that is not long ago. */
  get isTold(): boolean {
    return this.#isWhole && this.#isWithin(FRESH)
  }

  /** Only one was ready when the events at hand were asked for, and that is not long ago: others may be by now. Who waits for
   * `nextTurn` waits as long. */
  get isAlone(): boolean {
    return this.#count === 1 && this.#isWithin(ALONE)
  }

  /** Calls `run` soon, when nobody is in the middle of something. */
  later(run: () => void): void {
    if (this.#now === 0) setImmediate(run)
    else this.#late.push(run)
  }

  /** Calls `run` when everybody else who is ready has had a turn. */
  nextTurn(run: () => void): void {
    if (this.#now === 0) setImmediate(run)
    else this.#next.push(run)
  }

  /** Tells `watcher` of `events` (IN, OUT, GONE) at `fd` for as long as they last, and of no others any more. With none,
   * nothing is told, not even that the other side is gone. Before `fd` is closed, or it would be another's. False where
   * the kernel refuses. */
  watch(fd: number, events: number, watcher: Watcher): boolean {
    const before = this.#events[fd] ?? 0
    if (before === events) return true
    this.#events[fd] = events
    this.#watchers[fd] = events === 0 ? undefined : watcher
    this.#one[0] = events
    this.#one[this.#words - 2] = fd
    this.#one[this.#words - 1] = watcher.first === true ? 1 : 0
    return libc.epoll_ctl(this.#poll, events === 0 ? DEL : before === 0 ? ADD : MOD, fd, this.#one) === 0
  }

  /** For `fd` that is closed next, and that nobody else has open: then the kernel tells of it no more. */
  forget(fd: number): void {
    this.#events[fd] = 0
    this.#watchers[fd] = undefined
  }

  /** In a turn that began less than `limit` ms ago. */
  #isWithin(limit: number): boolean {
    return this.#now !== 0 && performance.now() - this.#now < limit
  }

  #turn(): void {
    const found = this.#found
    const until = performance.now() + STAY
    for (let wait = 0; ; wait = this.#next.length > 0 ? 0 : PATIENCE) {
      const count = libc.epoll_wait(this.#poll, this.#foundAt, EVENTS, wait)
      this.#now = performance.now()
      this.#date = 0
      this.#count = count
      const next = this.#next
      if (next.length > 0) this.#next = []
      const end = count * this.#words
      for (const first of [1, 0]) {
        this.#isWhole = first === 0 && count < EVENTS
        // A descriptor that was closed in this round may be another's by now: that one finds nothing to do.
        for (let at = 0; at < end; at += this.#words)
          if (found[at + this.#words - 1] === first)
            this.#watchers[found[at + this.#words - 2] ?? -1]?.ready(found[at] ?? 0)
      }
      for (const run of next) run()
      for (let run = this.#late.shift(); run !== undefined; run = this.#late.shift()) run()
      if ((count <= 0 && this.#next.length === 0) || !this.stays || this.#now > until) break
    }
    this.#now = 0
    if (this.#next.length > 0) setImmediate(() => this.#turn())
  }
}
