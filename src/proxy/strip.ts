// Strip: blanks every run of the credential in a stream of bytes that somebody else wrote.
//
// The rule that decides every case: a *run* is a stretch of raw bytes that spells consecutive bytes of one needle, where
// the unit at either end may be cut. A *window* is 16 raw bytes of a run of which 4 or more spell secret bytes. The
// whole units of every window are blanked, and nothing else is.

import { anatomy } from './anatomy.ts'
import { fold, foldAt, Grams } from './grams.ts'
import type { Index } from './grams.ts'
import { Scan } from './scan.ts'
import type { SecretMemory } from './secret.ts'
import { AGREE, CASES, INTRODUCES, STANDARD, STREAM, TEXT, WINDOW } from './spellings.ts'
import {
  cutAt,
  escapeAt,
  escapeBefore,
  gapAt,
  gapBefore,
  gapOf,
  headless,
  isGap,
  lengthOf,
  LONGEST_ESCAPE,
  mayBeCut,
  needles,
  pathAt,
  unitAt,
  unitBefore,
} from './spellings.ts'

const SECRET = 4
const SEMICOLON = 0x3b
/** Units at the start of a run that may be the end of one longer that begins before it: 5, %33 and %36 of `25%33%36`. */
const UNITS_OF_ONE = 3
/** Bytes kept of what went before a chunk: a window, and the unit that its first byte may be cut from. */
const CONTEXT = 32

interface Run {
  from: number
  to: number
  /** `to`, or the end of a unit behind it that is cut off and belongs to the last window. */
  cut: number
  needle: number
}
const NOTHING: Run = { from: 0, to: 0, cut: 0, needle: 0 }
export type Observe = (offset: number, length: number, needle: string) => void

/** All spellings of one credential, indexed. Every byte made from it lies in `alloc`ed memory. */
export class Needles {
  readonly #names: { name: string; start: number }[] = []
  readonly #bytes: Uint8Array
  readonly #secret: Uint8Array
  /** 0 between two needles. */
  readonly #kind: Uint8Array
  readonly #grams: Grams
  readonly #scan: Scan
  /** What strip looks at where two chunks meet, and at the end of one: as it came, until the next. */
  readonly seam: Buffer
  readonly end: Buffer
  #found: Run[] = []
  #tail = 0
  /** A stretch of windows that were found, each beside the next: deep inside of it there is nothing left to find. */
  readonly #covered = { from: 0, to: 0 }
  /** The last run, public or not, that is too long for chance. */
  #long: Run = NOTHING
  /** Where the units of the run that is being judged are, by needle byte: forwards and backwards read differently where
   *  a soft line break stands beside a `=`, and either may be right. */
  readonly #unitFrom: Int32Array
  readonly #unitTo: Int32Array
  /** Where a needle byte stood in the last run that was judged, counted back from the end of all that was looked at so
   *  far; and in which cases, as bits. */
  readonly #judgedAt: Float64Array
  readonly #judgedIn: Uint8Array
  #epoch = 0
  /** What `#escapeBefore` has found last, and where. */
  readonly #ended = { at: -1, escape: 0 }

  /** Bytes to be `alloc`ed for a credential of `n` bytes: 645 KB for 724. */
  static memory(n: number): number {
    return 12 * n + 3 * roomFor(n) + Grams.memory(roomFor(n)) + Scan.memory + 5 * CONTEXT + 448
  }

  constructor(credential: Buffer, memory: SecretMemory) {
    const { alloc } = memory
    const room = roomFor(credential.length)
    this.#bytes = alloc(room)
    this.#secret = alloc(room)
    this.#kind = alloc(room)
    this.#grams = new Grams(alloc, room)
    this.#scan = new Scan(memory, this.#grams.filter)
    this.seam = alloc(3 * CONTEXT)
    this.end = alloc(2 * CONTEXT)
    this.#unitFrom = new Int32Array(room)
    this.#unitTo = new Int32Array(room)
    this.#judgedAt = new Float64Array(room)
    this.#judgedIn = new Uint8Array(room)
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
    this.#grams.index(this.#bytes, this.#secret, this.#kind, at)
  }

