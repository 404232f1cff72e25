// The strip filter, bytes in and bytes out. What to look for comes from the canary's speller, which shares nothing
// with src/proxy.

import { array, assert, nat, property, record, string } from 'fast-check'
import { test } from 'tap'
import { credential, Dice, FORMATS } from '../../src/canary/credentials.ts'
import type { Credential, Known } from '../../src/canary/credentials.ts'
import { leaks } from '../../src/canary/leaks.ts'
import { bases, FORMS, windows } from '../../src/canary/speller.ts'
import { secretMemory } from '../../src/proxy/secret.ts'
import { Needles, Strip, stripWhole } from '../../src/proxy/strip.ts'
import { cutAt, through } from '../support/pieces.ts'

const SEED = process.env['DOTFLY_SEED'] ?? 'strip'
const LONG = 12_500
const SLOW = process.env['DOTFLY_SLOW'] === '1'

const needlesOf = ({ value }: Credential): Needles => new Needles(value, secretMemory(Needles.memory(value.length)))

const around = (known: Known, before = '{"error":"', after = '"}'): Buffer =>
  Buffer.concat([Buffer.from(before), known.bytes, Buffer.from(after)])

test('every spelling is blanked: whole, in pieces, and byte by byte', async (t) => {
  let tried = 0
  const leaked: string[] = []
  for (const format of FORMATS) {
    const dice = new Dice(`${SEED}:${format}`)
    const secret = credential(dice, format)
    const needles = needlesOf(secret)
    for (const [base, known] of bases(secret)) {
      for (const [form, apply] of FORMS) {
        if (form !== 'as is' && dice.below(SLOW ? 6 : 30) > 0) continue
        const spelled = apply(known, dice)
        const body = around(spelled)
        const marks = Array.from({ length: 5 }, () => dice.below(body.length)).sort((a, b) => a - b)
        const ways: [string, Buffer[]][] = [
          ['whole', [body]],
          ['in pieces', cutAt(body, marks)],
        ]
        if (dice.below(60) === 0) ways.push(['byte by byte', [...body].map((c) => Buffer.of(c))])
        for (const [way, pieces] of ways) {
          tried++
          const out = through(needles, pieces)
          if (out.length !== body.length || leaks(spelled, out)) leaked.push(`${format}: ${base}, ${form}, ${way}`)
        }
      }
    }
  }
  t.comment(`${tried} bodies`)
  t.ok(tried > 1000)
  t.strictSame(leaked, [])
})

test('the filter is what does it: the same bodies leak without it', async (t) => {
  const dice = new Dice(SEED)
  const secret = credential(dice, 'fm2')
  const all = bases(secret)
  for (const [form, apply] of FORMS) {
    const [base, known] = dice.pick(all)
    const spelled = apply(known, dice)
    t.ok(leaks(spelled, around(spelled).subarray(-400)), `${base}, ${form} is seen by the one who looks`)
  }
})

test('16 bytes from anywhere in a spelling are enough', async (t) => {
  let tried = 0
  let limit = 0
  const leaked: string[] = []
  for (const format of FORMATS) {
    const dice = new Dice(`${SEED}:16:${format}`)
    const secret = credential(dice, format)
    const needles = needlesOf(secret)
    for (const [base, known] of bases(secret)) {
      for (const [form, apply] of FORMS) {
        const spelled = apply(known, dice)
        const all = [...windows(spelled)]
        for (let i = 0; i < (SLOW ? 4 : 2); i++) {
          const [at, window] = dice.pick(all)
          tried++
          const body = Buffer.concat([Buffer.from('<p> '), window, Buffer.from(' </p>')])
          const out = through(needles, dice.below(2) === 0 ? [body] : cutAt(body, [dice.below(body.length)]))
          if (!leaks(spelled, out)) continue
          // The limit that docs/threat-model.md states: in raw binary, long escapes of a line break or NUL may be gaps.
          if (base.includes('decoded') && !base.includes(' of ')) limit++
          else leaked.push(`${format}: ${base}, ${form}, at ${at}: ${window.toString('latin1')}`)
        }
      }
    }
  }
  t.comment(`${tried} fragments, ${limit} at the stated limit`)
  t.ok(limit < tried / 2000)
  t.strictSame(leaked.slice(0, 5), [])
})

