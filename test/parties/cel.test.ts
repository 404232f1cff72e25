// The part of CEL that conditions and mappings may use: what it says, and that all else is refused when configured.

import { test } from 'tap'
import { CelError, compileCel } from '../../src/parties/gcp/cel.ts'

const assertion = {
  sub: 'acme:api:m1',
  org: 'acme',
  n: 7,
  list: ['a', 'b'],
  map: { 'x-y': true },
  nested: { a: [{ b: 'c' }] },
  yes: true,
  nothing: null,
}
const say = (text: string): unknown => compileCel(text, ['assertion'], 'condition')({ assertion })

test('expressions', async (t) => {
  for (const [text, value] of [
    ['assertion.sub', 'acme:api:m1'],
    ['assertion["sub"]', 'acme:api:m1'],
    ["assertion.map['x-y']", true],
    ['assertion.nested.a[0].b', 'c'],
    ['assertion.org == "acme" && assertion.n == 7', true],
    ['assertion.org == "acme" && assertion.n == 8 || true', true],
    ['true || false && false', true],
    ['!assertion.yes', false],
    ['!!assertion.yes', true],
    ['-assertion.n', -7],
    ['assertion.n < 8 && assertion.n <= 7 && assertion.n > 6 && assertion.n >= 7 && assertion.n != 1.5', true],
    ['"a" < "b"', true],
    ['"b" <= "a"', false],
    ['assertion.org in ["x", "acme"]', true],
    ['"a" in assertion.list', true],
    ['"org" in assertion', true],
    ['"__proto__" in assertion', false],
    ['assertion.org in []', false],
    ['assertion.list == ["a", "b"]', true],
    ['assertion.list == ["a"]', false],
    ['assertion.n == "7"', false],
    ['assertion.nothing == null', true],
    ['assertion.sub.startsWith("acme:")', true],
    ['assertion.sub.endsWith(":m1") && assertion.sub.contains("api")', true],
    ['assertion.sub.extract("acme:{app}:")', 'api'],
    ['assertion.sub.extract("{org}:")', 'acme'],
    ['assertion.sub.extract("api:{m}")', 'm1'],
    ['assertion.sub.extract("none:{m}")', ''],
    ['assertion.sub.extract("acme:{m}|")', ''],
    ['has(assertion.sub) && !has(assertion.none)', true],
    ['size(assertion.list) + size("ü") + size(assertion.map)', 4],
    ['assertion.org + ":" + string(assertion.n) + string(true)', 'acme:7true'],
    ['assertion.n == 7 ? "a" : "b"', 'a'],
    ['false ? "a" : false ? "b" : "c"', 'c'],
    ['(false || true) && true', true],
    ['"\\"\\\\\\n\'" == \'"\\\\\\n\\\'\'', true],
    ['assertion.none == "x" || true', true],
    ['true || assertion.none == "x"', true],
    ['assertion.none == "x" && false', false],
  ] as const) {
    t.equal(say(text), value, text)
  }
})

test('what fails is a CelError, and so lets nothing through', async (t) => {
  for (const text of [
    'assertion.none',
    'assertion.none == "x"',
    'assertion.none == "x" || false',
    'assertion.none == "x" && true',
    'assertion.sub.x',
    'assertion["__proto__"]',
    'assertion.constructor',
    'assertion.list[2]',
    'assertion.list[-1]',
    'assertion.list["a"]',
    'assertion[7]',
    'assertion.org && true',
    '!assertion.org',
    '-assertion.org',
    'assertion.org < 7',
    'assertion.org + 7',
    'assertion.n.startsWith("7")',
    'assertion.org.startsWith(7)',
    'size(7)',
    'string(null)',
    '"a" in "abc"',
    'assertion.org ? 1 : 2',
    'has(assertion.sub.x)',
    'assertion.sub.extract("a")',
    'assertion.sub.extract("{a}{b}")',
  ]) {
    t.throws(() => say(text), CelError, text)
  }
})

test('what this mock does not know is refused when configured', async (t) => {
  for (const text of [
    '',
    'a',
    'google.subject',
    'assertion.',
    'assertion.sub ==',
    '== 1',
    '(true',
    'true)',
    '[1',
    'true true',
    '1 = 1',
    'true & false',
    "'open",
    '"\\x41"',
    'assertion.sub.matches("a*")',
    'assertion.list.all(x, true)',
    'assertion.sub.startsWith()',
    'assertion.sub.startsWith("a", "b")',
    'timestamp("x")',
    'has(assertion)',
    'size()',
    '{"a": 1}',
    '1 - 1',
    '1 * 2',
    "b'x'",
    'assertion.sub.toString("")',
    'assertion.sub.constructor("x")',
    '"a".hasOwnProperty("b")',
    '('.repeat(60) + 'true' + ')'.repeat(60),
    '!'.repeat(60) + 'true',
    `"${'x'.repeat(4096)}"`,
    'true ? 1',
    'assertion[1',
    '1 in',
    'in 1',
    'é',
    '"a\nb"',
  ]) {
    t.throws(() => compileCel(text, ['assertion'], 'condition'), { name: 'ConfigError' }, text.slice(0, 40))
  }
})