  nameOf(run: Run): string {
    return this.#names.findLast(({ start }) => start <= run.needle)?.name ?? ''
  }

  /** All windows in `b`, by their offsets plus `base`. Reads only: two runs may overlap, and blanking the first would
   *  hide the second and leave its tail. */
  find(b: Buffer, base: number): Run[] {
    this.#forget(b)
    const scan = this.#scan
    for (let at = 0; at < b.length; at = scan.next) {
      for (let k = 0, found = scan.look(b, at); k < found; k++) {
        const what = scan.found[k] ?? 0
        const i = what >> 1
        if (i >= b.length) continue // such as the zeros of a buffer that is read into: they are many
        if ((what & 1) === 1) this.#around(b, i)
        else this.#tryAll(this.#grams.raw, b, i, foldAt(b, i), 0, 4)
      }
    }
    for (const run of this.#found) {
      run.from += base
      run.to += base
      run.cut += base
    }
    return this.#found.length > 1 ? this.#found.sort((x, y) => x.from - y.from) : this.#found
  }

  /** How many bytes at the end of `b` are a run in progress, from its first secret byte that a window may still hold. */
  findTail(b: Buffer): number {
    this.#tail = 0
    this.#forget(b)
    // The end of a line or of an event must never wait. What comes next is judged with it all the same.
    if (b[b.length - 1] === 0x0a) return 0
    for (let cut = 0; cut < 10; cut++)
      if (cut === 0 || INTRODUCES[b[b.length - cut] ?? 0] !== 0) this.#before(b, b.length - cut)
    return this.#tail
  }

