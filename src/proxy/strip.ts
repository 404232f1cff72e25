// Strip: blanks every run of the credential in a stream of bytes that somebody else wrote.
//
// The rule that decides every case: a *run* is a stretch of raw bytes that spells consecutive bytes of one needle, where
// the unit at either end may be cut. A *window* is 16 raw bytes of a run of which 4 or more spell secret bytes. The
// whole units of every window are blanked, and nothing else is.

import { anatomy } from './anatomy.ts'
import type { Alloc } from './secret.ts'
import { CASES, INTRODUCERS, INTRODUCES, STANDARD, STREAM, TEXT, WINDOW } from './spellings.ts'
import {
  cutAt,
  escapeAt,
  gapAt,
  gapBefore,
  headless,
  isGap,
  lengthOf,
  needles,
  unitAt,
  unitBefore,
} from './spellings.ts'

const SECRET = 4
/** From sample to sample. 11 raw bytes without an escape hold a sampled gram of 4 and one of the two beside it. A window
 *  without so many holds an escape or gap, as what is cut off at its start is 5 bytes at most. */
const STRIDE = 8
/** Bytes kept of what went before a chunk: a window, and the unit that its first byte may be cut from. */
const CONTEXT = 32

interface Run {
  from: number
  to: number
  needle: number
}
export type Observe = (offset: number, length: number, needle: string) => void

/** All spellings of one credential, indexed. Every byte made from it lies in `alloc`ed memory. */
export class Needles {
  readonly #names: { name: string; start: number }[] = []
  readonly #bytes: Uint8Array
  readonly #secret: Uint8Array
  /** 0 between two needles. */
  readonly #kind: Uint8Array
  readonly #grams: Index
  // Without bytes that may be gaps, as `#around` cannot tell an escaped one from a needle's own.
  readonly #escaped: Index
  readonly #pairs: Index
  /** Not 0 for the hash of a gram that a needle has: no secret, but no help to anybody who is looking for one. */
  readonly #filter: Uint8Array
  readonly #shift: number
  #found: Run[] = []
  #tail = 0
  /** The needle byte that stands at an offset of a run that was judged: no need to judge it again. */
  readonly #seen = new Map<number, number>()

  /** Bytes to be `alloc`ed for a credential of `n` bytes: 390 KiB for 724. */
  static memory(n: number): number {
    return 4 * n + 15 * roomFor(n) + (5 << bitsFor(n)) / 2 + 8 * n + 256
  }

  constructor(credential: Buffer, alloc: Alloc) {
    const room = roomFor(credential.length)
    const bits = bitsFor(credential.length)
    this.#bytes = alloc(room)
    this.#secret = alloc(room)
    this.#kind = alloc(room)
    this.#filter = alloc(1 << bits)
    this.#shift = 32 - bits
    this.#grams = new Index(alloc, room, bits - 3)
    this.#escaped = new Index(alloc, room, bits - 3)
    this.#pairs = new Index(alloc, room, bits - 3)
    let at = 0
    let kind = 0
    const begin = (name: string, its: number): void => {
      this.#names.push({ name, start: ++at })
      kind = its
    }
    needles(anatomy(credential, alloc), begin, (byte, secret) => {
      this.#bytes[at] = kind === TEXT ? (STANDARD[byte] ?? 0) : byte
      this.#secret[at] = secret
      this.#kind[at++] = kind
    })
    for (let n = 1; n < at; n++) {
      this.#index(this.#grams, this.#fold(n, 4, false), n)
      this.#index(this.#escaped, this.#fold(n, 4, true), n)
      const pair = this.#fold(n, 2, true)
      if (pair !== undefined) this.#pairs.add(pair, n)
    }
  }

  nameOf(run: Run): string {
    return this.#names.findLast(({ start }) => start <= run.needle)?.name ?? ''
  }