test('every cut in two of short bodies gives bytes of the same length and no leak, and leaves what stands around', async (t) => {
  const dice = new Dice(`${SEED}:cuts`)
  for (const format of ['opaque', 'fm2']) {
    const secret = credential(dice, format)
    const needles = needlesOf(secret)
    const [, value] = bases(secret)[0]!
    const known = { bytes: value.bytes.subarray(-90), secret: value.secret.slice(-90) }
    for (const [form, apply] of FORMS) {
      const spelled = apply(known, dice)
      const body = around(spelled, 'before <', '> after')
      for (let mark = 0; mark <= body.length; mark++) {
        const out = through(needles, cutAt(body, [mark]))
        if (leaks(spelled, out)) t.fail(`${format}, ${form}, cut at ${mark}`)
        if (
          out.length !== body.length ||
          !out.toString('latin1').startsWith('before ') ||
          !out.toString('latin1').endsWith(' after')
        ) {
          t.fail(`${format}, ${form}, cut at ${mark}: ${JSON.stringify(out.toString('latin1'))}`)
        }
      }
    }
  }
  t.pass()
})

test('a fragment is blanked wherever it stands in a long body, be that in our memory or in another', async (t) => {
  const dice = new Dice(`${SEED}:long`)
  const secret = credential(dice, 'fm2')
  const memory = secretMemory(Needles.memory(secret.value.length) + 2 * LONG)
  const needles = new Needles(secret.value, memory)
  const ours = memory.alloc(LONG)
  const theirs = Buffer.alloc(LONG)
  const innocent = Buffer.from(dice.text(LONG, 'abcdefghijklmnopqrstuvwxyz "{}[]:,.0123456789'))
  const all = bases(secret)
  let tried = 0
  for (let at = 0; at < LONG - 128; at += at % 4096 > 100 && at % 4096 < 3980 ? dice.below(400) : 1) {
    const [form, apply] = dice.pick(FORMS)
    const [base, known] = dice.pick(all)
    if (base.includes('decoded') && !base.includes(' of ')) continue
    const spelled = apply(known, dice)
    const window = dice.pick([...windows(spelled)])[1]
    for (const body of [ours, theirs]) {
      innocent.copy(body)
      window.copy(body, at)
      tried++
      const cut = dice.below(2) === 0 ? [] : [dice.below(LONG)]
      const strip = new Strip(needles)
      const out = Buffer.concat([...cutAt(body, cut).map((piece) => Buffer.from(strip.push(piece))), strip.end()])
      // Windows of 16 that share a byte with the fragment; all others are of what was innocent.
      const near = out.subarray(Math.max(0, at - 15), at + window.length + 15)
      if (out.length !== LONG || leaks(spelled, near))
        t.fail(`${base}, ${form}, at ${at}: ${window.toString('latin1')}`)
    }
  }
  t.comment(`${tried} bodies`)
  t.ok(tried > 1000)
})

