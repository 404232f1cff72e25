// Every spelling of the credential that strip looks for. What an encoding fixes is listed in `needles`: the value and
// what its tokens decode to, the hex and base64 of these, and all of it backwards. What an encoding leaves free is not
// listed but undone while matching, so that every mixture is found: each byte of a needle may stand raw or as any of
// its `escapes`; line breaks and the NULs of UTF-16 may stand between two (`isGap`); base64 is base64url; hex has any
// case, and the rest one case of `CASES` all along a run.

import { hexDigit, sextetSecret } from './anatomy.ts'
import type { Anatomy, Part } from './anatomy.ts'

/** Length of the runs that must not come through. */
export const WINDOW = 16

type Write = (byte: number, secret: number) => void

/** Calls `begin` and then `write` for each needle. The bytes in all are fewer than 20 for one of the value. */
export function needles(parts: Anatomy, begin: (name: string, kind: number) => void, write: Write): void {
  const spell = (part: Part, name: string, kind: number, shifts: number[]): void => {
    begin(name, kind)
    forwards(part, write)
    begin(`${name}, reversed`, kind)
    backwards(part, write)
    begin(`hex of ${name}`, HEX)
    hex(part, write)
    for (const shift of shifts) {
      begin(`base64 of ${name}, shift ${shift}`, TEXT)
      base64(part, shift, write)
    }
  }
  spell(parts.line, 'line', TEXT, [0, 1, 2])
  // At shift 0 what a token decodes to is the token as it stands in the value, but perhaps for its padding; and the
  // base64 of the value holds that of each token, but for its last character where nothing follows.
  const tail = ({ bytes, secret }: Part, size: number): Part => ({
    bytes: bytes.subarray(-size),
    secret: secret.subarray(-size),
  })
  for (const part of parts.decoded) {
    spell(part, 'decoded token', BYTES, [1, 2])
    begin('base64 of decoded token, shift 0', TEXT)
    base64(tail(part, 15 + (part.bytes.length % 3)), 0, write)
  }
  for (const part of parts.tokens) {
    for (const shift of [0, 1, 2]) {
      begin(`base64 of token, shift ${shift}`, TEXT)
      base64(tail(part, WINDOW), shift, write)
    }
  }
}

function forwards({ bytes, secret }: Part, write: Write): void {
  for (let i = 0; i < bytes.length; i++) write(bytes[i] ?? 0, secret[i] ?? 0)
}

function backwards({ bytes, secret }: Part, write: Write): void {
  for (let i = bytes.length; i-- > 0;) write(bytes[i] ?? 0, secret[i] ?? 0)
}

function hex({ bytes, secret }: Part, write: Write): void {
  for (let i = 0; i < 2 * bytes.length; i++) {
    write(HEX_DIGITS.charCodeAt(((bytes[i >> 1] ?? 0) >> (i & 1 ? 0 : 4)) & 15), secret[i >> 1] ?? 0)
  }
}

/** With `shift` bytes of anything before it (`Authorization: `, say) and nothing behind it, so that the last character
 *  and the padding are known; the characters shared with what stands before are not. */
function base64({ bytes, secret }: Part, shift: number, write: Write): void {
  for (let bit = [0, 4, 2][shift] ?? 0; bit < bytes.length * 8; bit += 6) {
    const pair = ((bytes[bit >> 3] ?? 0) << 8) | (bytes[(bit >> 3) + 1] ?? 0)
    write(BASE64.charCodeAt((pair >> (10 - (bit & 7))) & 63), sextetSecret(secret, bit))
  }
  for (let length = bytes.length + shift; length % 3 !== 0; length++) write(0x3d, 0)
}

const HEX_DIGITS = '0123456789abcdef'
const BASE64 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'

