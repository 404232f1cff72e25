// A second, naive speller, written from the list in the issue and sharing nothing with src/proxy: whole strings with
// Buffer's own encoders. What is secret in a spelling is found by experiment: a character that stays the same when
// every public byte is inverted draws on secret bytes only.

import type { Credential, Dice, Known } from './credentials.ts'

export type Spell = (bytes: Buffer) => string // latin1

function experiment(known: Known, spell: Spell): Known {
  const inverted = Buffer.from(known.bytes.map((b, i) => (known.secret[i] ? b : b ^ 0xff)))
  const [text, other] = [Buffer.from(spell(known.bytes), 'latin1'), Buffer.from(spell(inverted), 'latin1')]
  return { bytes: text, secret: [...text].map((c, i) => c === other[i] && c !== 0x3d) }
}

/** The header value with what is secret in it. */
export function headerValue(c: Credential): Known {
  const secret = Array.from(c.value, () => false)
  let n = 0
  for (const { at, prefix, text, opaque } of c.tokens) {
    const known = opaque ? undefined : c.decoded[n++]
    const mask = known
      ? experiment(known, (b) => b.toString(prefix === '' ? 'base64url' : 'base64')).secret
      : [...text].map(() => true)
    for (let i = 0; i < text.length; i++) secret[at + prefix.length + i] = mask[i] ?? false
  }
  return { bytes: c.value, secret }
}

const slice = (k: Known, from: number, to: number): Known => ({
  bytes: Buffer.from(k.bytes.subarray(from, to)),
  secret: k.secret.slice(from, to),
})

const shifted = (encoding: 'base64' | 'base64url', shift: number): Spell => {
  // Whatever stands before and after: the characters that depend on it differ between the two experiments anyhow
  // only by luck, so they are cut off.
  return (b) => {
    const text = Buffer.concat([Buffer.from('zzz'.slice(0, shift)), b]).toString(encoding)
    return shift === 0 ? text : text.slice(shift + 1)
  }
}

export const MIXED: Spell = (b) => [...b.toString('hex')].map((c, i) => (i % 3 ? c.toUpperCase() : c)).join('')

/** What an encoding fixes. */
export function bases(c: Credential): [string, Known][] {
  const value = headerValue(c)
  const items: [string, Known][] = [['value', value]]
  c.tokens.forEach(({ at, prefix, text }, i) => {
    if (c.tokens.length > 1) items.push([`token ${i}`, slice(value, at, at + prefix.length + text.length)])
    if (prefix !== '')
      items.push([`token ${i} bare`, slice(value, at + prefix.length, at + prefix.length + text.length)])
  })
  c.decoded.forEach((k, i) => items.push([`decoded ${i}`, k]))
  const line = Buffer.from('Authorization: ')
  items.push([
    'line',
    { bytes: Buffer.concat([line, c.value]), secret: [...[...line].map(() => false), ...value.secret] },
  ])
  const out: [string, Known][] = []
  for (const [name, known] of items) {
    out.push([name, known])
    for (const shift of [0, 1, 2]) {
      out.push([`base64 of ${name} +${shift}`, experiment(known, shifted('base64', shift))])
      out.push([`base64url of ${name} +${shift}`, experiment(known, shifted('base64url', shift))])
    }
    out.push([`hex of ${name}`, experiment(known, (b) => b.toString('hex'))])
    out.push([`HEX of ${name}`, experiment(known, (b) => b.toString('hex').toUpperCase())])
    out.push([`hEx of ${name}`, experiment(known, MIXED)])
    out.push([`reversed ${name}`, { bytes: Buffer.from(known.bytes).reverse(), secret: [...known.secret].reverse() }])
  }
  return out
}

const each =
  (unit: (c: number, i: number, dice: Dice) => string) =>
  (k: Known, dice: Dice): Known => {
    const text: string[] = []
    const secret: boolean[] = []
    k.bytes.forEach((c, i) => {
      const u = unit(c, i, dice)
      text.push(u)
      for (let j = 0; j < u.length; j++) secret.push(k.secret[i] ?? false)
    })
    return { bytes: Buffer.from(text.join(''), 'latin1'), secret }
  }

const h2 = (c: number): string => c.toString(16).padStart(2, '0')
const raw = (c: number): string => String.fromCharCode(c)
const plain = (c: number): boolean => /[A-Za-z0-9_.~-]/.test(raw(c))
const cased = (f: (s: string) => string) => each((c) => (c < 0x80 ? f(raw(c)) : raw(c)))
const NAMED: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&apos;',
  '+': '&plus;',
  '/': '&sol;',
  '=': '&equals;',
  ',': '&comma;',
  _: '&lowbar;',
}
const CONTROL: Record<string, string> = {
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\b': '\\b',
  '\f': '\\f',
  '\\': '\\\\',
  '"': '\\"',
}

