// What came last, to know it again: clients, and flyd, mostly repeat themselves to the byte. Nothing but the bytes
// decides: not who says it, for that is decided when a connection is taken.

const LIMIT = 1024 // bytes that are kept
export const EMPTY = Buffer.alloc(0)

export class Seen<T> {
  /** What it was taken for. */
  last: T | undefined
  #bytes: Buffer | undefined
  #length = 0

  /** How many bytes from `at` on are what came last; 0 where they are not. */
  at(bytes: Buffer, at: number): number {
    const length = this.#length
    const isSeen = at + length <= bytes.length && this.#bytes?.compare(bytes, at, at + length, 0, length) === 0
    return isSeen ? length : 0
  }

  /** Keeps what came, `bytes`, what that was taken for, and `more`, of which it gives the copy. Where both are more than the
   *  limit it forgets, and gives `more` itself. */
  keep(last: T, bytes: Buffer, more: Buffer = EMPTY): Buffer {
    this.#length = 0
    this.last = undefined
    if (bytes.length + more.length > LIMIT) return more
    this.#bytes ??= Buffer.allocUnsafeSlow(LIMIT)
    this.last = last
    this.#length = bytes.copy(this.#bytes)
    return this.#bytes.subarray(this.#length, this.#length + more.copy(this.#bytes, this.#length))
  }
}
