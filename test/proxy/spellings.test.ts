// The rule of strip.ts case by case, and every way to write a byte. src/canary/speller.ts shares nothing with src/proxy.

import { test } from 'tap'
import {
  escapeAt,
  gapAt,
  gapBefore,
  headless,
  lengthOf,
  unitAt,
  unitBefore,
  STREAM,
} from '../../src/proxy/spellings.ts'
import { secretMemory } from '../../src/proxy/secret.ts'
import { Needles, Strip, stripWhole } from '../../src/proxy/strip.ts'
import { Dice, FORMATS, credential } from '../../src/canary/credentials.ts'
import type { Credential, Known } from '../../src/canary/credentials.ts'
import { FORMS, bases, headerValue, windows } from '../../src/canary/speller.ts'

/** An escaped line break or NUL: of the two bytes that a window of long escapes holds, it tells nothing. */
const BREAK = /&#(?:x0*)?(?:a|d|0|10|13);|(?:\\u00|%|%25|=|\\x)0[0ad]|\\0(?:12|15|00)/i
const needlesOf = (value: Buffer): Needles => new Needles(value, secretMemory(Needles.memory(value.length), false))
const plain = (c: Credential): Needles => needlesOf(c.value)
const made = new Map(
  FORMATS.map((format) => {
    const c = credential(new Dice(`spellings ${format}`), format)
    return [format, { credential: c, needles: plain(c), bases: bases(c) }]
  }),
)
const v1 = made.get('v1')!
const fm2 = made.get('fm2')!
const spelled = (text: string): [string, number, number] => {
  const escape = escapeAt(Buffer.from(text, 'latin1'), 0)
  return [text, lengthOf(escape), escape & 255]
}

test('every escape of every byte is read, to its end and no further', async (t) => {
  for (let c = 0; c < 256; c++) {
    const hex = c.toString(16).padStart(2, '0')
    const twice = [...hex].map((d) => `%${d.charCodeAt(0).toString(16)}`).join('')
    const forms = [
      `%${hex}`,
      `%${hex.toUpperCase()}`,
      `%25${hex}`,
      `%25${twice}`,
      `=${hex.toUpperCase()}`,
      `\\u00${hex}`,
      `\\u00${hex.toUpperCase()}`,
      `\\\\u00${hex}`,
      `\\x${hex}`,
      `\\\\x${hex}`,
      `\\${c.toString(8).padStart(3, '0')}`,
      `&#${c};`,
      `&#0${c};`,
      `&#x${c.toString(16)};`,
      `&#X${hex};`,
    ]
    for (const form of forms) t.strictSame(spelled(`${form}~~`).slice(1), [form.length, c], form)
  }
  const named: Record<string, string> = {
    '&amp;': '&',
    '&lt;': '<',
    '&gt;': '>',
    '&quot;': '"',
    '&apos;': "'",
    '&plus;': '+',
    '&sol;': '/',
    '&equals;': '=',
    '&comma;': ',',
    '&lowbar;': '_',
    '\\/': '/',
    '\\"': '"',
    '\\\\': '\\',
    '\\n': '\n',
    '\\r': '\r',
    '\\t': '\t',
    '\\b': '\b',
    '\\f': '\f',
    '\\v': '\v',
    '\\0': '\0',
    '=\n': '\n',
    '=\r\n': '\n',
  }
  for (const [form, c] of Object.entries(named))
    t.strictSame(spelled(`${form}~`).slice(1), [form.length, c.charCodeAt(0)], form)
})

test('what is no escape is not read as one', async (t) => {
  for (const text of [
    '',
    'a',
    '%',
    '%4',
    '%4g',
    '\\u0141',
    '\\u00',
    '\\x4',
    '\\q',
    '&#;',
    '&#256;',
    '&#x100;',
    '&#65',
    '&nosuch;',
    '=4',
    '= ',
    '\\400',
  ]) {
    t.equal(escapeAt(Buffer.from(text), 0), 0, text)
  }
})

