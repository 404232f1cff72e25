import { readFileSync, readdirSync } from 'node:fs'
import * as fc from 'fast-check'
import macaroons from 'macaroons.js'
import { test } from 'tap'
import { clear } from '../../src/flyd/clear.ts'
import type { Caller } from '../../src/flyd/clear.ts'
import { mint } from '../../src/flyd/mint.ts'
import { verify } from '../../src/flyd/verify.ts'
import {
  KEY,
  attenuate,
  bytesOf,
  edit,
  headerOf,
  insert,
  packet,
  packetsOf,
  sign,
  tokenOf,
  tokensOf,
} from './tokens.ts'

const EXPIRES = 2_000_000_000
const NOW = 1_900_000_000
const HERE: Caller = { org: 'example', app: 'weather-cat', machine: 'ancient-snow-4824' }
const good = (form: 'single' | 'discharged' = 'single', expires = EXPIRES): string =>
  mint(KEY, { ...HERE, expires }, form)

/** What flyd makes of a header: CLEARED, or the reason why not. */
function judge(header: string | undefined, caller: Caller | undefined = HERE, now = NOW, key = KEY): string {
  const verdict = verify(header, key)
  return verdict.ok ? clear(verdict, caller, now) : verdict.flaw
}

test('a macaroon as minted is verified and cleared', async (t) => {
  t.equal(judge(good()), 'CLEARED')
  t.match(good(), /^FlyV1 [A-Za-z0-9_-]{200,}$/, 'one token, url-safe, no fm2_ prefix')
  t.not(good(), good(), 'each has an identifier of its own')
})

test('a permission token with its discharge is verified and cleared, every time', async (t) => {
  for (let i = 0; i < 100; i++) {
    const header = good('discharged')
    if (judge(header) !== 'CLEARED') t.fail(`pair ${i}: ${judge(header)}`)
  }
  t.match(good('discharged'), /^FlyV1 [A-Za-z0-9_-]+,[A-Za-z0-9_-]+$/)
  const [permission = '', discharge = ''] = tokensOf(good('discharged'))
  t.equal(judge(headerOf(discharge, permission)), 'CLEARED', 'in either order')
})

test('unsigned extra caveats are refused, though macaroons.js alone takes the unsatisfied one', async (t) => {
  const victim = insert(packet('cid', 'machine = victim'))
  const [token = ''] = tokensOf(edit(good(), victim))
  const { MacaroonsBuilder, MacaroonsVerifier } = macaroons
  const naive = new MacaroonsVerifier(MacaroonsBuilder.deserialize(token))
  for (const { key, value } of packetsOf(tokensOf(good())[0]!)) if (key === 'cid') naive.satisfyExact(value.toString())
  t.equal(naive.isValid(KEY), true, 'this is the fault that verify.ts is there for')

  t.equal(judge(edit(good(), victim)), 'SIGNATURE_WRONG')
  t.equal(judge(edit(good(), insert(packet('cid', 'machine = ancient-snow-4824')))), 'SIGNATURE_WRONG', 'satisfiable')
  t.equal(judge(edit(good(), insert(packet('cid', 'bogus')))), 'CAVEAT_UNKNOWN')
  const [permission = '', discharge = ''] = tokensOf(good('discharged'))
  const swollen = tokenOf(insert(packet('cid', 'expires < 2000000000'))(packetsOf(discharge)))
  t.equal(judge(headerOf(permission, swollen)), 'SIGNATURE_WRONG', 'inside a discharge')
})

test('an edited, removed or reordered caveat is refused', async (t) => {
  const swap = (from: string, to: string): string =>
    edit(good(), (packets) =>
      packets.map(({ key, value }) => packet(key, value.toString('latin1') === from ? to : value)),
    )
  t.equal(judge(swap('machine = ancient-snow-4824', 'machine = other')), 'SIGNATURE_WRONG')
  t.equal(judge(swap('expires < 2000000000', 'expires < 2100000000')), 'SIGNATURE_WRONG')
  t.equal(judge(edit(good(), (packets) => packets.filter((_packet, at) => at !== 4))), 'SIGNATURE_WRONG')
  t.equal(judge(edit(good(), ([l, i, a, b, ...rest]) => [l!, i!, b!, a!, ...rest])), 'SIGNATURE_WRONG')
})