  /** All windows in `b`, by their offsets plus `base`. Reads only: two runs may overlap, and blanking the first would
   *  hide the second and leave its tail. */
  find(b: Buffer, base: number): Run[] {
    this.#found = []
    this.#seen.clear()
    const filter = this.#filter
    const shift = this.#shift
    const view = new DataView(b.buffer, b.byteOffset, b.length)
    const last = b.length - 4
    for (let i = 0; i <= last; i += STRIDE) {
      if (filter[hash(view.getInt32(i, true) | 0x20202020, shift)] === 0) continue
      const beside =
        (i >= 4 && filter[hash(view.getInt32(i - 4, true) | 0x20202020, shift)] === 1) ||
        (i + 4 <= last && filter[hash(view.getInt32(i + 4, true) | 0x20202020, shift)] === 1)
      if (beside) this.#tryGram(b, i, foldAt(b, i), this.#grams)
    }
    this.#findEscaped(b)
    for (const run of this.#found) {
      run.from += base
      run.to += base
    }
    return this.#found.sort((x, y) => x.from - y.from)
  }

  /** How many bytes at the end of `b` are a run in progress, from its first secret byte that a window may still hold. */
  findTail(b: Buffer): number {
    this.#tail = 0
    this.#seen.clear()
    // The end of a line or of an event must never wait. What comes next is judged with it all the same.
    if (b.length < SECRET || b[b.length - 1] === 0x0a) return 0
    const end = b.subarray(-WINDOW)
    if (INTRODUCERS.some((c) => end.includes(c))) for (let i = 0; i < b.length; i++) this.#around(b, i, true)
    else this.#tryGram(b, b.length - 4, foldAt(b, b.length - 4), this.#grams)
    return this.#tail
  }

