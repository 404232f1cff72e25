// Two readers side by side: ours and Node's llhttp, on the same bytes.

import * as fc from 'fast-check'
import { createServer, request as ask } from 'node:http'
import type { IncomingMessage, Server } from 'node:http'
import { Duplex } from 'node:stream'
import { compile } from '../../src/proxy/policy.ts'
import { RequestReader } from '../../src/proxy/request.ts'
import type { Request } from '../../src/proxy/request.ts'
import { ResponseReader } from '../../src/proxy/response.ts'
import { APP, MACHINE } from './corpus.ts'

/** A stream whose other side is the test: what is pushed is read, what is written is thrown away. */
class Wire extends Duplex {
  override _read(): void {}
  override _write(_chunk: Buffer, _encoding: string, done: () => void): void {
    done()
  }
  // What node:http asks of a socket.
  setTimeout(): this {
    return this
  }
  setKeepAlive(): this {
    return this
  }
  setNoDelay(): this {
    return this
  }
  ref(): this {
    return this
  }
  unref(): this {
    return this
  }
}

export interface ReadRequest {
  readonly method: string
  readonly target: string
  readonly body: string
}

/** What our reader makes of one connection's bytes. */
export function ours(bytes: Buffer): { read: (Request & { readonly text: string })[]; refused: string | undefined } {
  const reader = new RequestReader()
  const read: (Request & { readonly text: string })[] = []
  reader.push(Buffer.from(bytes))
  for (;;) {
    const one = reader.read()
    if (one === undefined) return { read, refused: undefined }
    if (typeof one === 'string') return { read, refused: one }
    read.push({ ...one, text: one.body.toString('latin1') })
    // The proxy closes behind these, whatever follows.
    const verdict = judge(one)
    if (verdict === 'METHOD_NOT_ALLOWED' || verdict === 'TARGET_MALFORMED') {
      read.pop()
      return { read, refused: verdict }
    }
    if (!one.keepAlive) return { read, refused: undefined }
  }
}

let server: Server | undefined
const sinks = new WeakMap<
  Duplex,
  { read: ReadRequest[]; open: number; failed: string | undefined; settle: () => void }
>()

/** What llhttp makes of them, as a node:http server. */
export async function llhttp(bytes: Buffer): Promise<{ read: ReadRequest[]; failed: string | undefined }> {
  server ??= createServer({
    insecureHTTPParser: false,
    keepAliveTimeout: 0,
    requestTimeout: 0,
    headersTimeout: 0,
    connectionsCheckingInterval: 1e9,
  })
    .on('request', (message, answer) => {
      const sink = sinks.get(message.socket)
      if (sink === undefined) return
      sink.open++
      const parts: Buffer[] = []
      message.on('data', (part: Buffer) => parts.push(part))
      message.on('end', () => {
        sink.read.push({
          method: message.method ?? '',
          target: message.url ?? '',
          body: Buffer.concat(parts).toString('latin1'),
        })
        answer.writeHead(204, { connection: 'keep-alive' })
        answer.end()
        sink.open--
      })
    })
    .on('checkContinue', (message, answer) => void server?.emit('request', message, answer))
    .on('clientError', (error: NodeJS.ErrnoException, socket) => {
      const sink = sinks.get(socket)
      if (sink !== undefined) sink.failed ??= error.code ?? 'error'
      sink?.settle()
    })
  const wire = new Wire()
  const sink = {
    read: [] as ReadRequest[],
    open: 0,
    failed: undefined as string | undefined,
    settle: () => undefined as void,
  }
  sinks.set(wire, sink)
  const settled = new Promise<void>((resolve) => {
    sink.settle = resolve
    wire.on('close', () => resolve())
  })
  wire.on('error', () => undefined)
  server.emit('connection', wire)
  wire.push(bytes)
  // No timers: a fixed number of turns is enough, since nothing here waits for a kernel.
  await Promise.race([settled, turns(6 + 2 * count(bytes))])
  wire.destroy()
  return { read: sink.read, failed: sink.failed }
}