  #forget(b: Buffer): void {
    this.#found = []
    this.#covered.from = this.#covered.to = 0
    this.#long = NOTHING
    this.#epoch += b.length + 1
    this.#ended.at = -1
  }

  /** Finds runs that end at `end`, by their last 4 bytes, or 2 where units are long. */
  #before(b: Buffer, end: number): void {
    let gram = 0
    for (let at = end, k = 1; k <= 4; k++) {
      for (let gap = 0, i = 0; i < WINDOW && (gap = gapBefore(b, at)) > 0; i++) at -= gap
      const escape = escapeBefore(b, at)
      at -= lengthOf(escape) || 1
      if (at < 0) return
      gram = (gram << 8) | fold(escape === 0 ? (b[at] ?? 0) : escape & 255)
      if (k === 4) this.#tryGram(b, at, gram)
      if (k === 2 && end - at > SECRET) this.#tryPair(b, at, gram, 0)
    }
  }

  /** Finds the windows whose first escape or gap begins at `p`. Of such a one at most 5 bytes before `p` are cut. Where
   *  all units are raw bytes there are 8 of them, and so 4 in a row, gaps aside, before `p` or from there on. */
  #around(b: Buffer, p: number): void {
    const introducer = b[p] ?? 1
    const isPlain = introducer === SEMICOLON || isGap(introducer)
    if (p >= 4) this.#tryGram(b, p - 4, foldAt(b, p - 4))
    // `\0` is a gap, too, where it is the beginning of `\061`.
    if (introducer === 0x5c && b[p + 1] === 0x30) this.#tryGram(b, p + 2, foldAt(b, p + 2))
    // Raw bytes before a long unit that is cut, or a gap and such a one.
    if (!isPlain && p >= 2 && pathAt(b, p) >= 4 && escapeBefore(b, p) === 0) this.#tryBefore(b, p)
    if (!isPlain && escapeAt(b, p) === 0) return
    let at = isPlain ? p + 1 : p
    let gram = 0
    let first = -1
    let second = -1
    let few = false
    for (let k = 0; k < 32; k += 8) {
      let c = b[at] ?? 0
      let length = 1
      if (INTRODUCES[c] !== 0) {
        for (let gap = 0, i = 0; i < WINDOW && (gap = gapAt(b, at)) > 0; i++) at += gap
        const escape = escapeAt(b, at)
        c = escape === 0 ? (b[at] ?? 0) : escape & 255
        length = lengthOf(escape) || 1
        if (length > 1 || INTRODUCES[c] !== 0 || introducer === SEMICOLON) few = true // long, or what is left of such
      }
      if (at >= b.length) break
      if (first < 0) first = at
      else if (second < 0) second = at
      gram |= fold(c) << k
      at += length
      if (k === 24) this.#tryGram(b, first, gram)
    }
    // Where 5 bytes of gaps stand among raw ones and what is left of a unit, 4 may be in a row only across these.
    if (!few && (at - p > 8 || at >= b.length))
      for (let k = 1, before = 0; k < 4 && k <= p; k++)
        this.#tryGram(b, p - k, (before = (before << 8) | fold(b[p - k] ?? 0)) | (gram << (8 * k)))
    // Of long units a window has few: it is to be found by 2 of its bytes, the first of them perhaps cut. Two bytes are
    // soon found by chance: within a long run, such as public text, they are that run's.
    if (first < 0 || !few || (p > this.#long.from && at <= this.#long.to)) return
    if (p >= 2 && first > p && first - p + pathAt(b, first) >= WINDOW / 2) this.#tryBefore(b, p)
    const one = gram & 255
    const cut = headless(b, p)
    if (second >= 0) this.#tryPair(b, first, gram & 0xffff, 0)
    if (p > 0) this.#tryPair(b, p - 1, fold(b[p - 1] ?? 0) | (one << 8), 0)
    if (cut >= 0) this.#tryPair(b, first, fold(cut) | (one << 8), 1)
    // What stands here may be the end of `%25%36%31`, with raw bytes behind it.
    if (introducer === 0x25 && second >= 0 && escapeAt(b, second) === 0)
      this.#tryPair(b, second, (gram >> 8) & 0xffff, 0)
  }

  #tryGram(b: Buffer, r: number, gram: number): void {
    if (this.#grams.mayBe(gram)) this.#tryAll(this.#grams.escaped, b, r, gram, 0, 4)
  }

  #tryPair(b: Buffer, r: number, pair: number, skip: number): void {
    this.#tryAll(this.#grams.pairs, b, r, pair, skip, 2 - skip)
  }

  /** By the two raw bytes before `p`. */
  #tryBefore(b: Buffer, p: number): void {
    this.#tryPair(b, p - 2, fold(b[p - 2] ?? 0) | (fold(b[p - 1] ?? 0) << 8), 0)
  }

  #tryAll(index: Index, b: Buffer, r: number, gram: number, skip: number, size: number): void {
    for (let n = index.first(gram); n !== 0; n = index.next(n)) {
      if (index.gramAt(n) === gram) this.#judge(b, r, n + skip, size)
    }
  }

  /** Adds the windows of the runs, one a case, in which `size` bytes of the needles, from `n` on, stand at `r`. */
  #judge(b: Buffer, r: number, n: number, size: number): void {
    const kind = this.#kind[n] ?? 0
    const stream = STREAM[kind] ?? STANDARD
    let judged = this.#judgedAt[n] === this.#epoch - r ? (this.#judgedIn[n] ?? 0) : 0
    const cases = CASES[kind] ?? []
    for (let i = 0; i < cases.length; i++) {
      if (((judged >> i) & 1) === 1) continue
      const cased = cases[i] ?? STANDARD
      let end = r
      let next = n
      for (let step; this.#kind[next] !== 0; next++) {
        step = unitAt(b, end, cased[this.#bytes[next] ?? 0] ?? 0, stream)
        if (step === 0) break
        this.#unitFrom[next] = end += step >> 8
        end += step & 255
        this.#unitTo[next] = end
      }
      if (next < n + size) continue
      let start = r
      let first = n
      for (let step; this.#kind[first - 1] !== 0; first--) {
        step = unitBefore(b, start, cased[this.#bytes[first - 1] ?? 0] ?? 0, stream, this.#escapeBefore(b, start))
        if (step === 0) break
        this.#unitTo[first - 1] = start -= step >> 8
        start -= step & 255
        this.#unitFrom[first - 1] = start
      }
      if (start >= this.#long.from && end < this.#long.to) continue
      judged |= this.#remember(b, first, next, n, i)
      if (this.#isBlanked(b, start, end) || this.#isShort(b, start, end, first, next)) continue
      const isApart = start >= this.#long.to || end <= this.#long.from
      if (end - start >= CONTEXT && (isApart || end - start > this.#long.to - this.#long.from))
        this.#long = { from: start, to: end, cut: end, needle: first }
      const secret = this.#secret.indexOf(1, first - 1)
      if (secret >= 0 && secret <= next) this.#windows(b, first, next, cased, kind)
    }
  }

  /** Gives the cases, as bits, that write the run of needle bytes from `first` to `next` and what is cut beside it as case
   *  `i` does; and remembers that it is judged in these. */
  #remember(b: Buffer, first: number, next: number, seed: number, i: number): number {
    let cases = 15 // all four, as bits
    for (let n = first - 1; n <= next; n++) cases &= AGREE[i]?.[this.#bytes[n] ?? 0] ?? 0
    // Found by a byte within an escape, such as the `0` of `%0a`, a run is not all that its other bytes would find.
    const from = this.#unitFrom[seed] ?? 0
    for (let k = 1; k < LONGEST_ESCAPE; k++)
      if (INTRODUCES[b[from - k] ?? 1] !== 0 && lengthOf(escapeAt(b, from - k)) > k) return cases
    for (let n = first; n < next; n++) {
      const at = this.#epoch - (this.#unitFrom[n] ?? 0)
      this.#judgedIn[n] = cases | (this.#judgedAt[n] === at ? (this.#judgedIn[n] ?? 0) : 0)
      this.#judgedAt[n] = at
    }
    return cases
  }

  /** Looks once where many needles are tried at one place. */
  #escapeBefore(b: Buffer, i: number): number {
    const ended = this.#ended
    if (i !== ended.at) [ended.at, ended.escape] = [i, escapeBefore(b, i)]
    return ended.escape
  }

  /** Whether a run is too short for a window, whatever may be cut beside it: most are found by chance and soon over. */
  #isShort(b: Buffer, start: number, end: number, first: number, next: number): boolean {
    if (end - start >= WINDOW || gapOf(this.#escapeBefore(b, start), b[start - 1]) > 0) return false
    const last = this.#unitFrom[next - 1] ?? 0
    if (gapAt(b, end) > 0) return false
    const to = Math.max(end + pathAt(b, end), last + pathAt(b, last))
    let from = start - mayBeCut(b, start)
    for (let n = first; n < first + UNITS_OF_ONE && n < next; n++) {
      const tail = this.#unitTo[n] ?? 0
      from = Math.min(from, tail - mayBeCut(b, tail))
    }
    return to - from < WINDOW && to < b.length
  }

  /** Whether nothing is left to find between the two. Never near the ends of `b`: there a run also says what must wait, and
   *  what was cut off. */
  #isBlanked(b: Buffer, start: number, end: number): boolean {
    const { from, to } = this.#covered
    return start >= from && end <= to && start >= CONTEXT && end + CONTEXT < b.length
  }

  /** Adds the windows of a run. Where a gap within is longer than a byte, one may also end in the middle of it, with what
   *  reads as the beginning of a unit, such as `\u00` of `\u000a`; or begin there. */
  #windows(b: Buffer, first: number, next: number, cased: Uint8Array, kind: number): void {
    this.#windowsOf(b, first, next, cased, kind)
    const isEnd = (n: number): boolean =>
      n === first || n === next || (this.#unitFrom[n] ?? 0) > (this.#unitTo[n - 1] ?? 0) + 1
    for (let n = first; n < next; n++) {
      const from = this.#unitFrom[n] ?? 0
      if (!isEnd(n) || this.#isBlanked(b, from - WINDOW, from + 2 * WINDOW)) continue
      for (let m = n + 1; m <= next && (this.#unitTo[m - 1] ?? 0) < from + 2 * WINDOW; m++)
        if (isEnd(m) && (n > first || m < next)) this.#windowsOf(b, n, m, cased, kind)
    }
  }

  /** Adds the windows of a part of a run, with each of what may be left of one more unit at either end. */
  #windowsOf(b: Buffer, first: number, next: number, cased: Uint8Array, kind: number): void {
    const [start, end] = [this.#unitFrom[first] ?? 0, this.#unitTo[next - 1] ?? 0]
    const want = (n: number): number => cased[this.#bytes[n] ?? 0] ?? 0
    const tails = cuts(b, end, next, want(next), kind, false)
    // The unit at an end may be part of a longer one instead: `6` is spelled by `36` without its `%`, by `%36`, and by
    // `25%33%36`.
    const from = this.#unitFrom[next - 1] ?? 0
    for (const tail of cuts(b, from, next - 1, want(next - 1), kind, false)) if (tail.to > end) tails.push(tail)
    const heads = cuts(b, start, first - 1, want(first - 1), kind, true)
    for (let n = first; n < first + UNITS_OF_ONE && n < next; n++) {
      const to = this.#unitTo[n] ?? 0
      const from = to - cutAt(b, to, want(n), kind, true)
      if (from < start) heads.push({ from, to, n })
    }
    for (const head of heads) for (const tail of tails) this.#read(b, start, end, head, tail)
  }

  /** Adds the windows of one reading of a run: what `head` and `tail` are, and the whole units between. These are blanked;
   *  what is cut off is not: it is less than a byte, or one. */
  #read(b: Buffer, start: number, end: number, head: Cut, tail: Cut): void {
    if (head.n >= tail.n || (tail.to - head.from < WINDOW && tail.to < b.length)) return
    // Gaps spell nothing: were they enough, two numbers with blank lines between them would be a run.
    let spelled = head.to - head.from + tail.to - tail.from
    for (let n = head.n + 1; n < tail.n; n++) spelled += (this.#unitTo[n] ?? 0) - (this.#unitFrom[n] ?? 0)
    const isEnough = tail.to - head.from >= WINDOW && spelled >= WINDOW / 2
    const late = b.length - WINDOW + 1
    let run: Run | undefined
    let pending = -1
    let [q1, q2, q3] = [-WINDOW, -WINDOW, -WINDOW]
    for (let n = head.n; n <= tail.n; n++) {
      if (this.#secret[n] === 0) continue
      const from = n === head.n ? head.from : n === tail.n ? tail.from : (this.#unitFrom[n] ?? 0)
      const to = n === head.n ? head.to : n === tail.n ? tail.to : (this.#unitTo[n] ?? 0)
      for (let q = from; q < to; q++) {
        if (q >= late && pending < 0) pending = q
        if (q - q3 < WINDOW && isEnough) {
          const opens = Math.max(start, q - WINDOW + 1)
          if (run === undefined || opens > run.to)
            this.#found.push((run = { from: opens, to: 0, cut: 0, needle: head.n + 1 }))
          run.to = Math.min(end, q3 + WINDOW)
          run.cut = Math.min(tail.to, q3 + WINDOW)
          this.#cover(run)
        }
        q3 = q2
        q2 = q1
        q1 = q
      }
    }
    if (pending >= 0 && this.#kind[tail.n] !== 0 && tail.to === b.length)
      this.#tail = Math.max(this.#tail, b.length - pending)
  }

  /** Adds a run to the stretch where it begins within; or begins another, with one that is farther on. */
  #cover({ from, to }: Run): void {
    const covered = this.#covered
    if (from > covered.to) covered.from = from
    if (from >= covered.from) covered.to = Math.max(to, covered.to)
  }
}

/** What is left of a unit that is cut at an end of a run, of needle byte `n`; nothing, where `from` is `to`. */
interface Cut {
  from: number
  to: number
  n: number
}

/** All that may be left of a unit for `want` beside `at`, gaps between; and what reaches farthest of nothing but gaps. */
function cuts(b: Buffer, at: number, n: number, want: number, kind: number, backwards: boolean): Cut[] {
  const found: Cut[] = []
  for (let gaps = 0, gap = 1; gap > 0 && gaps < WINDOW; gaps += gap) {
    const length = cutAt(b, at, want, kind, backwards)
    gap = backwards ? gapBefore(b, at) : gapAt(b, at)
    if (length > 0 || gap === 0 || gaps + gap >= WINDOW)
      found.push(backwards ? { from: at - length, to: at, n } : { from: at, to: at + length, n })
    at += backwards ? -gap : gap
  }
  return found
}

/** Copies `size` bytes. Of so few as here a view of either costs more than the copy. A byte that is left out is one of a
 *  window that nobody looks at. */
function copy(source: Buffer, at: number, target: Buffer, to: number, size: number): void {
  for (let i = 0; i < size; i++) target[to + i] = source[at + i] ?? 0
}

/** Bytes of all needles, for a credential of `n`. */
const roomFor = (n: number): number => 20 * n + 256

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
  /** The last bytes that came, as they came, at its end; `#held` of these are not released. */
  readonly #context = Buffer.alloc(CONTEXT)
  #held = 0
  #offset = 0 // of the next chunk
  #open: Run = NOTHING

  constructor(n: Needles, observe?: Observe) {
    this.#needles = n
    this.#observe = observe
  }

  /** Blanks in place, and gives what may go to the guest now: all but a tail that is becoming a window. */
  push(chunk: Buffer): Buffer {
    const needles = this.#needles
    const known = Math.min(CONTEXT, this.#offset) // bytes of context
    const more = Math.min(chunk.length, 2 * CONTEXT)
    const isLong = chunk.length > more
    copy(this.#context, 0, needles.seam, 0, CONTEXT)
    copy(chunk, 0, needles.seam, CONTEXT, more)
    const seam = needles.seam.subarray(CONTEXT - known, CONTEXT + more)
    // A window lies in the seam or in the chunk, so nothing else needs to be remembered of what went before.
    const met = isLong && known === 0 ? [] : needles.find(seam, -known)
    const runs = isLong ? met.concat(needles.find(chunk, 0)) : met
    const end = isLong ? needles.end : seam
    if (isLong) copy(chunk, chunk.length - end.length, end, 0, end.length)
    let hold = Math.min(needles.findTail(end), chunk.length + this.#held)

    const out = this.#held === 0 ? chunk : Buffer.concat([this.#context.subarray(-this.#held), chunk])
    const last = Math.min(CONTEXT, end.length)
    copy(end, end.length - last, this.#context, CONTEXT - last, last)
    for (const run of runs) {
      const from = Math.max(run.from, -this.#held)
      // Where all of the run is gone already, what was cut off is what makes the window whole.
      const to = from < run.to ? run.to : run.cut
      if (from >= to) continue
      out.fill('*', from + this.#held, to + this.#held)
      hold = Math.min(hold, chunk.length - to)
      this.#count({ from: this.#offset + from, to: this.#offset + to, cut: 0, needle: run.needle })
    }
    this.#offset += chunk.length
    this.#held = hold
    return hold === 0 ? out : out.subarray(0, out.length - hold)
  }

  /** What was held back did not become a window. */
  end(): Buffer {
    const held = Buffer.from(this.#context.subarray(CONTEXT - this.#held))
    this.#context.fill(0)
    this.#held = 0
    this.#report()
    return held
  }

  #count(run: Run): void {
    if (this.#open === NOTHING || run.from > this.#open.to) {
      this.#report()
      this.#open = run
      this.hits++
    }
    this.#open.to = Math.max(this.#open.to, run.to)
  }

  #report(): void {
    const { from, to } = this.#open
    if (to > from) this.#observe?.(from, to - from, this.#needles.nameOf(this.#open))
    this.#open = NOTHING
  }
}
