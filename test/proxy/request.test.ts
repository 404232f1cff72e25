// The request reader: bytes in, value out, at every split.

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { test } from 'tap'
import { BODY_LIMIT, RequestReader } from '../../src/proxy/request.ts'
import type { Head, Request } from '../../src/proxy/request.ts'
import { Seen } from '../../src/proxy/seen.ts'
import { readCases } from '../support/corpus.ts'

type Read = Request | string

/** All that is read when `bytes` come in `parts`, up to the first refusal. */
function readAll(...parts: (string | Buffer)[]): { read: Read[]; partial: boolean } {
  const reader = new RequestReader()
  const read: Read[] = []
  for (const part of parts) {
    reader.push(typeof part === 'string' ? Buffer.from(part, 'latin1') : Buffer.from(part))
    for (;;) {
      const one = reader.read()
      if (one === undefined) break
      read.push(one)
      if (typeof one === 'string') return { read, partial: true }
    }
  }
  return { read, partial: reader.partial }
}

const told = ({ read, partial }: ReturnType<typeof readAll>): string =>
  JSON.stringify({
    partial,
    read: read.map((one) => (typeof one === 'string' ? one : { ...one, body: one.body.toString('latin1') })),
  })

const POST = 'POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}'
const CHUNKED = 'PUT /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;x\r\n{\r\n1\r\n}\r\n0\r\n\r\n'

test('a request is a value', (t) => {
  const { read } = readAll(POST)
  t.match(read, [{ method: 'POST', target: '/v1/x', http10: false, keepAlive: true, expects: false }])
  const [first] = read
  if (typeof first !== 'object') throw new Error('not read')
  t.same(first.body, Buffer.from('{}'))
  t.same(first.fields, [
    ['host', 'a'],
    ['content-length', '2'],
  ])
  t.end()
})

test('every split in two and in three of short inputs reads the same', (t) => {
  const inputs = [
    POST + CHUNKED,
    CHUNKED + POST,
    'GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nX : y\r\n\r\n',
    'GET /\n\n',
    POST.slice(0, -1),
  ]
  for (const input of inputs) {
    const whole = told(readAll(input))
    for (let i = 0; i <= input.length; i++) {
      const two = told(readAll(input.slice(0, i), input.slice(i)))
      if (two !== whole) t.equal(two, whole, `split at ${i}`)
      for (let j = i; j <= input.length; j += 3) {
        const three = told(readAll(input.slice(0, i), input.slice(i, j), input.slice(j)))
        if (three !== whole) t.equal(three, whole, `split at ${i} and ${j}`)
      }
    }
    t.pass(`${input.length} bytes`)
  }
  t.end()
})

test('a request reads the same whatever its connection has said before, to the byte or nearly so', (t) => {
  const inputs = [
    POST,
    POST.replace('{}', '[]'), // the same head
    POST.replace('Host: a', 'Host: b'),
    POST.replace('2', '3') + ' ',
    POST.replace('POST', 'POSE'),
    POST.replace('\r\n\r\n', '\r\nExpect: 100-continue\r\n\r\n'),
    POST.replace('\r\n\r\n', '\r\nX: y\r\n\r\n'),
    POST.replace('1.1', '1.0'),
    POST.replace('Host: a', `Host: a\r\nX: ${'y'.repeat(1100)}`), // too long to be known again
    CHUNKED,
    CHUNKED.replace('{', '['),
    'GET /a HTTP/1.1\r\nHost: a\r\n\r\n',
    'GET /a HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n', // refused
  ]
  for (const first of inputs.slice(0, -1)) {
    for (const second of inputs) {
      const alone = readAll(first).read.concat(readAll(second).read)
      const expected = told({ read: alone, partial: readAll(second).partial })
      t.equal(told(readAll(first + second)), expected, JSON.stringify([first, second]))
      t.equal(told(readAll(first, second)), expected)
      t.equal(told(readAll(...(first + second))), expected)
    }
  }
  t.end()
})

test('what one guest sends behind its head is not kept for others', (t) => {
  const seen = new Seen<Head>()
  const reader = new RequestReader(seen)
  for (const body of ['{}', '[]']) {
    reader.push(Buffer.from(POST.replace('{}', body)))
    t.match(reader.read(), { body: Buffer.from(body) })
    t.equal(seen.last?.body.length, 0)
  }
  t.end()
})

test('what is expected is judged by its head alone, though the one before had a body', (t) => {
  const reader = new RequestReader()
  const words = POST.replace('\r\n\r\n', '\r\nExpect: 100-continue\r\n\r\n')
  reader.push(Buffer.from(words))
  t.match(reader.read(), { body: Buffer.from('{}') })
  reader.push(Buffer.from(words.slice(0, -2)))
  t.equal(reader.read(), undefined)
  t.equal(reader.expecting()?.body.length, 0)
  t.end()
})