const count = (bytes: Buffer): number => bytes.toString('latin1').split('\r\n\r\n').length
const turns = async (n: number): Promise<void> => {
  for (let i = 0; i < n; i++) await new Promise(setImmediate)
}
export const bare = (url: string): string => {
  const [, rest] = /^https?:\/\/[^/?]*(.*)$/.exec(url) ?? []
  return rest === undefined ? url : rest === '' ? '/' : rest
}

/** Undefined when llhttp reads all that we accept in the same way; else what differs. */
export async function requestsDiffer(
  bytes: Buffer,
): Promise<{ why: string | undefined; accepted: number; refused: boolean }> {
  const mine = ours(bytes)
  const judged = mine.read
  const result = { accepted: judged.length, refused: mine.refused !== undefined }
  if (judged.length === 0) return { ...result, why: undefined }
  const theirs = await llhttp(bytes)
  for (const [i, { method, target, text }] of judged.entries()) {
    const other = theirs.read[i]
    if (other === undefined)
      return {
        ...result,
        why: `llhttp reads ${theirs.read.length} requests (${theirs.failed ?? 'no error'}), we ${judged.length}`,
      }
    const mine1 = JSON.stringify([method, target, text])
    // llhttp leaves the authority of an absolute form where it is.
    const same = other.target === target ? target : bare(other.target)
    const other1 = JSON.stringify([other.method, same, other.body])
    if (mine1 !== other1) return { ...result, why: `request ${i}: we ${mine1}, llhttp ${other1}` }
  }
  // Where the next one starts: once we want more bytes, llhttp has not read more either.
  if (mine.refused === undefined && judged.at(-1)?.keepAlive === true && theirs.read.length > judged.length) {
    return { ...result, why: `llhttp reads ${theirs.read.length} requests, we ${judged.length}` }
  }
  return { ...result, why: undefined }
}

/** What we would write to flyd for a request, less the credential; undefined where policy refuses. */
const judge = compile({ preset: 'all', allow: [], audiences: [], app: APP, machine: MACHINE })
export function asked(request: Request): { line: string; fields: string; body: string } | undefined {
  const ask = judge(request)
  return typeof ask === 'string'
    ? undefined
    : { line: `${ask.method} ${ask.target}`, fields: ask.fields, body: ask.body }
}

export interface ReadAnswer {
  status: number
  body: string
}

export function ourAnswer(bytes: Buffer): { read: ReadAnswer | undefined; result: string; rest: number } {
  const reader = new ResponseReader()
  const answer: ReadAnswer = { status: 0, body: '' }
  let result = 'more'
  let at = 0
  // Byte by byte, so that the end is known to the byte.
  while (at < bytes.length && result === 'more') {
    result = reader.read(Buffer.from(bytes.subarray(at, ++at)), {
      head: (head) => void (answer.status = head.status),
      part: (part) => void (answer.body += part.toString('latin1')),
      end: () => undefined,
    })
  }
  return { read: result === 'done' ? answer : undefined, result, rest: bytes.length - at }
}

/** What llhttp makes of an answer, as a node:http client that sees these bytes and then the end. */
export function llhttpAnswer(bytes: Buffer): Promise<{ read: ReadAnswer | undefined; failed: string | undefined }> {
  return new Promise((resolve) => {
    const wire = new Wire()
    const client = ask({
      createConnection: () => wire,
      host: 'x',
      method: 'GET',
      insecureHTTPParser: false,
      maxHeaderSize: 1 << 20,
    })
    const fail = (error: NodeJS.ErrnoException): void =>
      resolve({ read: undefined, failed: error.code ?? error.message })
    client.on('error', fail)
    client.on('upgrade', () => resolve({ read: undefined, failed: 'upgrade' }))
    client.on('response', (message: IncomingMessage) => {
      const parts: Buffer[] = []
      message.on('error', fail)
      message.on('data', (part: Buffer) => parts.push(part))
      message.on('end', () => {
        resolve({
          read: message.complete
            ? { status: message.statusCode ?? 0, body: Buffer.concat(parts).toString('latin1') }
            : undefined,
          failed: undefined,
        })
        wire.destroy()
      })
    })
    client.end()
    wire.on('error', () => undefined)
    wire.push(bytes)
    wire.push(null)
  })
}