test('gaps, units and what is left of a unit, in both directions', async (t) => {
  const b = (text: string): Buffer => Buffer.from(text, 'latin1')
  for (const gap of [
    '\n',
    '\r',
    '\0',
    '\\n',
    '\\r',
    '%0A',
    '%0d',
    '&#10;',
    '&#xD;',
    '=\r\n',
    '=\n',
    '\\u000a',
    '\\u0000',
    '%250A',
    '\\\\n',
  ]) {
    t.equal(gapAt(b(`${gap}x`), 0), gap.length, JSON.stringify(gap))
    t.equal(gapBefore(b(`x${gap}`), gap.length + 1), gap.length, JSON.stringify(gap))
    for (const unit of ['x', '%78', '\\u0078', '&#120;']) {
      t.equal(unitAt(b(gap + unit), 0, 0x78, STREAM[3]), (gap.length << 8) | unit.length)
      const text = `..${unit}${gap}`
      t.equal(unitBefore(b(text), text.length, 0x78, STREAM[3]), (gap.length << 8) | unit.length)
    }
  }
  t.equal(unitAt(b('\n'.repeat(40) + 'x'), 0, 0x78, STREAM[3]), 0, 'a gap of a window and more')
  t.equal(unitBefore(b('x' + '\n'.repeat(40)), 41, 0x78, STREAM[3]), 0)
  t.equal(unitAt(b(''), 0, 0x78, STREAM[3]), 0)
  t.equal(unitBefore(b(''), 0, 0x78, STREAM[3]), 0)
  for (const [text, byte] of [
    ['66', 0x66],
    ['u0066', 0x66],
    ['#x66;', 0x66],
    ['#102;', 102],
    ['9;', 9],
    ['zz', -1],
    ['', -1],
    ['#999;', -1],
  ] as const) {
    t.equal(headless(b(text), text.length), byte, text)
  }
})

test('every 16 bytes of the value, and of its base64, hex and reverse, wherever they begin', async (t) => {
  for (const { bases: all, needles } of [v1, fm2]) {
    let tried = 0
    for (const [name, known] of all) {
      if (!/^(value|base64 of value|hEx of value|reversed value|decoded 0)/.test(name)) continue
      for (const [, window] of windows(known)) {
        // At every offset, so that a look at every so-manieth byte has each phase to miss it in.
        const body = Buffer.concat([Buffer.alloc(tried++ % 19, '~'), window, Buffer.alloc(7, '~')])
        stripWhole(needles, body)
        // A byte beside it may happen to be the next one of the needle.
        const out = body.toString('latin1')
        if (!/^~*\*{16,18}~*$/.test(out)) t.fail(`${name}: ${JSON.stringify(out)}`)
      }
    }
    t.ok(tried > 500, `${tried} windows`)
  }
})

test('a gap between characters that base64url writes otherwise, all of them or some', async (t) => {
  // Of such a window neither part is long enough to be found as it stands: it is found by what stands beside its gap.
  const all = 'qZ3kXw8RtY5mNb7LcV2hJd9GfSoP'
  const middle = all.length / 2
  let tried = 0
  for (const [before = '', again = '', after = ''] of ['++/', '+//', '/++', '//+', 'a/+', '/aa', 'aa+']) {
    for (let place = 0; place < 16; place++) {
      const secret = [...all]
      secret[middle - 1 - (place >> 2)] = before
      secret[middle - 1 - (((place >> 2) + 1) & 3)] = again
      secret[middle + (place & 3)] = after
      const needles = needlesOf(Buffer.from(`Bearer ${secret.join('')}u1u2u3`))
      const some = [...secret]
      some[middle - 1 - (place >> 2)] = before.replace('+', '-').replace('/', '_')
      for (const text of [some.join(''), secret.join('').replaceAll('+', '-').replaceAll('/', '_')]) {
        for (const gap of ['\n', '\r', '\r\n', '\0']) {
          for (let size = 1; size < 16 - gap.length; size++) {
            const end = middle + 16 - gap.length - size
            const window = `${text.slice(middle - size, middle)}${gap}${text.slice(middle, end)}`
            const body = Buffer.from(`${'~'.repeat(tried++ % 8)}${window}~~~~~~~~`, 'latin1')
            if (stripWhole(needles, body) === 0) t.fail(JSON.stringify(window))
          }
        }
      }
    }
  }
  t.ok(tried > 10_000)
})

test('16 bytes of any spelling in any form, with text around that could be digits or quotes of it', async (t) => {
  let tried = 0
  for (const [format, { needles, bases: all }] of made) {
    const dice = new Dice(`forms ${format}`)
    for (const [form, apply] of FORMS) {
      const [base, known] = dice.pick(all)
      const some = [...windows(apply(known, dice))].filter(([, window]) => !BREAK.test(window.toString('latin1')))
      for (let i = 0; i < 12 && some.length > 0; i++) {
        const [, window] = dice.pick(some)
        const around = (): Buffer => Buffer.from(dice.text(24, ' {}[]"<>!|xyz;0'))
        const body = Buffer.concat([around(), window, around()])
        tried++
        if (stripWhole(needles, body) === 0 || body.includes(window))
          t.fail(`${format}, ${base}, ${form}: ${JSON.stringify(window.toString('latin1'))}`)
      }
    }
  }
  t.ok(tried > 1500)
})