test('malleable spellings of a good token are refused', async (t) => {
  let [token = ''] = tokensOf(good())
  while (!/[-_]/.test(token)) [token = ''] = tokensOf(good()) // or the two alphabets spell it alike
  const bytes = Buffer.from(token, 'base64url')
  const cases: Record<string, string> = {
    'rubbish in the base64': headerOf(`${token.slice(0, 9)}!${token.slice(9)}`),
    padding: headerOf(`${token}=`),
    'the other base64 alphabet': headerOf(bytes.toString('base64')),
    'a newline': headerOf(`${token}\n`),
    'two spaces': `FlyV1  ${token}`,
    'a lower-case scheme': `flyv1 ${token}`,
    'a Bearer scheme': `Bearer ${token}`,
    'no scheme': token,
    'a comma at the end': `FlyV1 ${token},`,
    'an fm2_ prefix': `FlyV1 fm2_${token}`,
    'the token twice': headerOf(token, token),
    'a zero byte behind the end': headerOf(Buffer.concat([bytes, Buffer.from([0])]).toString('base64url')),
    'an empty packet behind the end': headerOf(Buffer.concat([bytes, Buffer.from('0004')]).toString('base64url')),
    'upper-case packet sizes': headerOf(
      Buffer.from(bytes.toString('latin1').replace('001a', '001A'), 'latin1').toString('base64url'),
    ),
    'a longer signature': headerOf(
      tokenOf(
        packetsOf(token).map((p) =>
          p.key === 'signature' ? packet(p.key, Buffer.concat([p.value, Buffer.from('x')])) : p,
        ),
      ),
    ),
    'another location': headerOf(
      tokenOf(packetsOf(token).map((p) => (p.key === 'location' ? packet(p.key, 'https://evil.example') : p))),
    ),
    'no location': headerOf(tokenOf(packetsOf(token).slice(1))),
    'no identifier': headerOf(tokenOf(packetsOf(token).filter(({ key }) => key !== 'identifier'))),
    'no signature': headerOf(tokenOf(packetsOf(token).slice(0, -1))),
    'spare bits in the last character': spareBits(good()),
  }
  for (const [name, header] of Object.entries(cases)) t.not(judge(header), 'CLEARED', name)
})

/** The same bytes, spelt with another last character; only where the length leaves bits over. */
function spareBits(header: string): string {
  const [token = ''] = tokensOf(header)
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  const other = alphabet
    .split('')
    .find(
      (c) =>
        c !== token.at(-1) && Buffer.from(token.slice(0, -1) + c, 'base64url').equals(Buffer.from(token, 'base64url')),
    )
  return other === undefined ? headerOf(`${token}A`) : headerOf(token.slice(0, -1) + other)
}

test('stray, repeated, unknown and misplaced packets are refused', async (t) => {
  const stray: [string, (header: string) => string][] = [
    ['vid', (header) => edit(header, insert(packet('vid', Buffer.alloc(72))))],
    ['cl', (header) => edit(header, insert(packet('cl', 'https://api.fly.io/aaa/v1')))],
    [
      'cl before vid',
      (header) =>
        edit(header, insert(packet('cid', '00'.repeat(16)), packet('cl', 'x'), packet('vid', Buffer.alloc(72)))),
    ],
    [
      'vid of the wrong size',
      (header) =>
        edit(
          header,
          insert(
            packet('cid', '00'.repeat(16)),
            packet('vid', Buffer.alloc(71)),
            packet('cl', 'https://api.fly.io/aaa/v1'),
          ),
        ),
    ],
    ['unknown', (header) => edit(header, insert(packet('zzz', 'x')))],
    ['second location', (header) => edit(header, ([first, ...rest]) => [packet('location', 'x'), first!, ...rest])],
    ['second identifier', (header) => edit(header, insert(packet('identifier', 'x')))],
    ['second signature', (header) => edit(header, insert(packet('signature', Buffer.alloc(32))))],
    ['signature first', (header) => edit(header, (packets) => [packets.at(-1)!, ...packets.slice(0, -1)])],
    ['identifier before location', (header) => edit(header, ([a, b, ...rest]) => [b!, a!, ...rest])],
    ['caveat that is not UTF-8', (header) => edit(header, insert(packet('cid', Buffer.from([0x6f, 0xff]))))],
  ]
  for (const [name, change] of stray) {
    t.not(judge(change(good())), 'CLEARED', name)
    t.not(judge(change(good('discharged'))), 'CLEARED', `${name}, beside a third-party caveat`)
  }
  t.equal(
    judge(edit(good(), insert(packet('vid', Buffer.alloc(72))))),
    'PACKETS_OUT_OF_PLACE',
    'not a third-party caveat by accident',
  )
})