export async function answersDiffer(bytes: Buffer): Promise<{ why: string | undefined; accepted: boolean }> {
  const mine = ourAnswer(bytes)
  if (mine.read === undefined) return { why: undefined, accepted: false }
  // To the end that we see and no further: what lies behind it destroys the connection, so nobody reads it.
  const theirs = await llhttpAnswer(bytes.subarray(0, bytes.length - mine.rest))
  const [a, b] = [JSON.stringify(mine.read), JSON.stringify(theirs.read)]
  if (a !== b) return { why: `we ${a}, llhttp ${b ?? theirs.failed}`, accepted: true }
  // One byte less must not be an end for them either.
  const short = await llhttpAnswer(bytes.subarray(0, bytes.length - mine.rest - 1))
  return { why: short.read === undefined ? undefined : 'llhttp sees the end earlier', accepted: true }
}

const oneOf = <T>(...values: T[]): fc.Arbitrary<T> => fc.constantFrom(...values)
const rarely = <T>(usual: fc.Arbitrary<T>, odd: fc.Arbitrary<T>): fc.Arbitrary<T> =>
  fc.oneof({ weight: 12, arbitrary: usual }, { weight: 1, arbitrary: odd })
const text = fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((c) => String.fromCharCode(c)), maxLength: 12 })
const eol = rarely(fc.constant('\r\n'), oneOf('\n', '\r', '\r\r\n', '\n\r\n', '\r\n '))
const framing = rarely(
  oneOf(
    'Content-Length: 0',
    'Content-Length: 2',
    'Content-Length: 5',
    'Content-Length: 05',
    'Transfer-Encoding: chunked',
    'X: y',
  ),
  oneOf(
    'Content-Length : 5',
    'Content-Length: +5',
    'Content-Length: 5, 5',
    'Transfer-Encoding: chunked, identity',
    'Transfer-Encoding : chunked',
    'transfer-encoding:\tchunked',
    'Content-Length:5',
    'Transfer-Encoding: Chunked',
    ' Content-Length: 5',
    'Content-Length:\x0b5',
    'Content_Length: 3',
    'Connection: close',
    'Connection: upgrade',
    'Keep-Alive: 1',
    'Expect: 100-continue',
    'Trailer: X',
    'Content-Length: 0x5',
    'Content-Length: 5 ',
    'Content-Length:',
    'X:',
    'Transfer-Encoding:',
  ),
)
const chunkLine = fc
  .tuple(
    oneOf('5', '05', '5', '2', 'a', '00005'),
    rarely(
      fc.constant(''),
      oneOf(';a', ';a=b', ' ', ' ;a', ';a="b"', ';', ';a=', ';;', ';\t', ';a="b', ';a b', '\t', ';a\n'),
    ),
  )
  .map(([size, ext]) => size + ext)
const bodies = fc.oneof(
  oneOf('', '{}', 'hello', '{}GET / HTTP/1.1\r\n'),
  fc
    .array(fc.tuple(chunkLine, eol, rarely(fc.constant('hello'), oneOf('he', 'hellohello', '')), eol), { maxLength: 3 })
    .map((list) => `${list.map((chunk) => chunk.join('')).join('')}0\r\n\r\n`),
  fc
    .tuple(oneOf('0', '00', '0;a', '0 ', '5\r\nhello\r\n0'), eol, oneOf('', 'X: y\r\n', 'X: y'), eol)
    .map((parts) => parts.join('')),
)
const requestLine = fc
  .tuple(
    rarely(oneOf('GET', 'POST', 'PUT', 'PATCH', 'DELETE'), oneOf('HEAD', 'OPTIONS', 'get', 'FOO', 'CONNECT', '')),
    rarely(fc.constant(' '), oneOf('  ', '\t', '')),
    rarely(
      oneOf('/v1/tokens/oidc', '/v1/x?y=z', '/', 'http://h/v1/x', 'http://h', 'http://h?x', 'https://[::1]:8/v1'),
      oneOf(
        '*',
        '/\x7f',
        '/#f',
        'http://u@h/',
        '//h/',
        '/é',
        '/%0d',
        'http:/x',
        'h:80',
        'http:///x',
        'HTTP://h/x',
        'http://h#f',
        '/"<>',
      ),
    ),
    rarely(
      fc.constant(' HTTP/1.1'),
      oneOf(' HTTP/1.0', ' HTTP/1.2', ' http/1.1', ' HTTP/1.1 ', '', ' HTTP/2.0', ' HTTP/1.10'),
    ),
  )
  .map((parts) => parts.join(''))
