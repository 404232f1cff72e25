// What strip looks at closer, against what it would blank if it looked everywhere: windows of every shape are made, so that
// what must be blanked is known without a search. Quick, and blind to no place, gap, alphabet or alignment.

import { test } from 'tap'
import { Dice } from '../../src/canary/credentials.ts'
import { secretMemory } from '../../src/proxy/secret.ts'
import { Needles } from '../../src/proxy/strip.ts'
import { through } from '../support/pieces.ts'
import { formsOf } from '../support/rule.ts'

const ROUNDS = process.env['DOTFLY_SLOW'] === '1' ? 1000 : 120
const GAPS = ['\n', '\r', '\0', '\r\n', '\n\n\n', '\r\n\r\n', '\n'.repeat(6), ...[10, 13, 0].flatMap(formsOf)]
const TAILS = GAPS.filter((gap) => gap.length > 2 && !/^[\r\n\0]/.test(gap))
const CASES = [
  (text: string): string => text,
  (text: string): string => text.toUpperCase(),
  (text: string): string => text.toLowerCase(),
  (text: string): string => text.replaceAll(/[a-z]/gi, (c) => (c < 'a' ? c.toLowerCase() : c.toUpperCase())),
]

test('a window is found whatever its shape: gaps, escapes and cut units at each place', async (t) => {
  const dice = new Dice(process.env['DOTFLY_SEED'] ?? 'shapes')
  const cut = (form: string): string => form.slice(1 + dice.below(form.length - 1))
  let [windows, leaks] = [0, 0]
  for (let round = 0; round < ROUNDS; round++) {
    // Much of what base64url writes otherwise, much that gaps are written with, and hex: the one needle of another kind.
    const secret = dice.text(28, ['+/-_+/aB7', '0ad71xBk', 'abcdefxuABCDEFGHIJKLMNOPQR0123456789+/-_'][round % 3])
    const value = Buffer.from(`FlyV1 t.${secret}`)
    const needles = new Needles(value, secretMemory(Needles.memory(value.length), false))
    for (const gap of GAPS) {
      for (let place = 0; place < 15; place++) {
        const isHex = dice.below(3) === 0
        const spelled = isHex ? Buffer.from(secret).toString('hex') : dice.pick(CASES)(secret)
        const escaped = new Set(dice.pick([[], [], [dice.below(12)], [dice.below(8), dice.below(16)]]))
        const [n, head] = [dice.below(9), dice.below(4)]
        let text = head === 1 ? cut(dice.pick(TAILS)) : head === 2 ? cut(dice.pick(formsOf(spelled.charCodeAt(n)))) : ''
        const whole: number[] = []
        let own = head === 2 ? text.length : 0
        let [raw, gaps] = [0, 0]
        for (let k = 0; text.length < 16; k++) {
          if (k === place && text !== '') [text, gaps] = [text + gap, Math.min(gap.length, 16 - text.length)]
          if (text.length >= 16) break
          const c = spelled[n + k + (head === 2 ? 1 : 0)] ?? ''
          const also = { '+': '-', '-': '+', '/': '_', _: '/' }[c]
          const one =
            isHex && dice.below(2) === 0 ? c.toUpperCase() : also !== undefined && dice.below(2) === 0 ? also : c
          const unit = escaped.has(k) ? dice.pick(formsOf(c.charCodeAt(0))) : one
          own += Math.min(unit.length, 16 - text.length)
          for (let i = 0; i < unit.length && text.length + unit.length <= 16; i++) whole.push(text.length + i)
          if (text.length + unit.length <= 16) raw++
          text += unit
        }
        // What docs/threat-model.md lists: too few bytes to go by, and \0 before digits.
        if (own < 8 || raw < (gaps > 0 || head > 0 ? 4 : 2) || (gap.endsWith('\\0') && /\\0(?:6|12|15|00)/.test(text)))
          continue
        windows++
        const before = dice.below(12)
        const body = Buffer.from(`${'~'.repeat(before)}${text.slice(0, 16)}${'~'.repeat(dice.below(12))}`, 'latin1')
        const out = through(needles, [body])
        if (whole.every((i) => out[before + i] === 0x2a)) continue
        if (leaks++ < 9) t.fail(`${String(value)}: ${JSON.stringify(String(body))}`)
      }
    }
  }
  t.comment(`${windows} windows, ${leaks} not blanked`)
  t.ok(windows > 300 * ROUNDS)
})
