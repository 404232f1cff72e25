// The rule at the top of src/proxy/strip.ts by brute force: every reading of every 16 bytes, none of them preferred. It
// shares nothing with src/proxy.

import type { Credential } from '../../src/canary/credentials.ts'
import { bases } from '../../src/canary/speller.ts'

export interface Needle {
  name: string
  bytes: Buffer
  secret: boolean[]
  kind: 'text' | 'hex' | 'bytes'
}
const h2 = (c: number): string => c.toString(16).padStart(2, '0')
const NAMED: Record<string, string[]> = {}
for (const m of 'excl!quot"num#dollar$percnt%amp&apos\'lpar(rpar)ast*plus+comma,period.sol/colon:semi;lt<equals=gt>quest?commat@lsqb[lbrack[bsol\\rsqb]rbrack]hat^lowbar_underbar_grave`lcub{lbrace{verbar|vert|rcub}rbrace}'.match(
  /[a-z]+./g,
) ?? [])
  (NAMED[m.slice(-1)] ??= []).push(`&${m.slice(0, -1)};`)
const CONTROL: Record<string, string[]> = {
  '\n': ['\\n', '=\n', '=\r\n'],
  '\r': ['\\r'],
  '\t': ['\\t'],
  '\v': ['\\v'],
  '\f': ['\\f'],
  '\b': ['\\b'],
  '\x07': ['\\a'],
  '\x1b': ['\\e'],
  '\0': ['\\0'],
  '/': ['\\/'],
  '"': ['\\"'],
  "'": ["\\'"],
  '\\': ['\\\\'],
}
export function formsOf(c: number): string[] {
  const s = String.fromCharCode(c)
  const out = [
    `%${h2(c)}`,
    `=${h2(c)}`,
    `\\u00${h2(c)}`,
    `\\x${h2(c)}`,
    `\\${c.toString(8).padStart(3, '0')}`,
    `&#${c};`,
    `&#x${c.toString(16)};`,
    `&#x${h2(c)};`,
    `%25${h2(c)}`,
    ...[h2(c), h2(c).toUpperCase()].map((d) => `%25${[...d].map((x) => `%${h2(x.charCodeAt(0))}`).join('')}`),
    `\\\\u00${h2(c)}`,
    `\\\\x${h2(c)}`,
    `\\\\${c.toString(8).padStart(3, '0')}`,
    ...(NAMED[s] ?? []),
    ...(CONTROL[s] ?? []),
  ]
  return [...new Set(out)].filter((f) => f.length <= 10)
}
const low = (s: string): string => s.toLowerCase()
const swap = (c: number): number => (/[A-Za-z]/.test(String.fromCharCode(c)) ? c ^ 32 : c)
const upper = (c: number): number => String.fromCharCode(c).toUpperCase().charCodeAt(0)
const lower = (c: number): number => String.fromCharCode(c).toLowerCase().charCodeAt(0)
const ascii =
  (f: (c: number) => number) =>
  (c: number): number =>
    c < 0x80 ? f(c) : c
const CASES = [(c: number): number => c, ascii(upper), ascii(lower), ascii(swap)]
const URL = (c: number): number[] =>
  c === 0x2b || c === 0x2d ? [0x2b, 0x2d] : c === 0x2f || c === 0x5f ? [0x2f, 0x5f] : [c]

function kindOf(name: string): Needle['kind'] {
  if (name.startsWith('hex')) return 'hex'
  if (name.includes('base64')) return 'text'
  return name.includes('decoded') ? 'bytes' : 'text'
}
export function needlesOf(c: Credential): Needle[] {
  const out: Needle[] = []
  for (const [name, k] of bases(c)) {
    if (/base64url|HEX|hEx|^line|of line|reversed line/.test(name)) continue
    out.push({ name, ...k, kind: kindOf(name) })
  }
  return out
}
/** By their first characters, for most are ruled out by it. */
type Texts = ReadonlyMap<string, readonly string[]>
const byFirst = (texts: string[]): Texts => Map.groupBy(new Set(texts), ([first = '']) => first)
/** What can be left of one of these at the start of a window. */
const tailsOf = (forms: string[]): Texts =>
  byFirst(forms.flatMap((form) => Array.from({ length: form.length - 1 }, (_, i) => form.slice(i + 1))))