  /** At the speed of memchr where introducers are rare; where they are many, that would cost a call for each. */
  #findEscaped(b: Buffer): void {
    let calls = 16 + (b.length >> 8)
    for (const introducer of INTRODUCERS) {
      for (let i = b.indexOf(introducer); i >= 0; i = b.indexOf(introducer, i + 1)) {
        if (calls-- > 0) this.#around(b, i, false)
        else {
          for (let j = 0; j < b.length; j++) if (INTRODUCES[b[j] ?? 1] === 1) this.#around(b, j, false)
          return
        }
      }
    }
  }

  /** Tries the grams of 4 bytes that lie across `p`, where a window's first escape or gap begins. */
  #around(b: Buffer, p: number, always: boolean): void {
    let gram = p >= 4 ? foldAt(b, p - 4) : foldBefore(b, p)
    if (p >= 4) this.#tryGram(b, p - 4, gram, this.#escaped)
    let at = b[p] === 0x3b ? p + 1 : p
    if (!always && at === p && !isGap(b[p] ?? 1) && escapeAt(b, p) === 0) return
    let first = -1
    for (let k = 1; k <= 4; k++) {
      for (let gap = 0, i = 0; i < WINDOW && (gap = gapAt(b, at)) > 0; i++) at += gap
      if (at >= b.length) break
      if (first < 0) first = at
      const escape = escapeAt(b, at)
      gram = (gram >>> 8) | (fold(escape === 0 ? (b[at] ?? 0) : escape & 255) << 24)
      at += lengthOf(escape) || 1
      if (p + k >= 4) this.#tryGram(b, k < 4 ? p + k - 4 : first, gram, this.#escaped)
      if (k > 2) continue
      // Of long units a window has few: it is to be found by 2 of its bytes, of which the first may be cut.
      if (k === 2) this.#tryPair(b, first, gram >>> 16, 0)
      else {
        if (p > 0) this.#tryPair(b, p - 1, gram >>> 16, 0)
        const cut = headless(b, p)
        if (cut >= 0) this.#tryPair(b, first, fold(cut) | ((gram >>> 24) << 8), 1)
      }
    }
  }

  #tryGram(b: Buffer, r: number, gram: number, index: Index): void {
    if (this.#filter[hash(gram, this.#shift)] === 0) return
    for (let n = index.first(gram); n !== 0; n = index.next(n)) this.#judge(b, r, n)
  }

  #tryPair(b: Buffer, r: number, pair: number, skip: number): void {
    for (let n = this.#pairs.first(pair); n !== 0; n = this.#pairs.next(n)) this.#judge(b, r, n + skip)
  }

  #index(index: Index, gram: number | undefined, n: number): void {
    if (gram === undefined) return
    index.add(gram, n)
    for (let urls = 0; urls < 16; urls++) this.#filter[hash(inUrls(gram, urls), this.#shift)] = 1
  }

  /** The gram of `size` bytes at `n`; undefined where the needle ends before. */
  #fold(n: number, size: number, skipGaps: boolean): number | undefined {
    let gram = 0
    if (skipGaps && isGap(this.#bytes[n] ?? 0)) return undefined
    for (let i = 0; i < size; n++) {
      if (this.#kind[n] === 0) return undefined
      const c = this.#bytes[n] ?? 0
      if (!skipGaps || !isGap(c)) gram |= fold(c) << (8 * i++)
    }
    return gram
  }

  /** Adds the windows of the runs, one a case, in which the needles' byte `n` begins at `r`. */
  #judge(b: Buffer, r: number, n: number): void {
    if (this.#seen.size > 0 && this.#seen.get(r) === n) return
    const kind = this.#kind[n] ?? 0
    const stream = STREAM[kind] ?? STANDARD
    const bytes = this.#bytes
    for (const cased of CASES[kind] ?? []) {
      let start = r
      let first = n
      for (let step; this.#kind[first - 1] !== 0; first--, start -= step) {
        step = unitBefore(b, start, cased[bytes[first - 1] ?? 0] ?? 0, stream)
        if (step === 0) break
      }
      let end = r
      let next = n
      for (let step; this.#kind[next] !== 0; next++, end += (step >> 8) + (step & 255)) {
        step = unitAt(b, end, cased[bytes[next] ?? 0] ?? 0, stream)
        if (step === 0) break
      }
      if (end - start < SECRET) continue
      this.#windows(b, start, end, first, next, cased, stream)
    }
  }

  #windows(
    b: Buffer,
    start: number,
    end: number,
    first: number,
    next: number,
    cased: Uint8Array,
    stream: Uint8Array,
  ): void {
    // What is cut off at the ends counts, with the gap to it, but is not blanked: it is less than a byte, or one.
    // A raw byte at an end may be the digit of a unit instead: `6` is spelled by `36` without its `%`.
    const want = (n: number): number => cased[this.#bytes[n] ?? 0] ?? 0
    let [headEnd, tail] = [start, end]
    for (let gap = 1; gap > 0 && headEnd > start - WINDOW; headEnd -= gap) gap = gapBefore(b, headEnd)
    for (let gap = 1; gap > 0 && tail < end + WINDOW; tail += gap) gap = gapAt(b, tail)
    let head = headEnd - cutAt(b, headEnd, want(first - 1), stream, true)
    for (let i = 0; i < 4; i++)
      head = Math.min(head, start + i - cutAt(b, start + i, want(first - 1 + i), stream, true))
    let tailEnd = tail + cutAt(b, tail, want(next), stream, false)
    for (let i = 0; i < 2; i++) tailEnd = Math.max(tailEnd, end - i + cutAt(b, end - i, want(next - i), stream, false))
    const late = b.length - WINDOW + 1
    let run: Run | undefined
    let pending = -1
    let [q1, q2, q3] = [-WINDOW, -WINDOW, -WINDOW]
    let at = start
    for (let n = first - 1; n <= next; n++) {
      const step = n < first || n === next ? 0 : unitAt(b, at, want(n), stream)
      const from = n < first ? head : n === next ? tail : at + (step >> 8)
      const to = n < first ? headEnd : n === next ? tailEnd : from + (step & 255)
      if (n >= first) at = to
      if (step > 0 && end - start > WINDOW) this.#seen.set(from, n)
      if (this.#secret[n] === 0) continue
      for (let q = from; q < to; q++) {
        if (q >= late && pending < 0) pending = q
        if (q - q3 < WINDOW && tailEnd - head >= WINDOW) {
          const opens = Math.max(start, q - WINDOW + 1)
          if (run === undefined || opens > run.to) this.#found.push((run = { from: opens, to: 0, needle: first }))
          run.to = Math.min(end, q3 + WINDOW)
        }
        q3 = q2
        q2 = q1
        q1 = q
      }
    }
    if (pending >= 0 && this.#kind[next] !== 0 && tailEnd === b.length)
      this.#tail = Math.max(this.#tail, b.length - pending)
  }
}

/** Where in the needles a gram stands. */
class Index {
  readonly #heads: Int32Array
  readonly #next: Int32Array
  readonly #shift: number

  constructor(alloc: Alloc, room: number, bits: number) {
    const [heads, next] = [alloc(4 << bits), alloc(4 * room)]
    this.#heads = new Int32Array(heads.buffer, heads.byteOffset, 1 << bits)
    this.#next = new Int32Array(next.buffer, next.byteOffset, room)
    this.#shift = 32 - bits
  }

  add(gram: number, n: number): void {
    this.#next[n] = this.first(gram)
    this.#heads[hash(gram, this.#shift)] = n
  }

  first(gram: number): number {
    return this.#heads[hash(gram, this.#shift)] ?? 0
  }

  next(n: number): number {
    return this.#next[n] ?? 0
  }
}

const KEY = (Math.random() * 2 ** 32) | 1
const roomFor = (n: number): number => 20 * n + 64
const bitsFor = (n: number): number => Math.max(14, Math.min(20, 35 - Math.clz32(roomFor(n))))
const hash = (gram: number, shift: number): number => Math.imul(gram, KEY) >>> shift
const fold = (c: number): number => (STANDARD[c] ?? 0) | 0x20
const foldAt = (b: Buffer, i: number): number =>
  fold(b[i] ?? 0) | (fold(b[i + 1] ?? 0) << 8) | (fold(b[i + 2] ?? 0) << 16) | (fold(b[i + 3] ?? 0) << 24)

function foldBefore(b: Buffer, p: number): number {
  let gram = 0
  for (let i = 0; i < p; i++) gram = (gram >>> 8) | (fold(b[i] ?? 0) << 24)
  return gram
}

/** A folded gram as the stream has it where the bytes that `urls` has bits for are written in base64url. */
function inUrls(gram: number, urls: number): number {
  let out = gram
  for (let i = 0; i < 32; i += 8) {
    const c = (gram >>> i) & 255
    if ((urls >> (i >> 3)) & 1) out ^= (c === 0x2b ? 0x06 : c === 0x2f ? 0x50 : 0) << i
  }
  return out
}

/** Blanks in place; how many runs. For header values, and for bodies that are whole. */
export function stripWhole(n: Needles, b: Buffer): number {
  if (n.find(b, 0).length === 0) return 0
  const strip = new Strip(n)
  strip.push(b)
  return strip.hits
}

/** The filter for one answer body. */
export class Strip {
  hits = 0
  readonly #needles: Needles
  readonly #observe: Observe | undefined
  /** The last bytes that came, as they came; `#held` of them are not released. */
  #context: Buffer = Buffer.of()
  #held = 0
  #offset = 0
  #open: Run = { from: 0, to: -1, needle: 0 }

  constructor(n: Needles, observe?: Observe) {
    this.#needles = n
    this.#observe = observe
  }

  /** Blanks in place, and gives what may go to the guest now: all but a tail that is becoming a window. */
  push(chunk: Buffer): Buffer {
    const context = this.#context
    const isLong = chunk.length > 2 * CONTEXT
    // A window lies in the seam or in the chunk, so nothing else needs to be remembered of what went before.
    const seam = context.length === 0 ? chunk : Buffer.concat([context, chunk.subarray(0, 2 * CONTEXT)])
    const runs = this.#needles.find(seam, -context.length)
    if (isLong && context.length > 0) runs.push(...this.#needles.find(chunk, 0))
    const end = isLong ? chunk.subarray(-2 * CONTEXT) : seam
    this.#context = Buffer.from(end.subarray(-CONTEXT))
    let hold = Math.min(this.#needles.findTail(end), chunk.length + this.#held)

    const out = this.#held === 0 ? chunk : Buffer.concat([context.subarray(-this.#held), chunk])
    for (const run of runs) {
      const from = Math.max(run.from, -this.#held)
      if (from >= run.to) continue
      out.fill('*', from + this.#held, run.to + this.#held)
      hold = Math.min(hold, chunk.length - run.to)
      this.#count({ from: this.#offset + from, to: this.#offset + run.to, needle: run.needle })
    }
    context.fill(0)
    this.#offset += chunk.length
    this.#held = hold
    return out.subarray(0, out.length - hold)
  }

  /** What was held back did not become a window. */
  end(): Buffer {
    const held = Buffer.from(this.#context.subarray(this.#context.length - this.#held))
    this.#context.fill(0)
    this.#held = 0
    this.#report()
    return held
  }

  #count(run: Run): void {
    if (run.from > this.#open.to) {
      this.#report()
      this.#open = run
      this.hits++
    }
    this.#open.to = Math.max(this.#open.to, run.to)
  }

  #report(): void {
    const { from, to } = this.#open
    if (to > from) this.#observe?.(from, to - from, this.#needles.nameOf(this.#open))
    this.#open.to = -1
  }
}
