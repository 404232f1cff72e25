import { existsSync, readFileSync } from 'node:fs'
import { test } from 'tap'
import { anatomy } from '../../src/proxy/anatomy.ts'
import type { Part } from '../../src/proxy/anatomy.ts'
import { Dice, FORMATS, credential, msgpack, packets, weather } from '../../src/canary/credentials.ts'
import { headerValue } from '../../src/canary/speller.ts'

const alloc = (n: number): Buffer => Buffer.alloc(n)
const judge = (value: string | Buffer): ReturnType<typeof anatomy> => anatomy(Buffer.from(value), alloc)
const flags = (part: Part): boolean[] => [...part.secret].map((s) => s === 1)
const LINE = 'Authorization: '.length

for (const format of FORMATS) {
  test(`${format}: the bytes that were made secret are secret, and no others`, async (t) => {
    for (let seed = 0; seed < 20; seed++) {
      const made = credential(new Dice(`${format}${seed}`), format)
      const { line, decoded, tokens } = judge(made.value)
      t.equal(Buffer.from(line.bytes).toString(), `Authorization: ${made.value.toString()}`)
      t.strictSame(flags(line).slice(LINE), headerValue(made).secret)
      t.equal(tokens.length, made.tokens.length)
      made.decoded.forEach((known, i) => {
        t.ok(known.bytes.equals(decoded[i]!.bytes))
        t.strictSame(flags(decoded[i]!), known.secret)
      })
    }
  })
}

test('a base64 character that a public byte has a part in is not secret', async (t) => {
  const known = msgpack(new Dice(1), weather)
  const { line } = judge(`FlyV1 fm2_${known.bytes.toString('base64')}`)
  // 0x94 0x93 0xc4 0x10 and 16 secret bytes: characters 0 to 5 draw on the first four.
  t.strictSame(flags(line).slice(LINE + 10, LINE + 18), [false, false, false, false, false, false, true, true])
})

test('scheme words, prefixes and commas of tokens that are understood are public', async (t) => {
  for (const scheme of ['FlyV1 ', 'Bearer ', '']) {
    const { line } = judge(`${scheme}fm2_${msgpack(new Dice(2), weather).bytes.toString('base64')}`)
    t.notOk(
      flags(line)
        .slice(0, LINE + scheme.length + 4)
        .includes(true),
    )
  }
})

test('what does not parse to its last byte is secret throughout', async (t) => {
  const fm2 = msgpack(new Dice(3), weather).bytes
  const v1 = packets(new Dice(3), weather, true).bytes
  const b64 = (b: Buffer): string => b.toString('base64')
  const broken: Record<string, string> = {
    'bytes after fm2': `fm2_${b64(Buffer.concat([fm2, Buffer.of(0xc0)]))}`,
    'fm2 cut short': `fm2_${b64(fm2.subarray(0, -1))}`,
    'fm2 of three': `fm2_${b64(Buffer.concat([Buffer.of(0x93), fm2.subarray(1)]))}`,
    'a type that msgpack never uses': `fm2_${b64(Buffer.from([0x94, 0xc1, 0xc0, 0xc0, 0xc0]))}`,
    'an extension': `fm2_${b64(Buffer.from([0x94, 0xd4, 1, 2, 0xc0, 0xc0, 0xc0]))}`,
    'a length beyond the end': `fm2_${b64(Buffer.from([0x94, 0xc6, 0xff, 0xff, 0xff, 0xff, 1, 2]))}`,
    'four billion items': `fm2_${b64(Buffer.from([0xdd, 0xff, 0xff, 0xff, 0xff, 0xc0]))}`,
    'a prefix with nothing behind': 'fm2_',
    'an unknown prefix': `fm3_${b64(fm2)}`,
    'bytes after v1': b64(Buffer.concat([v1, Buffer.from('x')])),
    'v1 without a signature': b64(v1.subarray(0, -48)),
    'v1 with a wrong length': b64(Buffer.concat([Buffer.from('0006'), v1.subarray(4)])),
    'v1 with a size that is not hex': b64(Buffer.concat([Buffer.from('zzzz'), v1.subarray(4)])),
    'v1 with an unknown packet': b64(Buffer.concat([v1.subarray(0, 36), Buffer.from('000bfoo ab\n'), v1.subarray(36)])),
    'not base64': '~~~~~',
    'a length that base64 has not': 'abcde',
    'padding of three': 'abc===',
  }
  for (const [name, token] of Object.entries(broken)) {
    const { line, decoded } = judge(`FlyV1 ${token}`)
    t.notOk(
      flags(line)
        .slice(LINE + 6)
        .includes(false),
      name,
    )
    for (const part of decoded) t.notOk(flags(part).includes(false), `${name}, decoded`)
  }
  t.strictSame(judge('FlyV1 ').tokens, [])
  t.equal(judge('FlyV1 ,,').decoded.length, 0)
})

test('every msgpack type that a token may hold is walked over', async (t) => {
  const items = [
    [0x7f],
    [0xe0],
    [0xc0],
    [0xc2],
    [0xc3],
    [0x81, 0xa1, 0x61, 0x01],
    [0x91, 0x05],
    [0xc4, 2, 9, 9],
    [0xc5, 0, 2, 9, 9],
    [0xc6, 0, 0, 0, 2, 9, 9],
    [0xca, 0, 0, 0, 0],
    [0xcb, 0, 0, 0, 0, 0, 0, 0, 0],
    [0xcc, 1],
    [0xcd, 0, 1],
    [0xce, 0, 0, 0, 1],
    [0xcf, 0, 0, 0, 0, 0, 0, 0, 1],
    [0xd0, 1],
    [0xd1, 0, 1],
    [0xd2, 0, 0, 0, 1],
    [0xd3, 0, 0, 0, 0, 0, 0, 0, 1],
    [0xd9, 1, 0x61],
    [0xda, 0, 1, 0x61],
    [0xdb, 0, 0, 0, 1, 0x61],
    [0xdc, 0, 1, 0x05],
    [0xdd, 0, 0, 0, 1, 0x05],
    [0xde, 0, 1, 0x05, 0x05],
    [0xdf, 0, 0, 0, 1, 0x05, 0x05],
  ]
  const bytes = Buffer.from([0x94, 0xdc, 0, items.length, ...items.flat(), 0xc0, 0xc0, 0xc4, 2, 9, 9])
  const { decoded } = judge(`FlyV1 fm2_${bytes.toString('base64')}`)
  t.strictSame(
    flags(decoded[0]!),
    [...bytes].map((b) => b === 9),
  )
})

for (const file of ['machine.json', 'macaroon-elixir.json']) {
  const path = new URL(`../../../shared/vectors/${file}`, import.meta.url)
  const skip = existsSync(path) ? false : `${path.pathname} is not here`
  test(`vectors of ${file}: real tokens are understood, and their tails are secret`, { skip }, async (t) => {
    const values = new Set(readFileSync(path, 'utf8').match(/FlyV1 fm2_[A-Za-z0-9+/=,_]+/g))
    t.ok(values.size > 10)
    let whole = 0
    for (const value of values) {
      const { line, tokens } = judge(value)
      const understood = tokens.every(({ secret }) => secret[0] === 0)
      // Vectors of truncated tokens and of trailing bytes must be secret throughout instead.
      if (understood) whole++
      else t.ok(tokens.some(({ secret }) => secret.every((s) => s === 1)))
      t.equal(line.secret.at(-4), 1)
    }
    t.ok(whole >= values.size - 6, `${whole} of ${values.size}`)
  })
}
