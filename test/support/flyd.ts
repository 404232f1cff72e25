// A flyd made of bytes: it records what reaches it on each connection, reads it with a parser that shares no code
// with the proxy, and answers what the test says.

import { createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { JWT } from './corpus.ts'

export interface Seen {
  readonly method: string
  readonly target: string
  /** Names as sent. */
  readonly fields: readonly (readonly [string, string])[]
  readonly body: string
  /** Exactly as received. */
  readonly raw: string
}

export interface FlydConnection {
  readonly id: number
  readonly socket: Socket
  readonly requests: Seen[]
  /** All bytes that came, as latin1. */
  received: string
  unread: string
  closed: boolean
}

export interface RawFlyd {
  readonly url: string
  readonly port: number
  readonly connections: FlydConnection[]
  readonly requests: Seen[]
  /** Called for each request; replace it as the test goes. */
  answer: (seen: Seen, connection: FlydConnection) => void
  /** Accepts no more and cuts what is open. */
  kill(): Promise<void>
}

export const sized = (body: string, type = 'application/json; charset=utf-8', status = '200 OK'): string =>
  `HTTP/1.1 ${status}\r\ncontent-type: ${type}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`

export const TOKEN_ANSWER = sized(JWT, 'text/plain; charset=utf-8')
export const JSON_ANSWER = sized('{"ok":true}')

/** What a healthy flyd says. */
export const healthy = (seen: Seen, { socket }: FlydConnection): void => {
  socket.write(seen.target === '/v1/tokens/oidc' ? TOKEN_ANSWER : JSON_ANSWER)
}

export async function startFlyd(
  t: { teardown(end: () => Promise<void> | void): void },
  on: 'unix' | 'tcp' = 'unix',
): Promise<RawFlyd> {
  const directory = mkdtempSync(join(tmpdir(), 'dotfly-flyd-'))
  const path = join(directory, 'flyd')
  const connections: FlydConnection[] = []
  const requests: Seen[] = []
  const server: Server = createServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
    const connection: FlydConnection = {
      id: connections.length,
      socket,
      requests: [],
      received: '',
      unread: '',
      closed: false,
    }
    connections.push(connection)
    socket.on('error', () => socket.destroy())
    socket.on('end', () => socket.end())
    socket.on('close', () => (connection.closed = true))
    socket.on('data', (bytes: Buffer) => {
      connection.received += bytes.toString('latin1')
      connection.unread += bytes.toString('latin1')
      for (;;) {
        const seen = take(connection)
        if (seen === undefined) return
        connection.requests.push(seen)
        requests.push(seen)
        flyd.answer(seen, connection)
      }
    })
  })
  await new Promise<void>((listening) => {
    if (on === 'unix') server.listen({ path }, listening)
    else server.listen({ host: '127.0.0.1', port: 0 }, listening)
  })
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  let killed: Promise<void> | undefined
  const flyd: RawFlyd = {
    url: on === 'unix' ? `unix:${path}` : `http://127.0.0.1:${port}`,
    port,
    connections,
    requests,
    answer: healthy,
    kill: () =>
      (killed ??= new Promise((closed) => {
        server.close(() => closed())
        for (const { socket } of connections) socket.destroy()
      })),
  }
  t.teardown(async () => {
    await flyd.kill()
    rmSync(directory, { recursive: true, force: true })
  })
  return flyd
}

/** Takes one request off the front; throws when what came is none. */
function take(connection: FlydConnection): Seen | undefined {
  const end = connection.unread.indexOf('\r\n\r\n')
  if (end < 0) return undefined
  const [line = '', ...rest] = connection.unread.slice(0, end).split('\r\n')
  const words = line.split(' ')
  if (words.length !== 3 || words[2] !== 'HTTP/1.1') throw new Error(`flyd was sent ${JSON.stringify(line)}`)
  const fields = rest.map((text): [string, string] => {
    const colon = text.indexOf(': ')
    if (colon < 1) throw new Error(`flyd was sent the field line ${JSON.stringify(text)}`)
    return [text.slice(0, colon), text.slice(colon + 2)]
  })
  const lengths = fields.filter(([name]) => name.toLowerCase() === 'content-length')
  if (lengths.length > 1) throw new Error('flyd was sent two lengths')
  const length = Number(lengths[0]?.[1] ?? 0)
  const stop = end + 4 + length
  if (connection.unread.length < stop) return undefined
  const raw = connection.unread.slice(0, stop)
  connection.unread = connection.unread.slice(stop)
  return { method: words[0] ?? '', target: words[1] ?? '', fields, body: raw.slice(end + 4), raw }
}