export const TEXT = 1
const HEX = 2
const BYTES = 3
const table = (map: (c: number) => number): Uint8Array => Uint8Array.from({ length: 256 }, (_, c) => map(c))
const isUpper = (c: number): boolean => c >= 0x41 && c <= 0x5a
const isLower = (c: number): boolean => c >= 0x61 && c <= 0x7a
const SAME = table((c) => c)
const LOWER = table((c) => (isUpper(c) ? c | 32 : c))
const CASED = [
  SAME,
  table((c) => (isLower(c) ? c & ~32 : c)),
  LOWER,
  table((c) => (isUpper(c) || isLower(c) ? c ^ 32 : c)),
]
/** base64url as base64. */
export const STANDARD = table((c) => (c === 0x2d ? 0x2b : c === 0x5f ? 0x2f : c))

/** By kind: needle byte n matches stream byte c where `STREAM[c] === CASES[i][n]`, with one `i` all along a run. Were
 *  case free byte by byte, 4 secret characters would be worth 20 bits and legitimate text would be blanked. */
export const STREAM = [SAME, STANDARD, LOWER, SAME] as const
export const CASES = [[], CASED, [SAME], CASED] as const

/** By case and byte: the cases, as bits, that write it as this one does. */
export const AGREE = CASED.map((as) =>
  table((c) => CASED.reduce((all, to, i) => all | (Number(to[c] === as[c]) << i), 0)),
)

/** What may stand between two bytes of a needle. */
export const isGap = (c: number): boolean => c === 0x0a || c === 0x0d || c === 0

/** First bytes of escapes and gaps, and the `;` that may be all that is left of a long one. */
export const INTRODUCERS = [0x25, 0x5c, 0x26, 0x3d, 0x0a, 0x0d, 0, 0x3b]
export const INTRODUCES = table((c) => Number(INTRODUCERS.includes(c)))
export const LONGEST_ESCAPE = 10

/** Percent-encoding, also of all of that once more; quoted-printable; JSON; C; HTML. Letters in either case. */
function escapes(c: number): string[] {
  const hex2 = (n: number): string => n.toString(16).padStart(2, '0')
  const twice = (digits: string): string => `%25${[...digits].map((d) => `%${hex2(d.charCodeAt(0))}`).join('')}`
  const forms = [
    `%${hex2(c)}`,
    `=${hex2(c)}`,
    `\\u00${hex2(c)}`,
    `\\x${hex2(c)}`,
    `\\${c.toString(8).padStart(3, '0')}`,
  ]
  return [...forms, `&#${c};`, `&#x${c.toString(16)};`, `&#x${hex2(c)};`, twice(hex2(c)), twice(hex2(c).toUpperCase())]
}

/** Names, each followed by its byte. */
const CONTROL = 'n\nr\rt\tv\vf\fb\ba\u0007e\u001b0\0//""\'\'\\\\'
const ENTITIES =
  'excl!quot"num#dollar$percnt%amp&apos\'lpar(rpar)ast*plus+comma,period.sol/colon:semi;lt<equals=gt>quest?commat@' +
  'lsqb[lbrack[bsol\\rsqb]rbrack]hat^lowbar_underbar_grave`lcub{lbrace{verbar|vert|rcub}rbrace}'

// A tree of all escapes: NEXT[node * 64 + COLUMN[byte]] is the node after that byte, MEANS[node] the byte spelled.
const COLUMN = new Uint8Array(256)
const NEXT = new Int16Array(4096 * 64)
const MEANS = new Int16Array(4096).fill(-1)
let nodes = 0
let columns = 0

function learn(escape: string, byte = -1): number {
  let node = 0
  for (let i = 0; i < escape.length; i++) {
    const c = escape.charCodeAt(i)
    node = NEXT[node * 64 + (COLUMN[c] || newColumn(c))] ||= ++nodes
  }
  if (byte >= 0) MEANS[node] = byte
  return node
}

function newColumn(c: number): number {
  COLUMN[c] = ++columns
  if (isUpper(c) || isLower(c)) COLUMN[c ^ 32] = columns
  return columns
}