test('another key verifies nothing', async (t) => {
  t.equal(judge(good(), HERE, NOW, 'another key'), 'SIGNATURE_WRONG')
  t.equal(judge(good('discharged'), HERE, NOW, 'another key'), 'SIGNATURE_WRONG')
  t.equal(judge(headerOf(sign(['org = example'], { key: 'another key' }))), 'SIGNATURE_WRONG')
})

test('the moment that a macaroon expires it is refused', async (t) => {
  t.equal(judge(good(), HERE, EXPIRES - 1), 'CLEARED')
  t.equal(judge(good(), HERE, EXPIRES), 'EXPIRED')
  const pair = tokensOf(good('discharged'))
  t.equal(judge(headerOf(...pair), HERE, EXPIRES), 'EXPIRED')
})

const SET = ['org = example', 'app = weather-cat', 'machine = ancient-snow-4824', 'expires < 2000000000']

test('each mandatory caveat must be there', async (t) => {
  t.equal(judge(headerOf(sign(SET))), 'CLEARED')
  for (const left of SET)
    t.equal(judge(headerOf(sign(SET.filter((caveat) => caveat !== left)))), 'CAVEAT_MISSING', `without ${left}`)
  t.equal(judge(headerOf(sign([]))), 'CAVEAT_MISSING')
})

test('a macaroon that somebody has attenuated is refused: it is presented as minted or not at all', async (t) => {
  const [token = ''] = tokensOf(good())
  t.equal(judge(headerOf(attenuate(token, 'machine = ancient-snow-4824'))), 'CAVEAT_REPEATED')
  t.equal(judge(headerOf(attenuate(token, 'machine = victim'))), 'CAVEAT_REPEATED')
  t.equal(judge(headerOf(attenuate(token, 'expires < 1950000000'))), 'CAVEAT_REPEATED')
  t.equal(judge(headerOf(attenuate(token, 'action = read'))), 'CAVEAT_UNKNOWN')
})

test('a caveat has one spelling', async (t) => {
  const near = [
    'machine =ancient-snow-4824',
    'machine = ancient-snow-4824 ',
    ' machine = ancient-snow-4824',
    'machine = ancient-snow-4824\n',
    'Machine = ancient-snow-4824',
    'machine = ancient:snow',
    'machine = ',
    'machine != x',
    'expires < 99999',
    'expires < 20000000000',
    'expires < 2e9',
    'expires <= 2000000000',
    'runtime < 2099-01-01',
    'notime < 99999',
    '',
  ]
  for (const text of near) t.not(judge(headerOf(sign([...SET.slice(0, 3), text]))), 'CLEARED', JSON.stringify(text))
})

test('it is good for the caller that it was minted for, and for nobody where there is no caller', async (t) => {
  t.equal(judge(good(), { ...HERE, machine: 'quiet-river-7311' }), 'NOT_THIS_CALLER')
  t.equal(judge(good(), { ...HERE, app: 'storm-dog' }), 'NOT_THIS_CALLER')
  t.equal(judge(good(), { ...HERE, org: 'rival' }), 'NOT_THIS_CALLER')
  const verdict = verify(good(), KEY)
  t.equal(verdict.ok && clear(verdict, undefined, NOW), 'NOT_THIS_CALLER')
})

