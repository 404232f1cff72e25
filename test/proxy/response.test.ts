// The response reader: bytes in, value out, at every split.

import { test } from 'tap'
import { ResponseReader } from '../../src/proxy/response.ts'
import type { AnswerHead } from '../../src/proxy/response.ts'
import { readCases } from '../support/corpus.ts'

interface Told {
  heads: AnswerHead[]
  body: string
  ends: number
  result: string
  reusable: boolean
}

function readAll(...parts: (string | Buffer)[]): Told {
  return readEach(parts)
}

function readEach(parts: Iterable<string | Buffer>): Told {
  const reader = new ResponseReader()
  const told: Told = { heads: [], body: '', ends: 0, result: 'more', reusable: true }
  for (const part of parts) {
    told.result = reader.read(typeof part === 'string' ? Buffer.from(part, 'latin1') : Buffer.from(part), {
      head: (head) => told.heads.push(head),
      part: (bytes) => (told.body += bytes.toString('latin1')),
      end: () => told.ends++,
    })
    if (told.result !== 'more') break
  }
  told.reusable = told.result === 'done' && reader.reusable
  return told
}

const SIZED = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello'
const CHUNKED =
  'HTTP/1.1 103 X\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nT: u\r\n\r\n'

test('an answer is a head, parts, an end', (t) => {
  for (const text of [SIZED, CHUNKED]) {
    t.match(readAll(text), { heads: [{ status: 200 }], body: 'hello', ends: 1, result: 'done', reusable: true })
  }
  t.match(readAll(`${SIZED}X`), { result: 'done', reusable: false, body: 'hello' }, 'with bytes left over')
  t.match(readAll(SIZED.replace('X: y', 'Connection: close')), { result: 'done', reusable: false })
  t.match(readAll(SIZED.replace('1.1', '1.0')), { result: 'done', reusable: false })
  t.end()
})

test('every split in two and in three reads the same', (t) => {
  const inputs = [
    SIZED,
    CHUNKED,
    SIZED.replace('X:', 'X :'),
    CHUNKED.replace('hel\r', 'helX'),
    CHUNKED.replace('T:', 'T'),
    'HTTP/1.1 204 N\r\n\r\n',
  ]
  for (const input of inputs) {
    const whole = readAll(input)
    for (let i = 0; i <= input.length; i++) {
      for (let j = i; j <= input.length; j++) {
        const cut = readAll(...[input.slice(0, i), input.slice(i, j), input.slice(j)].filter((part) => part !== ''))
        // What comes before a fault may be told before it is seen; what is told must be a beginning of the same.
        const same =
          cut.result === whole.result &&
          (whole.result === 'done' ? cut.body === whole.body && cut.ends === 1 : whole.body.startsWith(cut.body))
        if (!same) t.same(cut, whole, `cut at ${i} and ${j}`)
      }
    }
    t.pass(`${input.length} bytes: ${whole.result}`)
  }
  t.end()
})

test('every case of the corpus reads the same whole and byte by byte', (t) => {
  for (const { name, bytes, says } of readCases('response')) {
    const whole = readAll(bytes)
    const single = readEach(Array.from(bytes, (_, i) => bytes.subarray(i, i + 1)))
    if (whole.result === 'done') t.same({ ...single, reusable: 0 }, { ...whole, reusable: 0 }, name)
    else t.equal(single.result, whole.result, name)
    t.ok(says.has('expect'))
  }
  t.end()
})

test('limits', (t) => {
  const both = (input: string): string => {
    const whole = readAll(input).result
    t.equal(readEach(input).result, whole)
    return whole
  }
  const head = (n: number): string => {
    const bare = 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: '
    return `${bare}${'a'.repeat(n - bare.length)}\r\n\r\n`
  }
  t.equal(both(head(65_536)), 'done')
  t.equal(both(head(65_537)), 'FLYD_TOO_LARGE')
  const line = (n: number): string =>
    `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0;${'a'.repeat(n - 2)}\r\n\r\n`
  t.equal(both(line(4096)), 'done')
  t.equal(both(line(4097)), 'FLYD_MALFORMED')
  const interim = (n: number): string => 'HTTP/1.1 100 Continue\r\n\r\n'.repeat(n) + SIZED
  t.equal(both(interim(8)), 'done')
  t.equal(both(interim(9)), 'FLYD_TOO_LARGE')
  const fields = (n: number): string => `HTTP/1.1 200 OK\r\nContent-Length: 0\r\n${'a: b\r\n'.repeat(n - 1)}\r\n`
  t.equal(both(fields(100)), 'done')
  t.equal(both(fields(101)), 'FLYD_TOO_LARGE')
  const trailers = (n: number): string =>
    `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n${'a: b\r\n'.repeat(n)}\r\n`
  t.equal(both(trailers(32)), 'done')
  t.equal(both(trailers(33)), 'FLYD_MALFORMED')
  t.end()
})

test('silent: true until the first byte of an answer', (t) => {
  const reader = new ResponseReader()
  const sink = { head: () => undefined, part: () => undefined, end: () => undefined }
  t.ok(reader.silent)
  reader.read(Buffer.from('H'), sink)
  t.notOk(reader.silent)
  const interim = new ResponseReader()
  interim.read(Buffer.from('HTTP/1.1 100 C\r\n\r\n'), sink)
  t.notOk(interim.silent, 'an interim answer is an answer')
  const again = new ResponseReader()
  again.read(Buffer.from(SIZED), sink)
  t.ok(again.silent, 'and so it is for the next')
  t.end()
})

test('parts are views, and sum up to the body: nothing is copied or kept', (t) => {
  const reader = new ResponseReader()
  const sink = { head: () => undefined, part: (part: Buffer) => (views.push(part), undefined), end: () => undefined }
  const views: Buffer[] = []
  reader.read(Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n'), sink)
  const block = Buffer.alloc(1000)
  for (let i = 0; i < 1000; i++) reader.read(block, sink)
  t.ok(views.every((view) => view.buffer === block.buffer))
  t.equal(
    views.reduce((sum, { length }) => sum + length, 0),
    1_000_000,
  )
  t.end()
})

test('never throws, whatever the bytes', (t) => {
  let x = 2463534242
  const random = (): number => {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    return x >>> 0
  }
  for (let i = 0; i < 20_000; i++) {
    const bytes = Buffer.from(i % 2 === 0 ? SIZED : CHUNKED)
    for (let n = random() % 4; n >= 0; n--) bytes[random() % bytes.length] = random() & 0xff
    const at = random() % bytes.length
    readAll(bytes.subarray(0, at), bytes.subarray(at))
  }
  t.pass('20,000 mutations')
  t.end()
})