/** Line breaks are nobody's secret. */
const broken =
  (width: number, by: string) =>
  (k: Known): Known => {
    const text: string[] = []
    const secret: boolean[] = []
    k.bytes.forEach((c, i) => {
      if (i > 0 && i % width === 0) {
        text.push(by)
        for (let j = 0; j < by.length; j++) secret.push(false)
      }
      text.push(raw(c))
      secret.push(k.secret[i] ?? false)
    })
    return { bytes: Buffer.from(text.join(''), 'latin1'), secret }
  }

const utf16 =
  (big: boolean) =>
  (k: Known): Known => ({
    bytes:
      Buffer.from(k.bytes.toString('latin1'), 'utf16le').subarray() &&
      (big
        ? Buffer.from(k.bytes.toString('latin1'), 'utf16le').swap16()
        : Buffer.from(k.bytes.toString('latin1'), 'utf16le')),
    secret: k.secret.flatMap((s) => (big ? [false, s] : [s, false])),
  })

/** What an encoding leaves free: applied to each of the bases. */
export const FORMS: [string, (k: Known, dice: Dice) => Known][] = [
  ['as is', (k) => k],
  ['broken at 64', broken(64, '\n')],
  ['broken at 76', broken(76, '\r\n')],
  ['broken at 19, escaped', broken(19, '\\n')],
  ['broken at 23, %0D%0A', broken(23, '%0D%0A')],
  ['broken at 40, &#10;', broken(40, '&#10;')],
  ['quoted-printable soft breaks', broken(31, '=\r\n')],
  ['quoted-printable', each((c) => (c === 0x3d || c < 0x20 || c > 0x7e ? `=${h2(c).toUpperCase()}` : raw(c)))],
  ['quoted-printable, every byte', each((c) => `=${h2(c).toUpperCase()}`)],
  ['percent, every byte', each((c) => `%${h2(c)}`)],
  ['percent, every byte, upper', each((c) => `%${h2(c).toUpperCase()}`)],
  ['percent, reserved', each((c) => (plain(c) ? raw(c) : `%${h2(c).toUpperCase()}`))],
  ['percent, reserved, lower', each((c) => (plain(c) ? raw(c) : `%${h2(c)}`))],
  ['percent twice, every byte', each((c) => `%25${h2(c)}`)],
  ['percent twice, reserved', each((c) => (plain(c) ? raw(c) : `%25${h2(c).toUpperCase()}`))],
  ['json \\u', each((c) => `\\u00${h2(c)}`)],
  ['json \\u, mixed', each((c, _, dice) => (dice.below(3) === 0 ? `\\u00${h2(c)}` : c === 0x2f ? '\\/' : raw(c)))],
  ['json \\/', each((c) => (c === 0x2f ? '\\/' : raw(c)))],
  ['json in json \\u', each((c) => `\\\\u00${h2(c)}`)],
  ['html decimal', each((c) => `&#${c};`)],
  ['html hex', each((c) => `&#x${c.toString(16)};`)],
  ['html hex, padded', each((c) => `&#x${h2(c).toUpperCase()};`)],
  ['html named', each((c) => NAMED[raw(c)] ?? raw(c))],
  ['\\x', each((c) => `\\x${h2(c)}`)],
  ['octal', each((c) => `\\${c.toString(8).padStart(3, '0')}`)],
  ['control forms', each((c) => CONTROL[raw(c)] ?? raw(c))],
  [
    'everything mixed',
    each((c, _, dice) => dice.pick([raw(c), raw(c), raw(c), `%${h2(c)}`, `\\u00${h2(c)}`, `&#${c};`, `\\x${h2(c)}`])),
  ],
  ['upper', cased((s) => s.toUpperCase())],
  ['lower', cased((s) => s.toLowerCase())],
  ['swapped', cased((s) => (s === s.toUpperCase() ? s.toLowerCase() : s.toUpperCase()))],
  ['utf-16le', utf16(false)],
  ['utf-16be', utf16(true)],
]

/** The windows of a spelling that must not come through: 16 bytes, 4 or more of them secret. */
export function* windows({ bytes, secret }: Known): Generator<[number, Buffer]> {
  let count = 0
  for (let i = 0; i < bytes.length; i++) {
    if (secret[i]) count++
    if (i >= 16 && secret[i - 16]) count--
    if (i >= 15 && count >= 4) yield [i - 15, bytes.subarray(i - 15, i + 1)]
  }
}
