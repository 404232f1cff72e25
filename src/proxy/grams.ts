// Where in the needles each gram stands: 4 bytes, or 2, in one case and in base64's alphabet, by which strip finds what a run
// may be of. All of it is made from the credential and lies in `alloc`ed memory.

import type { Filter } from './scan.ts'
import { allocNumbers } from './secret.ts'
import type { Alloc } from './secret.ts'
import { isGap, STANDARD, WINDOW } from './spellings.ts'

export class Grams {
  /** Of 4 bytes as they stand. */
  readonly raw: Index
  /** Of 4 and of 2, without bytes that may be gaps: an escaped one cannot be told from a needle's own. */
  readonly escaped: Index
  readonly pairs: Index
  /** A byte for each hash of a gram of 4, of raw bytes and of what escapes mean: of ours, the bits that the lowest byte of
   *  the hash has are cleared. One in eighty of innocent grams looks like one of ours; who could read them could guess the
   *  credential 4 bytes at a time. */
  readonly #rawLeft: Buffer
  readonly #escapedLeft: Buffer
  readonly #shift: number

  /** Bytes to be `alloc`ed for needles of `room` bytes. */
  static memory(room: number): number {
    return 24 * room + 3.5 * (1 << bitsFor(room)) + 64
  }

  constructor(alloc: Alloc, room: number) {
    const bits = bitsFor(room)
    this.#rawLeft = alloc(1 << bits).fill(255)
    this.#escapedLeft = alloc(1 << bits).fill(255)
    this.#shift = 32 - bits
    this.raw = new Index(alloc, room, bits - 3)
    this.escaped = new Index(alloc, room, bits - 3)
    this.pairs = new Index(alloc, room, bits - 3)
  }

  get filter(): Filter {
    const [raw, escaped] = [this.#rawLeft.byteOffset, this.#escapedLeft.byteOffset]
    return { raw, escaped, key: KEY, shift: this.#shift }
  }

  /** Whether a gram may be one of `escaped`. */
  mayBe(gram: number): boolean {
    const h = Math.imul(gram, KEY)
    return ((this.#escapedLeft[h >>> this.#shift] ?? 0) & h & 255) === 0
  }

  /** Indexes the needles from 1 to `end`: their bytes, 1 where one is secret, 0 as the kind between two. A start waits for
   *  this, and it is over before V8 has compiled it: it is written for the interpreter. */
  index(bytes: Uint8Array, secret: Uint8Array, kind: Uint8Array, end: number): void {
    let [raw, rawUrls] = [0, 0] // which of its bytes the stream may have as base64url does, as bits
    let size = 0 // of `raw`
    let [escaped, urls] = [0, 0]
    let [first, second, third] = [0, 0, 0] // where the bytes of `escaped` stand, but for the last
    let ahead = 0
    let last = -WINDOW // of what is secret before `ahead`
    for (let n = 1; n < end; n++) {
      if (kind[n] === 0) {
        size = first = second = third = 0
        continue
      }
      const c = bytes[n] ?? 0
      const folded = FOLD[c] ?? 0
      const isUrl = folded === PLUS || folded === SLASH ? 8 : 0
      raw = (raw >>> 8) | (folded << 24)
      rawUrls = (rawUrls >> 1) | isUrl
      for (; ahead < n - 3 + WINDOW; ahead++) if (secret[ahead] === 1) last = ahead
      // No window can hold a gram this far from all that is secret: names that stand in every answer cost no look.
      if (++size >= 4 && last >= n - 3 - WINDOW) this.#add(this.raw, this.#rawLeft, raw, rawUrls, n - 3)
      if (isGap(c)) continue
      escaped = (escaped >>> 8) | (folded << 24)
      urls = (urls >> 1) | isUrl
      if (first > 0) this.#add(this.escaped, this.#escapedLeft, escaped, urls, first)
      if (third > 0) this.pairs.add(escaped >>> 16, third)
      first = second
      second = third
      third = n
    }
  }

  /** Adds a gram, in all ways in which the stream may have it. */
  #add(index: Index, left: Buffer, gram: number, urls: number, n: number): void {
    index.add(gram, n)
    for (let some = urls; some >= 0; some = some === 0 ? -1 : (some - 1) & urls) {
      const h = Math.imul(some === 0 ? gram : inUrls(gram, some), KEY)
      left[h >>> this.#shift] = (left[h >>> this.#shift] ?? 0) & ~h
    }
  }
}

/** Lists of places, by gram. */
export class Index {
  readonly #heads: Int32Array
  readonly #next: Int32Array
  readonly #grams: Int32Array
  readonly #shift: number

  constructor(alloc: Alloc, room: number, bits: number) {
    this.#heads = allocNumbers(alloc, 1 << bits)
    this.#next = allocNumbers(alloc, room)
    this.#grams = allocNumbers(alloc, room)
    this.#shift = 32 - bits
  }

  add(gram: number, n: number): void {
    const at = Math.imul(gram, KEY) >>> this.#shift
    this.#grams[n] = gram
    this.#next[n] = this.#heads[at] ?? 0
    this.#heads[at] = n
  }

  /** The first in a list, linked by `next`, of those with this gram and perhaps others; 0 ends it. */
  first(gram: number): number {
    return this.#heads[Math.imul(gram, KEY) >>> this.#shift] ?? 0
  }

  next(n: number): number {
    return this.#next[n] ?? 0
  }

  gramAt(n: number): number {
    return this.#grams[n] ?? 0
  }
}

const KEY = (Math.random() * 2 ** 32) | 1
const PLUS = 0x2b
const SLASH = 0x2f
const bitsFor = (room: number): number => Math.max(14, Math.min(20, 34 - Math.clz32(room)))

const FOLD = STANDARD.map((c) => c | 0x20)
export const fold = (c: number): number => FOLD[c] ?? 0
export const foldAt = (b: Buffer, i: number): number =>
  fold(b[i] ?? 0) | (fold(b[i + 1] ?? 0) << 8) | (fold(b[i + 2] ?? 0) << 16) | (fold(b[i + 3] ?? 0) << 24)

/** A folded gram as the stream has it where those of its bytes that `urls` has bits for are written in base64url. */
function inUrls(gram: number, urls: number): number {
  let out = gram
  for (let i = 0; i < 4; i++)
    if (((urls >> i) & 1) === 1) out ^= (((gram >>> (8 * i)) & 255) === PLUS ? 0x06 : 0x50) << (8 * i)
  return out
}