test('nothing that could not become a window waits', async (t) => {
  const secret = credential(new Dice(`${SEED}:wait`), 'opaque')
  const needles = needlesOf(secret)
  for (const event of [
    'data: {"state":"started"}\n\n',
    '{"ok":true}\n',
    ': ping\n\n',
    'x',
    '\n',
    '=',
    '%',
    '\\',
    '&#1',
    '{"a":"%41"}',
    '\u0000',
  ]) {
    t.equal(new Strip(needles).push(Buffer.from(event)).toString(), event, JSON.stringify(event))
  }
  const strip = new Strip(needles)
  for (const c of Buffer.from('data: byte by byte, as a terminal would have it\n\n'))
    t.equal(strip.push(Buffer.of(c))[0], c)

  // What may become one waits, and is blanked or released when it is known.
  const tail = secret.value.subarray(-30)
  const waiting = new Strip(needles)
  t.ok(waiting.push(Buffer.concat([Buffer.from('<<'), tail.subarray(0, 12)])).length < 14, 'the start of a run waits')
  t.equal(
    waiting
      .push(Buffer.from(tail.subarray(12)))
      .toString('latin1')
      .replaceAll('*', ''),
    '',
    'and is blanked with the rest of it',
  )
  for (const escape of ['%', '=', '\\x', '\\u00']) {
    const escaped = [...secret.value.subarray(-30, -28)]
      .map((c) => `${escape}${c.toString(16).padStart(2, '0')}`)
      .join('')
    const early = new Strip(needles)
    t.ok(early.push(Buffer.from(`<<${escaped}`)).length < 6, `and so does one of escapes, ${escape}`)
    t.equal(early.end().toString('latin1').slice(-4), escaped.slice(-4), 'but not for ever')
  }
  const spared = new Strip(needles)
  const twelve = Buffer.concat([Buffer.from('<<'), tail.subarray(0, 12)])
  t.equal(
    Buffer.concat([Buffer.from(spared.push(Buffer.from(twelve))), spared.end()]).toString('latin1'),
    twelve.toString('latin1'),
    '12 bytes are no run',
  )
  t.equal(spared.hits, 0)
})

test('two runs that overlap are both found, and each run is one hit with its place, length and name', async (t) => {
  const secret = credential(new Dice(`${SEED}:hits`), 'opaque')
  const needles = needlesOf(secret)
  const token = secret.value.subarray(6)
  const hex = Buffer.from(token.toString('hex'))
  const seen: [number, number, string][] = []
  const strip = new Strip(needles, (offset, length, name) => seen.push([offset, length, name]))
  const body = Buffer.concat([Buffer.from('<'), token, Buffer.from('> ['), hex, Buffer.from(']')])
  strip.push(body)
  strip.end()
  t.equal(strip.hits, 2)
  t.match(seen, [
    [1, token.length, /line/],
    [token.length + 4, hex.length, /hex/],
  ])
  const overlapping = Buffer.concat([Buffer.from('<'), token.subarray(0, 40), token.subarray(20), Buffer.from('>')])
  t.match(through(needles, [overlapping]).toString('latin1'), /^<\*+>$/)
})

test('a header value is judged whole', async (t) => {
  const secret = credential(new Dice(`${SEED}:whole`), 'v1')
  const needles = needlesOf(secret)
  const value = Buffer.from(secret.value)
  t.ok(stripWhole(needles, value) > 0)
  t.notOk(leaks(bases(secret)[0]![1], value))
  const innocent = Buffer.from('text/plain; charset=utf-8')
  t.equal(stripWhole(needles, innocent), 0)
  t.equal(innocent.toString(), 'text/plain; charset=utf-8')
  t.equal(stripWhole(needles, Buffer.alloc(0)), 0)
})

test('property: any credential, spelling, text around and cuts', async (t) => {
  const cases = record({
    seed: nat(),
    before: string({ unit: 'binary', maxLength: 60 }),
    after: string({ unit: 'binary', maxLength: 60 }),
    cuts: array(nat(), { maxLength: 8 }),
  })
  assert(
    property(cases, ({ seed, before, after, cuts }) => {
      const dice = new Dice(`property:${seed}`)
      const secret = credential(dice, dice.pick(FORMATS))
      const needles = needlesOf(secret)
      const [, known] = dice.pick(bases(secret))
      const spelled = dice.pick(FORMS)[1](known, dice)
      const body = around(spelled, before, after)
      const out = through(
        needles,
        cutAt(
          body,
          cuts.map((cut) => cut % body.length).sort((a, b) => a - b),
        ),
      )
      return out.length === body.length && !leaks(spelled, out)
    }),
    { numRuns: SLOW ? 400 : 60, seed: 1 },
  )
  t.pass()
})
