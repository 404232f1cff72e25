// A guest made of bytes, and a client parser that shares no code with the proxy.

import { connect } from 'node:net'
import type { Socket } from 'node:net'

/** How bytes are cut on their way: all at once, in seven pieces, or one at a time. */
export const PLAYS = ['whole', 'seven', 'bytes'] as const
export type Play = (typeof PLAYS)[number]

export interface Answer {
  readonly status: number
  readonly reason: string
  readonly fields: ReadonlyMap<string, string>
  readonly body: string
}

/** Cuts at 256 single bytes at either end and 32 pieces between: long inputs would take seconds otherwise. */
export function pieces(bytes: Buffer, play: Play): Buffer[] {
  const cuts = new Set<number>([0])
  const step = play === 'whole' ? bytes.length : play === 'seven' ? Math.ceil(bytes.length / 7) : 1
  for (let at = 0; at < bytes.length; at += Math.max(1, step)) {
    const middle = play === 'bytes' && at > 256 && at < bytes.length - 256
    if (!middle || at % Math.ceil(bytes.length / 32) === 0) cuts.add(at)
  }
  const list = [...cuts].sort((a, b) => a - b)
  return list.map((from, i) => bytes.subarray(from, list[i + 1] ?? bytes.length))
}

/** Writes with a turn of the event loop between two pieces, so that they are read apart as a rule. */
export async function play(socket: Socket, bytes: Buffer, how: Play): Promise<void> {
  for (const piece of pieces(bytes, how)) {
    if (socket.destroyed || socket.writableEnded) return
    socket.write(piece)
    if (how !== 'whole') await new Promise(setImmediate)
  }
}

export class RawGuest {
  readonly socket: Socket
  received: Buffer = Buffer.alloc(0)
  #parts: Buffer[] = []
  /** The proxy ended its side, or the connection is gone. */
  ended = false
  error: string | undefined
  readonly #waiting = new Set<() => void>()

  constructor(path: string) {
    this.socket = connect({ path, allowHalfOpen: true })
    this.socket.on('data', (bytes: Buffer) => {
      this.#parts.push(bytes)
      this.#look()
    })
    const over = (): void => {
      this.ended = true
      this.#look()
    }
    this.socket.on('end', over)
    this.socket.on('close', over)
    this.socket.on('error', (error: NodeJS.ErrnoException) => {
      this.error = error.code ?? 'unknown'
      over()
    })
  }

  get answers(): Answer[] {
    if (this.#parts.length > 0) this.received = Buffer.concat([this.received, ...this.#parts.splice(0)])
    return parseAnswers(this.received.toString('latin1'), this.ended).answers
  }

  get bytes(): Buffer {
    if (this.#parts.length > 0) this.received = Buffer.concat([this.received, ...this.#parts.splice(0)])
    return this.received
  }

  until(holds: (guest: RawGuest) => boolean, what: string, ms = 20_000): Promise<this> {
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => {
        this.#waiting.delete(look)
        reject(new Error(`${what} did not come; got ${JSON.stringify(this.bytes.toString('latin1').slice(0, 300))}`))
      }, ms)
      const look = (): void => {
        if (!holds(this)) return
        clearTimeout(late)
        this.#waiting.delete(look)
        resolve(this)
      }
      this.#waiting.add(look)
      look()
    })
  }

  answered(count: number, ms?: number): Promise<this> {
    return this.until((guest) => finals(guest.answers).length >= count, `${count} answers`, ms)
  }

  closed(ms?: number): Promise<this> {
    return this.until((guest) => guest.ended, 'the end', ms)
  }

  #look(): void {
    for (const look of this.#waiting) look()
  }
}

export const finals = (answers: Answer[]): Answer[] => answers.filter(({ status }) => status >= 200)

/** Sends a request, waits for `count` answers and hangs up. */
export async function ask(path: string, request: string | Buffer, count = 1, ms?: number): Promise<Answer[]> {
  const guest = new RawGuest(path)
  guest.socket.write(request)
  try {
    await guest.answered(count, ms)
    return finals(guest.answers)
  } finally {
    guest.socket.destroy()
  }
}

export const get = (target: string, fields = ''): string => `GET ${target} HTTP/1.1\r\nHost: localhost\r\n${fields}\r\n`
export const post = (target: string, body: string, fields = ''): string =>
  `POST ${target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${Buffer.byteLength(body)}\r\n${fields}\r\n${body}`
export const MINT = post('/v1/tokens/oidc', '{"aud":"sts.amazonaws.com"}')
export const READ = get('/v1/tokens/current')

/** Complete answers, in order, and what is left behind them. Strict about what the proxy may say: names in lower
 * case, one blank after the colon, chunks without extensions. Throws for anything else. */
export function parseAnswers(text: string, ended: boolean): { answers: Answer[]; rest: string } {
  const answers: Answer[] = []
  let at = 0
  for (;;) {
    const end = text.indexOf('\r\n\r\n', at)
    if (end < 0) return { answers, rest: text.slice(at) }
    const [line = '', ...lines] = text.slice(at, end).split('\r\n')
    const [, digits, reason] = /^HTTP\/1\.1 ([1-5][0-9]{2}) ([A-Za-z ]*)$/.exec(line) ?? []
    if (digits === undefined) throw new Error(`the proxy said ${JSON.stringify(line)}`)
    const fields = new Map<string, string>()
    for (const field of lines) {
      const [, name, value] = /^([a-z-]+): ([\x20-\x7e]*)$/.exec(field) ?? []
      // Of all that it says only the methods of a target that has none are nothing.
      if (name === undefined || value === undefined || fields.has(name) || (value === '' && name !== 'allow'))
        throw new Error(`the proxy said ${field}`)
      fields.set(name, value)
    }
    const status = Number(digits)
    const length = fields.get('content-length')
    const chunked = fields.get('transfer-encoding') === 'chunked'
    if (chunked && length !== undefined) throw new Error('the proxy said both framings')
    let body = ''
    let next = end + 4
    if (chunked) {
      for (;;) {
        const crlf = text.indexOf('\r\n', next)
        if (crlf < 0) return { answers, rest: text.slice(at) }
        const digits16 = text.slice(next, crlf)
        if (!/^[0-9a-f]+$/.test(digits16)) throw new Error(`the proxy said the chunk size ${digits16}`)
        const size = Number.parseInt(digits16, 16)
        if (text.length < crlf + 2 + size + 2) return { answers, rest: text.slice(at) }
        if (text.slice(crlf + 2 + size, crlf + 4 + size) !== '\r\n')
          throw new Error('a chunk does not end where it says')
        body += text.slice(crlf + 2, crlf + 2 + size)
        next = crlf + 4 + size
        if (size === 0) break
      }
    } else if (length !== undefined) {
      if (text.length < next + Number(length)) return { answers, rest: text.slice(at) }
      body = text.slice(next, next + Number(length))
      next += Number(length)
    } else if (status >= 200 && status !== 204) {
      if (!ended) return { answers, rest: text.slice(at) }
      body = text.slice(next)
      next = text.length
    }
    answers.push({ status, reason: reason ?? '', fields, body })
    at = next
  }
}
