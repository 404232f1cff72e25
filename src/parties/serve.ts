// One small server on loopback: a whole request comes in as a Call, and what a party makes of it goes out as a Reply.
// Plain node:http, because SigV4 is computed over the target and the headers as they were on the wire.

import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { reason } from '../errors.ts'

export interface Call {
  readonly method: string
  /** As sent, still encoded, without the query. */
  readonly path: string
  /** As sent, still encoded, without the question mark. */
  readonly query: string
  /** Names in lower case; a header that was sent twice has its values joined as RFC 9110 5.2 does. */
  readonly headers: ReadonlyMap<string, string>
  readonly body: Buffer
}

export interface Reply {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | Uint8Array
}

export interface Party {
  readonly url: string
  close(): Promise<void>
}

export interface Listen {
  /** 0, the default, is any. */
  readonly port?: number | undefined
  readonly tls?: { readonly key: string; readonly cert: string }
}

/** No request of these protocols is longer: the largest token that STS takes has 20,000 characters. */
const BODY_LIMIT = 128 * 1024

export async function serve({ port, tls }: Listen, answer: (call: Call) => Promise<Reply>): Promise<Party> {
  const listener = (request: IncomingMessage, response: ServerResponse): void => {
    exchange(request, answer).then(
      (reply) => write(response, reply),
      // A fault of the mock itself. Whoever runs it must see it, and a test that asks for a status will.
      (caught: unknown) =>
        write(response, { status: 500, headers: PLAIN, body: `the mock failed: ${reason(caught)}\n` }),
    )
  }
  const server =
    tls === undefined ? createServer(listener) : createTlsServer({ key: tls.key, cert: tls.cert }, listener)
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen({ host: '127.0.0.1', port: port ?? 0 }, () => {
      server.off('error', reject)
      resolve()
    })
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new TypeError('a TCP server has a port')
  return {
    url: `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${address.port}`,
    close: () =>
      new Promise((resolve, reject) => {
        server.close((error) => (error === undefined ? resolve() : reject(error)))
        server.closeAllConnections()
      }),
  }
}

export const json = (status: number, body: object, headers: Readonly<Record<string, string>> = {}): Reply => ({
  status,
  headers: { 'content-type': 'application/json; charset=utf-8', 'cache-control': 'no-store', ...headers },
  body: JSON.stringify(body),
})

export const PLAIN = { 'content-type': 'text/plain; charset=utf-8' }

/** What kind of body the caller says it sent, without parameters. */
export const mediaType = (call: Call): string =>
  (call.headers.get('content-type') ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? ''

async function exchange(request: IncomingMessage, answer: (call: Call) => Promise<Reply>): Promise<Reply> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of request) {
    if (!Buffer.isBuffer(chunk)) throw new TypeError('node:http reads bodies as buffers')
    length += chunk.length
    if (length > BODY_LIMIT) return { status: 413, headers: { ...PLAIN, connection: 'close' }, body: 'too large\n' }
    chunks.push(chunk)
  }
  const target = request.url ?? '/'
  const mark = target.indexOf('?')
  return answer({
    method: request.method ?? '',
    path: mark === -1 ? target : target.slice(0, mark),
    query: mark === -1 ? '' : target.slice(mark + 1),
    headers: joined(request.rawHeaders),
    body: Buffer.concat(chunks),
  })
}

function joined(raw: readonly string[]): Map<string, string> {
  const headers = new Map<string, string>()
  for (let index = 0; index + 1 < raw.length; index += 2) {
    const name = raw[index]?.toLowerCase() ?? ''
    const before = headers.get(name)
    const value = raw[index + 1] ?? ''
    headers.set(name, before === undefined ? value : `${before},${value}`)
  }
  return headers
}

function write(response: ServerResponse, { status, headers, body }: Reply): void {
  const bytes = typeof body === 'string' ? Buffer.from(body) : body
  response.writeHead(status, { 'content-length': bytes.byteLength, ...headers })
  response.end(response.req.method === 'HEAD' ? undefined : bytes)
}