/** By byte. */
const FORMS = Array.from({ length: 256 }, (_, c) => escapes(c))
for (let i = 0; i < CONTROL.length; i += 2) FORMS[CONTROL.charCodeAt(i + 1)]?.push(`\\${CONTROL[i]}`)
for (const named of ENTITIES.match(/[a-z]+./g) ?? [])
  FORMS[named.charCodeAt(named.length - 1)]?.push(`&${named.slice(0, -1)};`)
FORMS[0x0a]?.push('=\n', '=\r\n')
FORMS.forEach((forms, byte) => forms.forEach((form) => learn(form, byte)))
// %25 is % and \\ is \ again, any number of times; leading zeros mean nothing.
for (const [again, as] of [
  ['%25', '%'],
  ['\\\\', '\\'],
  ['&#0', '&#'],
  ['&#x0', '&#x'],
] as const) {
  const [to, from] = [learn(again) * 64, learn(as) * 64]
  for (let i = 0; i < 64; i++) NEXT[to + i] ||= NEXT[from + i] ?? 0
}

/** The longest escape at `i`, as length << 8 | byte; 0 where there is none. */
export function escapeAt(b: Uint8Array, i: number): number {
  let escape = 0
  for (let node = 0, length = 1; length <= LONGEST_ESCAPE; length++) {
    node = NEXT[node * 64 + (COLUMN[b[i + length - 1] ?? 0] ?? 0)] ?? 0
    if (node === 0) break
    const byte = MEANS[node] ?? -1
    if (byte >= 0) escape = (length << 8) | byte
  }
  return escape
}
export const lengthOf = (escape: number): number => escape >> 8

/** Bytes from `i` on that are, or begin, an escape: `cutAt` is never more. */
export function pathAt(b: Uint8Array, i: number): number {
  let length = 0
  for (let node = 0; length < LONGEST_ESCAPE; length++) {
    node = NEXT[node * 64 + (COLUMN[b[i + length] ?? 0] ?? 0)] ?? 0
    if (node === 0) break
  }
  return length
}

/** The byte of an escape that ends before `i` and has lost its head: `66` of `%66`, `02;` of `&#102;`; or -1. */
export function headless(b: Uint8Array, i: number): number {
  const end = b[i - 1] === 0x3b ? i - 1 : i
  let from = end
  while (end - from < (end < i ? 3 : 2) && hexDigit(b[from - 1]) >= 0) from--
  const base = end < i && b[from - 1] !== 0x78 ? 10 : 16
  let byte = 0
  for (let j = from; j < end; j++) byte = byte * base + hexDigit(b[j])
  return from === end || byte > 255 ? -1 : byte
}

/** Bytes of the gap that this escape, or else this raw byte, is; or 0. */
export const gapOf = (escape: number, c = 1): number =>
  escape > 0 && isGap(escape & 255) ? lengthOf(escape) : isGap(c) ? 1 : 0

/** Bytes of one gap at `i`, or 0. */
export const gapAt = (b: Uint8Array, i: number): number => gapOf(escapeAt(b, i), b[i])

/** The longest escape that ends before `i`, as `escapeAt` has it. */
export function escapeBefore(b: Uint8Array, i: number): number {
  for (let length = LONGEST_ESCAPE; length > 1; length--) {
    if (INTRODUCES[b[i - length] ?? 1] === 0) continue
    const escape = escapeAt(b, i - length)
    if (lengthOf(escape) === length) return escape
  }
  // `\0` is a NUL, whatever `\06` may become.
  return b[i - 1] === 0x30 && b[i - 2] === 0x5c ? 2 << 8 : 0
}

/** Bytes of one gap that ends before `i`, or 0. */
export const gapBefore = (b: Uint8Array, i: number): number => gapOf(escapeBefore(b, i), b[i - 1])

/** How `want` stands at `i`: bytes of gap << 8 | bytes of its unit; 0 where it does not. */
export function unitAt(b: Uint8Array, i: number, want: number, stream: Uint8Array): number {
  for (let at = i, gap = 1; gap > 0 && at < i + WINDOW && at < b.length; at += gap) {
    const c = b[at] ?? 0
    const escape = INTRODUCES[c] !== 0 ? escapeAt(b, at) : 0
    if (lengthOf(escape) > 0 && stream[escape & 255] === want) return ((at - i) << 8) | lengthOf(escape)
    if (stream[c] === want) return ((at - i) << 8) | 1
    // `\0` is a NUL, whatever `\06` may become.
    gap = gapOf(escape, c) || (c === 0x5c && b[at + 1] === 0x30 ? 2 : 0)
  }
  return 0
}