test('every case of the corpus reads the same whole and byte by byte', (t) => {
  for (const { name, bytes } of readCases('request')) {
    const whole = told(readAll(bytes))
    const single = told(readAll(...Array.from(bytes, (_, i) => bytes.subarray(i, i + 1))))
    t.equal(single, whole, name)
  }
  t.end()
})

test('limits, each at its last byte and one beyond, whole and byte by byte', (t) => {
  const first = (input: string): string => {
    const [whole] = readAll(input).read
    const [single] = readAll(...Array.from(input)).read
    const word = (one: Read | undefined): string => (typeof one === 'object' ? 'read' : (one ?? 'more'))
    t.equal(word(single), word(whole))
    return word(whole)
  }
  const line = (n: number): string => `GET /${'a'.repeat(n - 'GET / HTTP/1.1'.length)} HTTP/1.1\r\nHost: a\r\n\r\n`
  t.equal(first(line(8192)), 'read')
  t.equal(first(line(8193)), 'REQUEST_LINE_TOO_LONG')
  const head = (n: number): string => {
    const bare = 'GET / HTTP/1.1\r\nHost: a\r\nX: '
    return `${bare}${'a'.repeat(n - bare.length)}\r\n\r\n`
  }
  t.equal(first(head(16_384)), 'read')
  t.equal(first(head(16_385)), 'REQUEST_HEAD_TOO_LARGE')
  const body = (n: number): string => `POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ${n}\r\n\r\n`
  t.equal(first(body(BODY_LIMIT)), 'more')
  t.equal(first(body(BODY_LIMIT + 1)), 'REQUEST_BODY_TOO_LARGE')
  const extension = (n: number): string =>
    `POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0;${'a'.repeat(n - 2)}\r\n\r\n`
  t.equal(first(extension(256)), 'read')
  t.equal(first(extension(257)), 'REQUEST_MALFORMED')
  t.end()
})

test('never throws, whatever the bytes', (t) => {
  let x = 88172645
  const random = (): number => {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    return x >>> 0
  }
  const seeds = [POST, CHUNKED].map((text) => Buffer.from(text))
  for (let i = 0; i < 20_000; i++) {
    const bytes = Buffer.from(seeds[i % 2] ?? '')
    for (let n = random() % 4; n >= 0; n--) bytes[random() % bytes.length] = random() & 0xff
    const at = random() % bytes.length
    readAll(bytes.subarray(0, at), bytes.subarray(at))
  }
  t.pass('20,000 mutations')
  t.end()
})

setFlagsFromString('--expose-gc')
const gc: unknown = runInNewContext('gc')
const collect = (): void => {
  if (typeof gc === 'function') Reflect.apply(gc, undefined, [])
}

test('memory is bounded: what a guest keeps alive is a small multiple of the body limit', (t) => {
  // One byte a chunk, the longest extension, each read in a buffer of its own: the parts must not hold those buffers.
  const reader = new RequestReader()
  reader.push(Buffer.from('POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n'))
  collect()
  const before = process.memoryUsage().arrayBuffers
  for (let i = 0; i < 2000; i++) {
    const slab = Buffer.alloc(65_536)
    slab.write('1\r\na\r\n')
    reader.push(slab.subarray(0, 6))
    if (reader.read() !== undefined) t.fail('read too early')
  }
  collect()
  const held = (process.memoryUsage().arrayBuffers - before) / 1024 / 1024
  t.ok(held < 64, `holds ${held.toFixed(0)} MiB for 2000 bytes that came in 2000 reads`)
  t.end()
})

test('bytes that come one at a time are not copied each time', (t) => {
  // Operations are counted as bytes that Buffer#copy moves.
  const reader = new RequestReader()
  const { copy } = Buffer.prototype
  let moved = 0
  Buffer.prototype.copy = function (...words: Parameters<typeof copy>): number {
    const n: number = copy.apply(this, words)
    moved += n
    return n
  }
  t.teardown(() => {
    Buffer.prototype.copy = copy
  })
  const input = `POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n${'x'.repeat(60_000)}`
  let read: Read | undefined
  for (const c of input) {
    reader.push(Buffer.from(c))
    read = reader.read() ?? read
  }
  t.equal(typeof read, 'object')
  t.ok(moved < 4 * input.length, `${moved} bytes moved for ${input.length}`)
  t.end()
})

test('expecting: once, and not when the body is here', (t) => {
  const head = 'POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n'
  const reader = new RequestReader()
  reader.push(Buffer.from(head))
  t.equal(reader.read(), undefined)
  t.match(reader.expecting(), { method: 'POST' })
  t.equal(reader.expecting(), undefined)
  reader.push(Buffer.from('{}'))
  t.match(reader.read(), { expects: true })
  const eager = new RequestReader()
  eager.push(Buffer.from(`${head}{`))
  t.equal(eager.read(), undefined)
  t.equal(eager.expecting(), undefined)
  t.end()
})