test('discharges: missing, unbound, foreign, nested, unasked and repeated ones are refused', async (t) => {
  const [permission = '', discharge = ''] = tokensOf(good('discharged'))
  const ticket = packetsOf(discharge)
    .find(({ key }) => key === 'identifier')!
    .value.toString()
  t.equal(judge(headerOf(permission)), 'DISCHARGE_MISSING')
  t.equal(judge(headerOf(discharge)), 'PERMISSION_TOKENS_NOT_ONE')

  const { MacaroonsBuilder } = macaroons
  const AT = { location: 'https://api.fly.io/aaa/v1' }
  const base = new MacaroonsBuilder('https://api.fly.io/v1', KEY, 'cd'.repeat(16))
  for (const caveat of SET) base.add_first_party_caveat(caveat)
  const asking = base.add_third_party_caveat(AT.location, 'caveat key', ticket).getMacaroon()
  const raw = sign(['expires < 2000000000'], { ...AT, key: 'caveat key', identifier: ticket })
  const bind = (token: string): string =>
    MacaroonsBuilder.modify(asking).prepare_for_request(MacaroonsBuilder.deserialize(token)).getMacaroon().serialize()
  t.equal(judge(headerOf(asking.serialize(), bind(raw))), 'CLEARED', 'bound, it would do')
  t.equal(judge(headerOf(asking.serialize(), raw)), 'SIGNATURE_WRONG', 'unbound')
  t.equal(judge(headerOf(asking.serialize(), discharge)), 'SIGNATURE_WRONG', 'bound to another token')
  t.equal(
    judge(
      headerOf(asking.serialize(), bind(sign(['expires < 2000000000'], { ...AT, key: 'wrong', identifier: ticket }))),
    ),
    'SIGNATURE_WRONG',
  )
  t.equal(
    judge(headerOf(asking.serialize(), bind(sign([], { ...AT, key: 'caveat key', identifier: ticket })))),
    'CAVEAT_MISSING',
    'that never expires',
  )
  t.equal(
    judge(
      headerOf(asking.serialize(), bind(sign(['org = example'], { ...AT, key: 'caveat key', identifier: ticket }))),
    ),
    'CAVEAT_MISSING',
  )
  t.equal(judge(headerOf(asking.serialize(), bind(raw), bind(raw))), 'DISCHARGE_UNASKED', 'the same twice')
  t.equal(judge(headerOf(tokensOf(good())[0]!, raw)), 'DISCHARGE_UNASKED')

  const inner = new MacaroonsBuilder(AT.location, 'caveat key', ticket)
    .add_third_party_caveat(AT.location, 'k', ticket)
    .getMacaroon()
    .serialize()
  t.equal(
    judge(headerOf(asking.serialize(), bind(inner))),
    'DISCHARGE_NESTED',
    'a loop that macaroons.js would follow to the end of its stack',
  )
})

test('sizes and counts are limited before any cryptography', async (t) => {
  t.equal(judge(`FlyV1 ${'A'.repeat(8 * 1024)}`), 'TOKEN_TOO_LONG')
  t.equal(judge(headerOf(sign(Array.from({ length: 33 }, () => 'org = example')))), 'TOO_MANY_CAVEATS')
  const discharges = Array.from({ length: 5 }, (_x, i) =>
    sign([], { location: 'https://api.fly.io/aaa/v1', identifier: String(i).repeat(32) }),
  )
  t.equal(judge(headerOf(sign(SET), ...discharges)), 'TOO_MANY_DISCHARGES')
})

test('no header, and what is no token at all', async (t) => {
  t.equal(judge(undefined), 'HEADER_MISSING')
  for (const header of [
    '',
    'FlyV1',
    'FlyV1 ',
    'FlyV1 ,',
    'FlyV1 AAAA',
    'Basic eDp5',
    'FlyV1 ____',
    `FlyV1 ${Buffer.from('0003').toString('base64url').repeat(20)}`,
  ]) {
    t.not(judge(header), 'CLEARED', JSON.stringify(header))
  }
})

test('no predicate of anybody can be given to macaroons.js, so none can be a Promise', async (t) => {
  const source = readdirSync('src/flyd').map((name) => [name, readFileSync(`src/flyd/${name}`, 'utf8')] as const)
  for (const [name, text] of source) t.notMatch(text, /\.satisfyGeneral\(|new TimestampCaveatVerifier/, name)
  // @ts-expect-error the declaration leaves it out
  const absent = (v: InstanceType<typeof macaroons.MacaroonsVerifier>): unknown => v.satisfyGeneral
  t.type(absent, 'function')
  // A caveat that nobody can judge is refused by its grammar, before any predicate could be asked.
  t.equal(judge(headerOf(sign([...SET, 'async = yes']))), 'CAVEAT_UNKNOWN')
})

test('every cut and every flipped bit of a good header is refused', async (t) => {
  const header = good('discharged')
  for (let end = 0; end < header.length; end++) if (judge(header.slice(0, end)) === 'CLEARED') t.fail(`cut at ${end}`)
  const [permission = '', discharge = ''] = tokensOf(header)
  for (const which of [0, 1]) {
    const bytes = bytesOf(packetsOf(which === 0 ? permission : discharge))
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const flipped = Buffer.from(bytes)
      flipped[bit >> 3]! ^= 1 << (bit & 7)
      const text = flipped.toString('base64url')
      if (judge(which === 0 ? headerOf(text, discharge) : headerOf(permission, text)) === 'CLEARED')
        t.fail(`token ${which}, bit ${bit}`)
    }
  }
  t.pass()
})

test('no bytes whatever make it throw', async (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.constantFrom('', 'FlyV1 '), (bytes, scheme) => {
      return (
        judge(scheme + Buffer.from(bytes).toString('base64url')) !== 'CLEARED' &&
        judge(scheme + Buffer.from(bytes).toString('latin1')) !== 'CLEARED'
      )
    }),
    { numRuns: 500 },
  )
  t.pass()
})
