// How fast the strip engine reads, beside memcpy in the same run: `node bench/strip.ts [rounds]`.
// Rounds are interleaved, so that a slow second of the machine falls on all alike; medians are printed.

import { createHash } from 'node:crypto'
import { secretMemory } from '../src/proxy/secret.ts'
import { Needles, Strip, stripWhole } from '../src/proxy/strip.ts'
import { Dice, credential } from '../src/canary/credentials.ts'

const CHUNK = 65_536
const TOTAL = 16 * 1_048_576
const rounds = Number(process.argv[2] ?? 9)
const dice = new Dice('bench')

function random(n: number): Buffer {
  return Buffer.concat(Array.from({ length: n / 64 }, (_, i) => createHash('sha512').update(`${i}`).digest()))
}

function machines(): string {
  const one = (i: number): unknown => ({
    id: dice.bytes(7).toString('hex'),
    name: `ancient-snow-${i}`,
    state: 'started',
    region: 'yyz',
    instance_id: '01' + dice.text(24, '0123456789ABCDEFGHJKMNPQRSTVWXYZ'),
    private_ip: 'fdaa:0:18:a7b:196:e274:9ce1:2',
    config: { env: { PORT: '8080', APP: 'weather-cat' }, guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 256 } },
    image_ref: { registry: 'registry-1.docker.io', digest: `sha256:${dice.bytes(32).toString('hex')}` },
    created_at: '2026-05-01T11:22:33Z',
  })
  return JSON.stringify(Array.from({ length: 4000 }, (_, i) => one(i)))
}

const filled = (text: string): Buffer => Buffer.alloc(TOTAL, text)
const bytes = random(TOTAL)
const words = 'the machine was started in region yyz after a health check of its volume passed; see logs (id 4)'.split(
  ' ',
)
const bodies: Record<string, Buffer> = {
  'compact JSON': filled(machines()),
  'pretty JSON': filled(JSON.stringify(JSON.parse(machines()), null, 2)),
  base64: Buffer.from(bytes.toString('base64').slice(0, TOTAL)),
  'base64 in lines of 76': filled(bytes.subarray(0, 1_048_576).toString('base64').replace(/.{76}/g, '$&\r\n')),
  'text (words)': filled(Array.from({ length: 100_000 }, () => dice.pick(words)).join(' ')),
  'text (random letters)': Buffer.from(bytes.map((b) => 0x61 + (b % 26))),
  'text (95 characters)': Buffer.from(bytes.map((b) => 0x20 + (b % 95))),
  'random bytes': bytes,
}

const subject = credential(new Dice(1), 'fm2 with a discharge')
const needles = new Needles(subject.value, secretMemory(Needles.memory(subject.value.length)))
const small = Buffer.from(`${dice.text(120)}.${dice.text(480)}.${dice.text(98)}`)
const target = Buffer.alloc(CHUNK)

const seconds = (work: () => void): number => {
  const from = process.hrtime.bigint()
  work()
  return Number(process.hrtime.bigint() - from) / 1e9
}
const chunked =
  (body: Buffer, work: (chunk: Buffer) => void): (() => void) =>
  () => {
    for (let i = 0; i < body.length; i += CHUNK) work(body.subarray(i, i + CHUNK))
  }

const cases: [string, () => number][] = [['memcpy', () => TOTAL / seconds(chunked(bytes, (c) => c.copy(target))) / 1e9]]
for (const [name, body] of Object.entries(bodies)) {
  cases.push([
    name,
    () => {
      const strip = new Strip(needles)
      const speed = TOTAL / seconds(chunked(body, (c) => strip.push(c))) / 1e9
      if (strip.hits > 0) throw new Error('an innocent body was touched')
      return speed
    },
  ])
}
const bodyNs = (work: () => void) => (): number =>
  (seconds(() => {
    for (let i = 0; i < 20_000; i++) work()
  }) /
    20_000) *
  1e9
const NS: [string, () => number][] = [
  ['700-byte body, whole', bodyNs(() => stripWhole(needles, small))],
  [
    '700-byte body, push and end',
    bodyNs(() => {
      const s = new Strip(needles)
      s.push(small)
      s.end()
    }),
  ],
]

const results = new Map<string, number[]>()
for (let round = 0; round < rounds; round++) {
  for (const [name, work] of [...cases, ...NS]) {
    const list = results.get(name) ?? []
    results.set(name, [...list, work()])
  }
}
const median = (list: number[]): number => list.toSorted((a, b) => a - b)[list.length >> 1]!
console.log(`credential of ${subject.value.length} bytes, chunks of 64 KiB, ${rounds} rounds, medians`)
for (const [name] of cases) console.log(`${name.padEnd(28)} ${median(results.get(name)!).toFixed(2).padStart(7)} GB/s`)
for (const [name] of NS) console.log(`${name.padEnd(28)} ${median(results.get(name)!).toFixed(0).padStart(7)} ns`)
