// Bytes over a connected socket or a pipe, without a queue of their own where the kernel takes them at once.

import ffi from 'node:ffi'
import { borrow, giveBack, hasRead } from './buffers.ts'
import type { Buffers } from './buffers.ts'
import { errno } from './errno.ts'
import { GONE, IN, OUT } from './loop.ts'
import type { Loop, Watcher } from './loop.ts'

const MSG_PEEK = 2
const EINTR = 4
const EAGAIN = 11
const SHUT_WR = 1

const { functions: libc } = ffi.dlopen(null, {
  read: { arguments: ['i32', 'pointer', 'u32'], return: 'i32' },
  write: { arguments: ['i32', 'pointer', 'u32'], return: 'i32' },
  writev: { arguments: ['i32', 'pointer', 'i32'], return: 'i32' },
  close: { arguments: ['i32'], return: 'i32' },
  recv: { arguments: ['i32', 'pointer', 'u32', 'i32'], return: 'i32' },
  shutdown: { arguments: ['i32', 'i32'], return: 'i32' },
})

/** What happens to a stream, told to whoever uses it. */
export interface Hearer {
  /** Valid, and the hearer's to change, until it returns. */
  data(bytes: Buffer): void
  /** The other side sends no more. Where it is gone altogether, `closed` follows, unless paused. */
  ended(): void
  /** All that was written is with the kernel, after a time in which it was not. */
  drained(): void
  /** Once, and last; never from within a call to the stream. */
  closed(): void
}

/** One descriptor, non-blocking, ours from now on; below 0 it is closed from the start. Half-closed in either direction it
 * still works in the other. */
export class Stream implements Watcher {
  readonly #loop: Loop
  readonly #buffers: Buffers
  readonly #hearer: Hearer
  readonly first: boolean
  #fd: number
  #paused = false
  #ended = false // the other side
  #ending = false // this side: when #queue is empty
  #queue: Buffer[] = [] // what the kernel has not taken
  #pending = 0
  #loan: Buffer | undefined // one of #queue lies in it
  #readAt = 0 // in loop.now
  #view: Buffer // as long as what was read last: clients repeat themselves

  constructor(fd: number, loop: Loop, buffers: Buffers, hearer: Hearer, first = false) {
    this.first = first
    this.#fd = fd
    this.#loop = loop
    this.#buffers = buffers
    this.#hearer = hearer
    this.#view = buffers.read
    if (fd < 0) loop.later(() => hearer.closed())
    else this.#watch()
  }

  /** Bytes written that the kernel has not taken. */
  get pending(): number {
    return this.#pending
  }

