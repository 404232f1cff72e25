// The filter against the rule itself, where units are long and cut at the ends: what some reading makes a window does not
// come through.

import { test } from 'tap'
import { Dice } from '../../src/canary/credentials.ts'
import type { Credential } from '../../src/canary/credentials.ts'
import { secretMemory } from '../../src/proxy/secret.ts'
import { Needles } from '../../src/proxy/strip.ts'
import { cutAt, through } from '../support/pieces.ts'
import { formsOf, needlesOf, windowIn } from '../support/rule.ts'

const ROUNDS = process.env['DOTFLY_SLOW'] === '1' ? 1000 : 200

const opaque = (text: string): Credential => ({
  format: 'opaque',
  value: Buffer.from(`FlyV1 ${text}`),
  decoded: [],
  tokens: [{ at: 6, prefix: '', text, opaque: true }],
})
const plain = ({ value }: Credential): Needles => new Needles(value, secretMemory(Needles.memory(value.length), false))

test('what is left of a unit counts, however the whole ones beside it may be read', async (t) => {
  const secret = opaque('tok.qw8zkd7mp2xv5tbn9rjh')
  const needles = plain(secret)
  const all = needlesOf(secret)
  for (const [window, why] of [
    ['25%33%38zkd7mp2x', 'its end is an escape of the same byte'],
    ['5%33%38zkd7mp2xv', 'and half of its beginning is gone'],
    ['u0038zkd7mp2xv5t', 'its end is the byte itself'],
    ['36%62d7%25%36%64', 'two cut ones and two bytes between'],
    ['u006bd7mp2xv\n\\06', 'its beginning is an escape by itself, of a gap'],
    ['%61kd7m%25%37%30', 'only half of it is told'],
    ['#56;zkd7&#109;p2', 'decimal, and before raw bytes'],
    ['6b;d7mp&#50;xv5t', 'hexadecimal, and before raw bytes'],
    ['#0;w8zkd7mp2xv5t', 'of a NUL, at the beginning'],
    ['x0;w8zkd7mp2xv5t', 'or hexadecimal'],
    ['w8zkd7mp2xv5t&#0', 'or at the end'],
    ['u0071w8z\n\n\n\n\nkd7', 'a wide gap, and three raw bytes on either side'],
    ['#119;\n\n\n\n\n\n\n\n8zk', 'a wide gap, and three raw bytes behind it'],
    ['w8z\n\n\n\n\n%25%36%6', 'raw bytes, a raw gap and what is cut'],
    ['u0071w8z%0a%25%3', 'or an escaped one'],
    ['u006bd7m%25%37%3', 'three raw bytes between two that are cut'],
    ['u006bd7mp2x&#118', 'or six'],
  ] as const) {
    const body = Buffer.from(`<${window}>`)
    t.ok(windowIn(body, all), window)
    t.match(through(needles, [body]).toString(), /\*/, `${window}: ${why}`)
  }
})

test('what reads in two ways is judged in each', async (t) => {
  for (const [text, window, why] of [
    ['tefxu98xx+73unuC+30+au7aB4', '%33%36312%0a0\\u000a%2', 'its end is a gap and a cut unit, or a cut unit'],
    ['tn4efA+du84Ce5ubcdC7BC/+', '035%36\\06312\\\\060\\\\06', 'or a gap, and raw bytes'],
    ['t12264u63x4xCn7dB0u080x', '#120;&#10;0\\x380', 'what is cut stands before a gap'],
    ['tC+d9dCn/buBa429xdb/7xxd60', '065V%6aE\\x67\\u000adE', 'a window ends within a gap, and the run goes on'],
    ['tac0BAuAx907b/xx/x397+Au6', ';W%25%34%44\\u005', 'in upper case, though two units say nothing of that'],
    ['tok.qw8zkd7mp2xv5tbn9rjh', '25%36%62d7mp2xv5', 'its beginning is two escapes, with raw bytes behind'],
    ['tok.qw8zkd7mp2xv5tbn9rjh', '6bd7&#10;%25%36%', 'two raw bytes between two that are cut'],
    ['tokqwz8x61kd7mp2xv5tbn9rj', 'qwz8x\\061kd7mp2x', 'an escape, or a gap with raw digits behind it'],
    ['tok_qwz%kd7mp2xv5tbn9rjh', 'underbar;qwz%252', 'its end is an escape, or what is left of a longer one'],
    ['tok_qwz%kd7mp2xv5tbn9rjh', '~~~~~~%37%61%kd7mp2xv5', 'its beginning is two escapes, and raw bytes begin as one'],
    ['tokqwzkd7mp2\\gv5tbn9rjh', 'tokqwzkd7mp2\\x0a', 'a gap, or a raw backslash'],
    ['tq04wx8zkd7mp2xv5tbn9rjh', 'q\\004wx8zkd7mp2x', 'a gap with raw digits behind it, or an escape'],
    ['tokqwzry0akd7mp2xv5tbn9rjh', '~~~~0a%0akd7mp2xv5tb', 'digits of a gap, or those that stand before it'],
    ['tokq13zkd7mp2xv5tbn9rjhyx', '~~~~~u0071\\013zkd7mp2', 'the same behind what is left of a unit'],
    ['tqw=8zkd7mp2xv5tbn9rjhyx', 'w=\n8zkd7mp2xv5tb', 'a raw `=` and a gap, or a gap'],
  ] as const) {
    const secret = opaque(text)
    const body = Buffer.from(`~${window}~`)
    t.ok(windowIn(body, needlesOf(secret)), window)
    t.notOk(windowIn(through(plain(secret), [body]), needlesOf(secret)), `${window}: ${why}`)
  }
  const run = through(plain(opaque('ta9B2d93/A6a8fBb//01049dnA1u7')), [
    Buffer.from('<at 1VylF  ta%250a9B2d93/A6a8fBb//0104>'),
  ])
  t.equal(run.toString(), `<at 1VylF ${'*'.repeat(28)}>`, 'an `a` that is the end of a gap, too')
})