const fields = fc.array(rarely(framing, text), { maxLength: 3 })
const host = rarely(
  fc.constant('Host: localhost'),
  oneOf('Host:', 'Host: a b', 'X: y', 'host: [::1]', 'Host: a\x00', 'Host:\ta'),
)

const oneRequest = fc
  .tuple(requestLine, eol, host, eol, fields, bodies, rarely(fc.constant('\r\n'), eol))
  .map(
    ([line, e1, h, e2, list, body, e3]) =>
      `${line}${e1}${h}${e2}${list.map((field) => `${field}\r\n`).join('')}${e3}${body}`,
  )
export const randomRequests: fc.Arbitrary<Buffer> = fc
  .array(oneRequest, { minLength: 1, maxLength: 3 })
  .map((list) => Buffer.from(list.join(''), 'latin1'))

const statusLine = rarely(
  oneOf('HTTP/1.1 200 OK', 'HTTP/1.1 200', 'HTTP/1.1 404 ', 'HTTP/1.0 200 OK', 'HTTP/1.1 204 N', 'HTTP/1.1 500 x y z'),
  oneOf(
    'HTTP/1.1 205 R',
    'HTTP/1.1 304 N',
    'HTTP/1.1 2000 X',
    'HTTP/1.1  200 OK',
    'http/1.1 200 OK',
    'HTTP/1.1 200\tOK',
    'HTTP/1.1 20 OK',
    'HTTP/1.1 200 \x01',
    'HTTP/1.1 200 \xe9',
    'HTTP/1.2 200 OK',
    'HTTP/1.1 200OK',
  ),
)
const oneAnswer = fc
  .tuple(
    rarely(
      fc.constant(''),
      oneOf(
        'HTTP/1.1 100 C\r\n\r\n',
        'HTTP/1.1 103 E\r\nContent-Length: 5\r\n\r\n',
        'HTTP/1.1 102 P\r\nTransfer-Encoding: chunked\r\n\r\n',
        '\r\n',
      ),
    ),
    statusLine,
    eol,
    fields,
    bodies,
    rarely(fc.constant('\r\n'), eol),
  )
  .map(
    ([before, line, e1, list, body, e2]) =>
      `${before}${line}${e1}${list.map((field) => `${field}\r\n`).join('')}${e2}${body}`,
  )
export const randomAnswers: fc.Arbitrary<Buffer> = oneAnswer.map((all) => Buffer.from(all, 'latin1'))

/** A few edits of known bytes: overwrite, insert, delete, double. */
export const mutated = (seeds: readonly Buffer[]): fc.Arbitrary<Buffer> =>
  fc
    .tuple(
      fc.constantFrom(...seeds),
      fc.array(
        fc.tuple(
          fc.nat(),
          oneOf('set', 'insert', 'delete', 'double'),
          rarely(oneOf(0x0d, 0x0a, 0x20, 0x3a, 0x3b, 0x09, 0x2c, 0x30, 0x35, 0x00), fc.integer({ min: 0, max: 255 })),
        ),
        { minLength: 1, maxLength: 3 },
      ),
    )
    .map(([seed, edits]) => {
      let bytes: Buffer = Buffer.from(seed)
      for (const [where, how, byte] of edits) {
        const at = where % (bytes.length + 1)
        const [before, after] = [bytes.subarray(0, at), bytes.subarray(at)]
        if (how === 'set') bytes = Buffer.concat([before, Buffer.from([byte]), after.subarray(1)])
        else if (how === 'insert') bytes = Buffer.concat([before, Buffer.from([byte]), after])
        else if (how === 'delete') bytes = Buffer.concat([before, after.subarray(1)])
        else bytes = Buffer.concat([before, after.subarray(0, 9), after])
      }
      return bytes
    })