test('15 bytes are not a run, and 3 secret bytes are none', async (t) => {
  const { bytes, secret } = headerValue(fm2.credential)
  const untouched = (part: Buffer): boolean => {
    const body = Buffer.concat([Buffer.from('<<'), part, Buffer.from('>>')])
    const before = Buffer.from(body)
    return stripWhole(fm2.needles, body) === 0 && body.equals(before)
  }
  for (let at = bytes.length - 60; at < bytes.length - 20; at++) t.ok(untouched(bytes.subarray(at, at + 15)))
  const first = secret.indexOf(true)
  t.ok(untouched(bytes.subarray(first + 3 - 16, first + 3)), '13 public, 3 secret')
  t.notOk(untouched(bytes.subarray(first + 4 - 16, first + 4)), '12 public, 4 secret')
})

test('one case for all of a run: text that only has the letters in common is left alone', async (t) => {
  const tail = fm2.credential.value.subarray(-20, -4).toString()
  const mixed = [...tail].map((c, i) => (i % 2 ? c.toUpperCase() : c.toLowerCase())).join('')
  for (const [text, hits] of [
    [tail, 1],
    [tail.toUpperCase(), 1],
    [tail.toLowerCase(), 1],
    [mixed, 0],
  ] as const) {
    t.equal(stripWhole(fm2.needles, Buffer.from(`<${text}>`)), hits, text)
  }
})

test('public text between secret bytes stays where it is more than a window away from them', async (t) => {
  const { bytes, secret } = headerValue(v1.credential)
  const body = Buffer.from(bytes)
  stripWhole(v1.needles, body)
  for (let i = 0; i < bytes.length; i++) {
    const near = secret.slice(Math.max(0, i - 15), i + 16).includes(true)
    if (body[i] !== 0x2a || secret[i]) continue
    t.ok(near, `${i}`)
  }
  t.ok(body.includes(bytes.subarray(150, 170)))
})

test('runs of public text only are untouched in every spelling', async (t) => {
  for (const { credential: c, needles } of made.values()) {
    const dice = new Dice('public')
    for (const known of c.decoded) {
      for (let from = 0, to = 0; from < known.bytes.length; from = to) {
        for (to = from; to < known.bytes.length && known.secret[to] === known.secret[from];) to++
        if (known.secret[from] || to - from < 12) continue
        const text = known.bytes.subarray(from, to)
        const base64 = [0, 1, 2].map((n) => Buffer.from(Buffer.concat([Buffer.alloc(n, 'x'), text]).toString('base64')))
        for (const bytes of [text, ...base64, Buffer.from(text.toString('hex'))]) {
          for (const [name, form] of FORMS) {
            const part: Known = form({ bytes, secret: [...bytes].map(() => false) }, dice)
            const body = Buffer.concat([Buffer.from('{"a":"'), part.bytes, Buffer.from('"}')])
            const out = Buffer.from(body)
            stripWhole(needles, out)
            // Of units as long as \u0066 a window is 2 bytes of any needle, which chance may bring together, but not
            // within the long run of public text: only at its ends, where an encoding's odd characters are.
            const ends = /u|html|mixed|twice|x|octal/.test(name) ? 64 : 0
            t.ok(
              out.subarray(ends, out.length - ends).equals(body.subarray(ends, body.length - ends)),
              `${c.format}, ${name}`,
            )
          }
        }
      }
    }
  }
})

test('byte by byte no more than 3 secret bytes of a run come through', async (t) => {
  for (const { credential: c, needles } of made.values()) {
    const known = headerValue(c)
    const strip = new Strip(needles)
    const out = Buffer.concat([...[...c.value].map((byte) => Buffer.from(strip.push(Buffer.of(byte)))), strip.end()])
    t.equal(out.length, c.value.length)
    t.ok(known.secret.filter((s, i) => s && out[i] !== 0x2a).length <= 3 * c.decoded.length + 3, c.format)
  }
})

test('two runs that share a byte are both blanked to their ends', async (t) => {
  const { value } = fm2.credential
  // Forwards up to X and then, from X on, backwards.
  const forwards = value.subarray(-40, -24)
  const body = Buffer.concat([
    Buffer.from('<'),
    forwards,
    Buffer.from(forwards).reverse().subarray(1),
    Buffer.from('>'),
  ])
  t.equal(stripWhole(fm2.needles, body), 1)
  t.equal(body.toString(), `<${'*'.repeat(31)}>`)
})