test('a line break of the secret, and the padding before it, are its own', async (t) => {
  const bytes = Buffer.from('kd7mya==\n0016xv5tbn9rjh')
  const secret = { ...opaque(bytes.toString('base64')), decoded: [{ bytes, secret: Array.from(bytes, () => true) }] }
  const body = Buffer.from('~79a==\n0016xv5tbn~')
  t.ok(windowIn(body, needlesOf(secret)))
  t.match(through(plain(secret), [body]).toString(), /^~79\*{14}~$/)
})

test('where one case ends another may go on', async (t) => {
  // Wherever the run begins: where it is found depends on that.
  const needles = plain(opaque('tabcdefgh123456789012ijklmnop'))
  for (let before = 0; before < 8; before++) {
    const body = Buffer.from(`${'<'.repeat(before)}abcdefgh123456789012IJKL>`)
    t.equal(through(needles, [body]).toString(), `${'<'.repeat(before)}${'*'.repeat(24)}>`)
  }
})

test('a secret with line breaks and NULs of its own', async (t) => {
  const dice = new Dice('gaps')
  let windows = 0
  for (let round = 0; round < 600; round++) {
    const bytes = Buffer.from(
      Array.from({ length: 24 }, () => (dice.below(4) === 0 ? dice.pick([0, 10, 13]) : 97 + dice.below(26))),
    )
    const secret = { ...opaque(bytes.toString('base64')), decoded: [{ bytes, secret: Array.from(bytes, () => true) }] }
    const needles = plain(secret)
    const all = needlesOf(secret).filter(({ name }) => name === 'decoded 0')
    for (let from = 0; from < 12; from++) {
      let text = ''
      let told = 0 // whole bytes that are no gaps: docs/threat-model.md says what passes that is mostly gaps
      for (let n = from; n < bytes.length && text.length < 16; n++) {
        const c = bytes[n] ?? 0
        text += c < 16 || dice.below(3) > 0 ? String.fromCharCode(c) : dice.pick(formsOf(c))
        if (c >= 16 && text.length <= 16) told++
      }
      const body = Buffer.from(`~${text.slice(0, 16)}~~~~~~`, 'latin1')
      if (told < 4 || windowIn(body, all) === undefined) continue
      windows++
      if (windowIn(through(needles, [body]), all) !== undefined) t.fail(JSON.stringify(body.toString('latin1')))
    }
  }
  t.ok(windows > 3000, `${windows} windows`)
})

test(
  'of what is cut at head and tail next to no reading of what comes through is a window',
  { timeout: 240_000 },
  async (t) => {
    const dice = new Dice(process.env['DOTFLY_SEED'] ?? 'rule')
    const subjects = Array.from({ length: 10 }, (_, i) => {
      const secret = opaque(`t${dice.text(21 + (i % 5), '0123456789abcdefxuABC+/n')}`)
      return { all: needlesOf(secret), needles: plain(secret) }
    })
    let windows = 0
    const whole: string[] = []
    const cutUp: string[] = []
    for (let round = 0; round < ROUNDS; round++) {
      const { all, needles } = dice.pick(subjects)
      const needle = dice.pick(all)
      let n =
        dice.below(2) === 0
          ? Math.max(0, needle.secret.indexOf(true) - dice.below(16))
          : dice.below(needle.bytes.length)
      const next = (): number => needle.bytes[n++] ?? 0
      const cut = dice.pick(formsOf(next()))
      let text = cut.slice(1 + dice.below(cut.length - 1))
      const size = 16 + dice.below(dice.pick([1, 1, 6, 20]))
      while (text.length < size && n < needle.bytes.length) {
        if (dice.below(12) === 0) text += dice.pick(['\n', '\r\n', '\\n', '%0a', '&#10;', '\\u000a'])
        const byte = next()
        text += dice.below(2) === 0 ? String.fromCharCode(byte) : dice.pick(formsOf(byte))
      }
      const ends = [
        ['~', '<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<'],
        ['', '~', '~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~'],
      ] as const
      const body = Buffer.from(dice.pick(ends[0]) + text.slice(0, size) + dice.pick(ends[1]), 'latin1')
      if (windowIn(body, [needle]) !== undefined) windows++
      const comesThrough = (out: Buffer): boolean => windowIn(out, [needle]) !== undefined
      const marks = Array.from({ length: body.length - 1 }, (_, i) => i + 1)
      const outs = new Set(
        [marks, ...marks.map((mark) => [mark])].map((cuts) => through(needles, cutAt(body, cuts)).toString('latin1')),
      )
      if (comesThrough(through(needles, [body]))) whole.push(body.toString('latin1'))
      else if ([...outs].some((out) => comesThrough(Buffer.from(out, 'latin1')))) cutUp.push(body.toString('latin1'))
    }
    t.comment(`${ROUNDS} bodies, ${windows} with a window`)
    t.ok(windows > ROUNDS / 2)
    // Of other seeds one in 5,000 passes: what docs/threat-model.md says of long public text, and no more.
    t.strictSame(whole, [])
    t.strictSame(cutUp, [])
  },
)
