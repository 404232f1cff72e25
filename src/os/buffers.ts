// Where the bytes of streams lie: all read into one buffer and write from another, so that whoever makes these decides
// where that is; and what the kernel does not take at once waits in a third, for a time.

import ffi from 'node:ffi'

const SMALL = 8 * 1024 // it costs as much to copy as to ask where it lies
const LARGE_PARTS = 4 // in one call
const LOAN = 128 * 1024
const LOANS = 4

/** What was read last is often what is written next, and nobody has to ask where it lies. */
const last: { read: Buffer | undefined; at: bigint } = { read: undefined, at: 0n }

/** Tells where bytes lie that were just read. */
export function hasRead(bytes: Buffer, at: bigint): void {
  last.read = bytes
  last.at = at
}

const addressOf = (bytes: Buffer): bigint => (bytes === last.read ? last.at : ffi.getRawPointer(bytes))

/** Where streams read to and write from. Both must stay where they are: memory that is mapped, or too large to move. */
export class Buffers {
  readonly read: Buffer
  readonly write: Buffer
  readonly readAt: bigint
  readonly writeAt: bigint
  /** Of struct iovec, each an address and a length: of copies in `write`, and of a part where it lies, by turns. */
  readonly #pieces = new BigUint64Array(new ArrayBuffer(16 * (2 * LARGE_PARTS + 1))) // one that V8 does not move
  readonly #lengths = new Uint32Array(this.#pieces.buffer) // a BigInt for each would be made and thrown away
  readonly piecesAt = ffi.getRawPointer(this.#pieces)
  /** What `gather` has made ready: so many pieces, so many bytes, and the parts before this one. */
  pieces = 0
  bytes = 0
  next = 0

  constructor(read: Buffer, write: Buffer) {
    this.read = read
    this.write = write
    this.readAt = ffi.getRawPointer(read)
    this.writeAt = ffi.getRawPointer(write)
  }

  /** Makes as many of `parts` ready, from `from` on, as go out in one call: each call would wake a reader. Large ones are
   * not copied. */
  gather(parts: readonly Buffer[], from: number): void {
    this.pieces = this.bytes = 0
    this.next = from
    let begun = 0
    let copied = 0
    for (let part = parts[from]; part !== undefined; part = parts[++this.next]) {
      if (part.length <= SMALL && part.length <= this.write.length) {
        if (copied + part.length > this.write.length) break
        this.write.set(part, copied)
        copied += part.length
      } else {
        if (this.pieces === 2 * LARGE_PARTS) break
        this.#addCopies(begun, copied)
        this.#add(addressOf(part), part.length)
        begun = copied
      }
    }
    if (copied > begun) this.#addCopies(begun, copied)
  }

  #addCopies(from: number, to: number): void {
    this.#add(from === 0 ? this.writeAt : this.writeAt + BigInt(from), to - from)
  }

  #add(at: bigint, length: number): void {
    this.#pieces[2 * this.pieces] = at
    this.#lengths[4 * this.pieces + 2] = length
    this.pieces++
    this.bytes += length
  }
}

/** Where copies of large parts wait: made for each they would be garbage, tens of megabytes of it. Few, since a loan is more
 * than the bytes in it: many who do not read have copies of their own. */
const loans: { readonly free: Buffer[]; made: number } = { free: [], made: 0 }

/** Room for a copy of `bytes`; undefined where they are small, or more than a loan, or all loans are out. */
export function borrow(bytes: Buffer): Buffer | undefined {
  if (bytes.length <= SMALL || bytes.length > LOAN) return undefined
  const free = loans.free.pop()
  if (free !== undefined || loans.made === LOANS) return free
  loans.made++
  return Buffer.allocUnsafeSlow(LOAN)
}

export function giveBack(loan: Buffer): void {
  loans.free.push(loan)
}