  /** Of a socket: it is open, and nothing has come that was not read, not even the end; as things stood when this turn began,
   * or stand now. */
  get quiet(): boolean {
    if (this.#fd < 0) return false
    // What was there when this turn began it would have been told of by now; what it has read since may go on.
    if (this.first && !this.#paused && this.#readAt !== this.#loop.now && this.#loop.isTold) return true
    // To where nothing waits to be written, so that what is read stays as it is.
    return libc.recv(this.#fd, this.#buffers.writeAt, 1, MSG_PEEK) < 0 && errno() === EAGAIN
  }

  /** Writes `parts` in order, in one call where they fit; true when the kernel has taken all of them. What it does not
   * take is copied; unless it is `kept`: then whoever wrote it never changes it, and it is only pointed to. */
  write(parts: readonly Buffer[], kept = false): boolean {
    if (this.#fd < 0 || this.#ending) return false
    let next = 0
    const buffers = this.#buffers
    while (next < parts.length && this.#pending === 0) {
      buffers.gather(parts, next)
      const { pieces, bytes, piecesAt, writeAt } = buffers
      const isCopied = pieces === 1 // the first piece is always of copies
      const taken =
        pieces === 0 ? 0 : isCopied ? libc.write(this.#fd, writeAt, bytes) : libc.writev(this.#fd, piecesAt, pieces)
      if (taken < 0 && !this.#isLater()) return false
      if (taken < bytes) this.#keep(parts.slice(next, buffers.next), Math.max(0, taken), kept)
      next = buffers.next
    }
    if (next < parts.length) this.#keep(parts.slice(next), 0, kept)
    return this.#pending === 0
  }

  /** Reads no more until `resume`, nor learns that the other side is gone. What it has sent already stays with the
   * kernel. */
  pause(): void {
    this.#paused = true
    this.#watch()
  }

  resume(): void {
    this.#paused = false
    this.#watch()
  }

  /** Sends the end of the stream behind what was written. Closed when the other side has ended too. */
  end(): void {
    this.#ending = true
    if (this.#pending === 0) this.#shut()
  }

  /** Closes now, with what is unsent and unread. */
  destroy(): void {
    if (this.#fd < 0) return
    this.#loop.forget(this.#fd)
    libc.close(this.#fd)
    this.#fd = -1
    this.#queue = []
    this.#pending = 0
    this.#giveBack()
    this.#loop.later(() => this.#hearer.closed())
  }

  ready(events: number): void {
    if (this.#pending > 0) this.#flush()
    // An error or a hang-up is read like bytes: read(2) says which it is.
    if (events !== OUT && this.#fd >= 0 && !this.#paused && !this.#ended) this.#read()
    // All that it sent has been read, and nobody is left to read an answer.
    if ((events & GONE) !== 0 && this.#ended && !this.#paused) this.destroy()
  }

  #read(): void {
    const buffers = this.#buffers
    this.#readAt = this.#loop.now
    do {
      const count = libc.read(this.#fd, buffers.readAt, buffers.read.length)
      if (count > 0) {
        if (this.#view.length !== count) this.#view = buffers.read.subarray(0, count)
        hasRead(this.#view, buffers.readAt)
        this.#hearer.data(this.#view)
        if (count < buffers.read.length || this.#fd < 0) return
      } else {
        if (count === 0) this.#hearEnd()
        else this.#isLater()
        return
      }
      // What has filled the buffer mostly has more behind it: the loop need not be asked while nobody else is ready.
    } while (this.first && !this.#paused && this.#loop.isAlone)
  }

  #hearEnd(): void {
    this.#ended = true
    this.#hearer.ended()
    if (this.#ending && this.#pending === 0) this.destroy()
    else this.#watch()
  }

  #flush(): void {
    for (let part = this.#queue[0]; part !== undefined; part = this.#queue[0]) {
      const taken = libc.write(this.#fd, ffi.getRawPointer(part), part.length)
      if (taken < 0) {
        this.#isLater()
        return
      }
      this.#pending -= taken
      if (taken < part.length) this.#queue[0] = part.subarray(taken)
      else this.#queue.shift()
    }
    this.#giveBack()
    this.#watch()
    if (this.#ending) this.#shut()
    this.#hearer.drained()
  }

  #keep(parts: readonly Buffer[], taken: number, kept: boolean): void {
    let skip = taken
    for (const part of parts) {
      const rest = part.subarray(skip)
      skip = Math.max(0, skip - part.length)
      if (rest.length === 0) continue
      this.#queue.push(kept ? rest : this.#copy(rest))
      this.#pending += rest.length
    }
    this.#watch()
  }

  #copy(bytes: Buffer): Buffer {
    const loan = this.#loan === undefined ? borrow(bytes) : undefined
    if (loan === undefined) return Buffer.from(bytes)
    this.#loan = loan
    bytes.copy(loan)
    return loan.subarray(0, bytes.length)
  }

  /** When nothing in it waits any more. */
  #giveBack(): void {
    if (this.#loan !== undefined) giveBack(this.#loan)
    this.#loan = undefined
  }

  /** True when the call that failed may be tried again; else the stream is at its end. */
  #isLater(): boolean {
    const why = errno()
    if (why === EAGAIN || why === EINTR) return true
    this.destroy()
    return false
  }

  #shut(): void {
    if (this.#ended) this.destroy()
    else if (this.#fd >= 0 && libc.shutdown(this.#fd, SHUT_WR) !== 0) this.destroy()
  }

  #watch(): void {
    if (this.#fd < 0) return
    const events = (this.#paused ? 0 : this.#ended ? GONE : IN) | (this.#pending > 0 ? OUT : 0)
    if (!this.#loop.watch(this.#fd, events, this)) this.destroy()
  }
}