/** The same for what ends before `i`; `before` is `escapeBefore(b, i)`, where that is known. */
export function unitBefore(
  b: Uint8Array,
  i: number,
  want: number,
  stream: Uint8Array,
  before = escapeBefore(b, i),
): number {
  for (let at = i, gap = 1; gap > 0 && at > i - WINDOW; at -= gap) {
    const escape = at === i ? before : escapeBefore(b, at)
    const c = b[at - 1] ?? 1
    gap = gapOf(escape, c)
    // A line break, and the `=` before it, that may be the secret's own are: quoted-printable writes such otherwise.
    if (gap > 1 && isGap(c) && c === want) return ((i - at) << 8) | 1
    if (gap > 1 && isGap(c) && stream[b[at - gap] ?? 0] === want) return ((i - at + gap - 1) << 8) | 1
    if (escape > 0 && stream[escape & 255] === want) return ((i - at) << 8) | lengthOf(escape)
    // Raw, unless it is the `A` of %0A.
    const isRaw = escape === 0 || !isGap(escape & 255)
    if (isRaw && at > 0 && stream[c] === want) return ((i - at) << 8) | 1
  }
  return 0
}

/** Bytes from `i` on that are the head of an escape for `want` or for a gap; backwards: bytes before `i`, the tail. */
export function cutAt(b: Uint8Array, i: number, want: number, kind: number, backwards: boolean): number {
  let cut = 0
  const [from, step] = backwards ? [i - 1, -1] : [i, 1]
  const near = COLUMN[b[from] ?? 1] ?? 0
  for (const form of accepted(want, kind, backwards)[near] ?? []) {
    let length = 1
    while (length < form.length - 1 && COLUMN[b[from + step * length] ?? 1] === form[length]) length++
    if (length > cut) cut = length
  }
  return cut
}

/** At least what `cutAt` finds before `i`, whatever is wanted. What begins an escape stands in such a tail only as its first
 *  bytes, if these are backslashes; as its last, such as `;` or a line break; and as the `%` of `25%36%31`. */
export function mayBeCut(b: Uint8Array, i: number): number {
  let n = 1
  for (; n < LONGEST_ESCAPE - 1; n++) {
    const c = b[i - 1 - n] ?? 0
    if (c === 0x5c) return n + (b[i - 2 - n] === c ? 2 : 1)
    if (n === 6 && b[i - 6] === 0x25 && c !== 0x35) break
    if (INTRODUCES[c] !== 0 && !(n < 2 && isGap(c)) && !(n % 3 === 2 && c === 0x25)) break
  }
  return n
}

const ACCEPTED: Uint8Array[][][] = []

/** The escapes that are accepted for `want`, and those for gaps, as columns; backwards: from their ends. By the first. */
function accepted(want: number, kind: number, backwards: boolean): Uint8Array[][] {
  const key = (want << 3) | (kind << 1) | (backwards ? 1 : 0)
  const known = ACCEPTED[key]
  if (known !== undefined) return known
  const forms: Uint8Array[][] = []
  const once = FORMS.filter((_, c) => STREAM[kind]?.[c] === want || isGap(c)).flat()
  const again = once.flatMap((f) => (f.startsWith('\\') ? `\\${f}` : f.startsWith('%') ? `%25${f.slice(1)}` : []))
  for (const form of new Set([...once, ...again])) {
    const columns = Uint8Array.from(form, (c) => COLUMN[c.charCodeAt(0)] ?? 0)
    if (backwards) columns.reverse()
    ;(forms[columns[0] ?? 0] ??= []).push(columns)
  }
  ACCEPTED[key] = forms
  return forms
}