test('what stands between two runs is not taken for blanked, in whatever order they are found', async (t) => {
  const { value } = fm2.credential
  // Within 64 bytes raw ones are found first.
  const escaped = [...value.subarray(-40, -34)].map((c) => `%${c.toString(16)}`).join('')
  const raw = value.subarray(-20).toString()
  const body = Buffer.from(`${' '.repeat(66)}${escaped} ${raw}${' '.repeat(66)}`)
  t.equal(stripWhole(fm2.needles, body), 2)
  t.equal(body.toString().trim(), `${'*'.repeat(escaped.length)} ${'*'.repeat(raw.length)}`)
})

test('lines that end in the middle of a run do not wait, and do not let it through', async (t) => {
  const known = headerValue(v1.credential)
  for (const width of [5, 11, 14, 15, 16, 40]) {
    const strip = new Strip(v1.needles)
    const lines = known.bytes
      .toString()
      .match(new RegExp(`.{1,${width}}`, 'g'))!
      .map((line) => `${line}\n`)
    const out = lines.map((line) => Buffer.from(strip.push(Buffer.from(line))))
    lines.forEach((line, i) => t.equal(out[i]!.length, line.length))
    let i = 0
    const bytes = Buffer.from(lines.join(''))
    const secret = [...bytes].map((c) => (c === 0x0a ? false : known.secret[i++]!))
    const whole = Buffer.concat(out)
    for (const [at, window] of windows({ bytes, secret }))
      if (whole.subarray(at, at + 16).equals(window)) t.fail(`${width}: ${at}`)
  }
})

test('a run that was recognised goes on being blanked, and is one hit, in whatever pieces it goes on', async (t) => {
  const run = fm2.credential.value.subarray(-40)
  const body = Buffer.concat([
    Buffer.alloc(100, ' '),
    run,
    Buffer.from('  and '),
    Buffer.from(run.toString('hex')),
    Buffer.from(' .'),
  ])
  for (const size of [1000, 130, 10, 5]) {
    const seen: string[] = []
    const strip = new Strip(fm2.needles, (offset, length, name) =>
      seen.push(`${offset} ${length} ${name.replace(/ .*/, '')}`),
    )
    const out: Buffer[] = []
    for (let from = 0, to = 130; from < body.length; from = to, to += size)
      out.push(Buffer.from(strip.push(Buffer.from(body.subarray(from, to)))))
    out.push(strip.end())
    t.equal(
      Buffer.concat(out).toString(),
      `${' '.repeat(100)}${'*'.repeat(40)}  and ${'*'.repeat(80)} .`,
      `pieces of ${size}`,
    )
    t.equal(strip.hits, 2)
    t.match(seen, [/^100 40 (line|base64)/, /^146 80 hex/])
  }
})

test('chunks are blanked in place, not copied', async (t) => {
  const chunk = Buffer.concat([Buffer.alloc(200, ' '), fm2.credential.value, Buffer.alloc(200, ' ')])
  const out = new Strip(fm2.needles).push(chunk)
  t.equal(out.buffer, chunk.buffer)
  t.equal(out.byteOffset, chunk.byteOffset)
  t.notOk(chunk.includes(fm2.credential.value.subarray(-16)))
  t.equal(new Strip(fm2.needles).push(Buffer.alloc(0)).length, 0)
})

test('a credential of up to 8 KiB fits in the memory that is asked for, which is below 1 MiB for 724 bytes', async (t) => {
  const dice = new Dice('large')
  const tokens = Array.from({ length: 9 }, () => `fm2_${dice.bytes(1024).toString('base64')}`).join(',')
  for (const text of [`FlyV1 ${tokens}`, `FlyV1 ${'ab,'.repeat(2800)}`, `FlyV1 ${'a'.repeat(8186)}`]) {
    for (const size of [0, 6, 16, 724, 8192]) {
      const value = Buffer.from(text.slice(0, size))
      let used = 0
      const memory = secretMemory(2 * Needles.memory(size), false)
      const alloc = (n: number): Buffer => {
        used += (n + 7) & ~7
        return memory.alloc(n)
      }
      const needles = new Needles(value, { ...memory, alloc })
      t.ok(used <= Needles.memory(size), `${used} of ${Needles.memory(size)} for ${size}`)
      const innocent = Buffer.from('an innocent body of more than sixteen bytes')
      t.equal(stripWhole(needles, innocent), 0)
    }
  }
  t.ok(Needles.memory(724) < 1_048_576)
})