interface Unit {
  raw: number[]
  forms: Texts
  tails: Texts
}
const gaps = [0x0a, 0x0d, 0].flatMap((c) => [String.fromCharCode(c), ...formsOf(c)]).map(low)
const GAPS = byFirst(gaps)
const GAP_TAILS = tailsOf(gaps)
const memo = new Map<string, Unit>()
function unit(c: number, kind: Needle['kind'], cs: number): Unit {
  const key = `${c} ${kind} ${cs}`
  let u = memo.get(key)
  if (!u) {
    const chars =
      kind === 'hex'
        ? [lower(c), upper(c)]
        : kind === 'text'
          ? URL((CASES[cs] ?? Number)(c))
          : [(CASES[cs] ?? Number)(c)]
    const forms = chars.flatMap(formsOf).map(low)
    u = { raw: chars, forms: byFirst(forms), tails: tailsOf(forms) }
    memo.set(key, u)
  }
  return u
}

const WINDOW = 16
const SPELLED = 8
const SECRET = 4
/** Of units as long as `%25%36%31` a window can have less than two: docs/threat-model.md says that those pass. */
const WHOLE = 2

/** The first 16 bytes that are a window of one of the needles. */
export function windowIn(b: Buffer, needles: readonly Needle[]): string | undefined {
  const text = b.toString('latin1')
  const folded = text.replace(/[A-Z]/g, (c) => c.toLowerCase())
  for (let w = 0; w + WINDOW <= b.length; w++) {
    if (text.slice(w, w + WINDOW).includes('*')) continue
    for (const needle of needles) {
      for (let way = 0; way < (needle.kind === 'hex' ? 1 : CASES.length); way++)
        if (isWindow(text, folded, w, needle, way))
          return `${needle.name}: ${JSON.stringify(text.slice(w, w + WINDOW))}`
    }
  }
  return undefined
}

const known = new WeakMap<Needle, Unit[][]>()
function unitsOf(needle: Needle, way: number): Unit[] {
  let all = known.get(needle)
  if (all === undefined) known.set(needle, (all = []))
  return (all[way] ??= Array.from(needle.bytes, (c) => unit(c, needle.kind, way)))
}

function isWindow(text: string, folded: string, w: number, needle: Needle, way: number): boolean {
  const { secret } = needle
  const end = w + WINDOW
  const units = unitsOf(needle, way)
  /** Whether the rest can be read from `at` on, where byte n comes next; of what is behind, how much was what. */
  const reads = (at: number, n: number, secrets: number, spelled: number, whole: number): boolean => {
    const enough = (more: number, own: number): boolean =>
      whole >= WHOLE && secrets + own >= SECRET && spelled + more >= SPELLED
    const left = end - at
    if (left === 0) return enough(0, 0)
    const first = folded.charAt(at)
    for (const gap of GAPS.get(first) ?? []) {
      if (gap.length > left ? enough(0, 0) && folded.startsWith(gap.slice(0, left), at) : folded.startsWith(gap, at))
        if (gap.length > left || reads(at + gap.length, n, secrets, spelled, whole)) return true
    }
    const [of, its] = [units[n], secret[n] ? 1 : 0]
    if (of === undefined) return false
    if (of.raw.includes(text.charCodeAt(at)) && reads(at + 1, n + 1, secrets + its, spelled + 1, whole + 1)) return true
    return (of.forms.get(first) ?? []).some((form) =>
      form.length > left
        ? enough(left, its * left) && folded.startsWith(form.slice(0, left), at)
        : folded.startsWith(form, at) &&
          reads(at + form.length, n + 1, secrets + its * form.length, spelled + form.length, whole + 1),
    )
  }
  /** Lengths of what is left of a form, or of all but its first byte, at the start of the window. */
  const lengths = (tails: Texts): number[] =>
    (tails.get(folded.charAt(w)) ?? []).filter((tail) => folded.startsWith(tail, w)).map((tail) => tail.length)
  const after = [0, ...lengths(GAP_TAILS)]
  return units.some(
    ({ tails }, n) =>
      after.some((k) => reads(w + k, n, 0, 0, 0)) ||
      lengths(tails).some((k) => reads(w + k, n + 1, secret[n] ? k : 0, k, 0)),
  )
}
