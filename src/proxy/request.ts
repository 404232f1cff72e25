// The guest's bytes in, one well-formed request or a refusal out. Total: it never throws, whatever the bytes; linear
// in them; bounded in memory. Whatever it accepts, every other HTTP/1 reader reads the same way: what is ambiguous
// anywhere (both framings, folds, bare CR or LF, trailers, a body on GET) is refused and the connection closed.

import type { Code } from './event.ts'
import { readFields } from './headers.ts'
import type { Field } from './headers.ts'
import { EMPTY, Seen } from './seen.ts'

export interface Request {
  readonly method: string
  /** As sent, less the authority of an absolute-form target, which Deno sends: never used for routing. */
  readonly target: string
  readonly fields: readonly Field[]
  body: Buffer
  readonly http10: boolean
  readonly keepAlive: boolean
  /** True when the guest waits for `100 Continue` before it sends the body. */
  readonly expects: boolean
}

/** A request whose body, of `length` bytes, is still to come. */
export type Head = Request & { readonly length: number }

const LINE_LIMIT = 8 * 1024 // llhttp and nginx allow as much; real targets are under 300 bytes
const HEAD_LIMIT = 16 * 1024 // Node's own limit
const SMALL_HEAD = 2 * 1024
const FIELD_LIMIT = 64 // real clients send at most a dozen
export const BODY_LIMIT = 64 * 1024 // the largest real body is metadata, or a Machine's configuration
const CHUNK_LINE_LIMIT = 256 // a size and at most a small extension, which is dropped

const END_OF_HEAD = Buffer.from('\r\n\r\n')
const REQUEST_LINE = /^([A-Z]{3,12}) ([\x21-\x7e]{1,8192}) HTTP\/1\.([01])$/
const AUTHORITY = /^https?:\/\/[A-Za-z0-9._~!$&'()*+,;=%[\]:-]+(?=[/?]|$)/ // no userinfo: that is a lure
const HOST = /^(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2}|\[[0-9A-Fa-f:.]+\])+(?::[0-9]{0,5})?$/ // RFC 9110 7.2
const CHUNK_LINE = /^([0-9A-Fa-f]{1,6})(?:;[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:=[!#$%&'*+.^_`|~0-9A-Za-z-]+)?)*$/

const REFUSED: ReadonlyMap<string, Code> = new Map([
  ['upgrade', 'REQUEST_MALFORMED'], // what follows would not be HTTP/1
  // A browser page, a redirect or another proxy speaks through an app that was fooled: SSRF.
  ...['origin', 'referer', 'forwarded', 'x-forwarded-', 'via'].map((name): [string, Code] => [
    name,
    'FORWARDED_REQUEST',
  ]),
])

/** Reads the requests of one connection in order. `push` bytes, then `read` until it answers undefined: more bytes
 * are needed. After a Code the connection must be closed; nothing behind a refused request can be trusted. */
export class RequestReader {
  #bytes: Buffer = EMPTY // unread
  #store: Buffer = this.#bytes // what they lie in, when it is ours
  #searched = 0 // no end of head before this
  #head: Head | undefined
  #headLength = 0
  #body: Buffer[] = [] // chunks read so far
  #bodyLength = 0
  #announced = false
  readonly #seen: Seen<Head>

  /** `seen`: the head that came last, of this connection or of any that shares it. */
  constructor(seen = new Seen<Head>()) {
    this.#seen = seen
  }

  /** The bytes are only looked at until `keep`, or the next `push`. */
  push(bytes: Buffer): void {
    if (this.#bytes.length === 0) {
      this.#bytes = bytes
      return
    }
    const before = this.#bytes.length
    this.#own(before + bytes.length)
    bytes.copy(this.#store, this.#bytes.byteOffset - this.#store.byteOffset + before)
  }

  /** What was pushed is about to change: keeps a copy of what is unread, and no more. */
  keep(): void {
    if (this.#bytes.length > 0) this.#own(this.#bytes.length)
    else this.#bytes = this.#store = EMPTY
  }

  /** Bytes of our own that it holds: of what is not whole, or was read ahead. A small head that waits for its body is
   * nothing: many clients send the two apart. */
  get held(): number {
    const head = this.#head === undefined || this.#headLength <= SMALL_HEAD ? 0 : this.#headLength
    return this.#store.length + this.#bodyLength + head
  }

  /** No request will be read any more. */
  forget(): void {
    this.#bytes = this.#store = EMPTY
    this.#body = []
    this.#bodyLength = 0
    this.#head = undefined
  }

  /** Makes #bytes `length` long in #store, with what they hold now at their start. */
  #own(length: number): void {
    let from = this.#bytes.byteOffset - this.#store.byteOffset
    if (this.#bytes.buffer !== this.#store.buffer || from + length > this.#store.length) {
      // Doubled, so that a guest that sends byte by byte costs linear time.
      const store = Buffer.allocUnsafeSlow(2 * length)
      this.#bytes.copy(store)
      this.#store = store
      from = 0
    }
    this.#bytes = this.#store.subarray(from, from + length)
  }

  /** Bytes of a request that has begun; false between requests. */
  get partial(): boolean {
    return this.#head !== undefined || this.#bytes.length > 0
  }

  /** The head, once, when the guest waits for `100 Continue` and the body is not here yet. */
  expecting(): Request | undefined {
    if (this.#head?.expects !== true || this.#announced || this.#bytes.length > 0) return undefined
    this.#announced = true
    return this.#head
  }

  read(): Request | Code | undefined {
    if (this.#head === undefined) {
      if (this.#bytes.length === 0) return undefined
      const head = this.#readHead()
      if (typeof head !== 'object') return head
      this.#head = head
    }
    const body = this.#head.length === CHUNKED ? this.#readChunks() : this.#take(this.#head.length)
    if (typeof body !== 'object') return body
    const request = this.#head
    request.body = body
    this.#head = undefined
    this.#announced = false
    return request
  }

  #take(length: number): Buffer | undefined {
    if (this.#bytes.length < length) return undefined
    const taken = this.#bytes.subarray(0, length)
    this.#bytes = this.#bytes.subarray(length)
    return taken
  }

  #readHead(): Head | Code | undefined {
    const known = this.#seen.at(this.#bytes, 0)
    if (known > 0 && this.#seen.last !== undefined) {
      this.#searched = this.#headLength = 0
      this.#bytes = this.#bytes.subarray(known)
      return { ...this.#seen.last }
    }
    const end = this.#bytes.indexOf(END_OF_HEAD, this.#searched)
    // What can become no request is refused now, rather than when the guest has waited for its time-out.
    if (!isUpper(this.#bytes[0] ?? 0)) return 'REQUEST_MALFORMED'
    if (end < 0) {
      for (let lf = this.#bytes.indexOf(LF, this.#searched); lf >= 0; lf = this.#bytes.indexOf(LF, lf + 1)) {
        if (this.#bytes[lf - 1] !== CR) return 'REQUEST_MALFORMED'
      }
      this.#searched = Math.max(0, this.#bytes.length - 3)
      const line = this.#bytes.indexOf('\r\n')
      if (line < 0 ? this.#bytes.length > LINE_LIMIT + 1 : line > LINE_LIMIT) return 'REQUEST_LINE_TOO_LONG'
      return this.#bytes.length > HEAD_LIMIT + 3 ? 'REQUEST_HEAD_TOO_LARGE' : undefined
    }
    this.#searched = 0
    if (end > HEAD_LIMIT)
      return this.#bytes.indexOf('\r\n') > LINE_LIMIT ? 'REQUEST_LINE_TOO_LONG' : 'REQUEST_HEAD_TOO_LARGE'
    this.#headLength = end + 4
    const head = parseHead(this.#bytes, end + 2)
    // Whoever asks for one audience after another says the same before each. A copy, for `read` adds this one's body.
    if (typeof head === 'object') this.#seen.keep({ ...head }, this.#bytes.subarray(0, end + 4))
    this.#bytes = this.#bytes.subarray(end + 4)
    return head
  }

  #readChunks(): Buffer | Code | undefined {
    for (;;) {
      const end = this.#bytes.indexOf('\r\n')
      if (end < 0) return this.#bytes.length > CHUNK_LINE_LIMIT + 1 ? 'REQUEST_MALFORMED' : undefined
      const size = CHUNK_LINE.exec(this.#bytes.toString('latin1', 0, end))?.[1]
      if (size === undefined || end > CHUNK_LINE_LIMIT) return 'REQUEST_MALFORMED'
      const length = Number.parseInt(size, 16)
      if (this.#bodyLength + length > BODY_LIMIT) return 'REQUEST_BODY_TOO_LARGE'
      const after = end + 2 + length
      if (this.#bytes.length < after + 2) return undefined
      // After the last chunk this is where trailers would stand: none is accepted.
      if (this.#bytes[after] !== 0x0d || this.#bytes[after + 1] !== 0x0a) return 'REQUEST_MALFORMED'
      this.#body.push(Buffer.from(this.#bytes.subarray(end + 2, after)))
      // A part is more than its bytes: a guest that sends a byte a chunk must not fill memory by that.
      if (this.#body.length === 64) this.#body = [Buffer.concat(this.#body)]
      this.#bodyLength += length
      this.#bytes = this.#bytes.subarray(after + 2)
      if (length > 0) continue
      const body = Buffer.concat(this.#body)
      this.#body = []
      this.#bodyLength = 0
      return body
    }
  }
}

const CHUNKED = -1
const CR = 0x0d
const LF = 0x0a
const isUpper = (c: number): boolean => c >= 0x41 && c <= 0x5a

/** The head that ends at `to`, the CRLF of its last line within. */
function parseHead(bytes: Buffer, to: number): Head | Code {
  let end = 0
  while (bytes[end] !== CR || bytes[end + 1] !== LF) end++
  if (end > LINE_LIMIT) return 'REQUEST_LINE_TOO_LONG'
  const line = bytes.toString('latin1', 0, end)
  const [, method, target, minor] = REQUEST_LINE.exec(line) ?? []
  if (method === undefined || target === undefined) {
    return /^\S+ \S+(?: HTTP\/[0-9.]+)?$/.test(line) && !/ HTTP\/1\.[01]$/.test(line)
      ? 'VERSION_NOT_SUPPORTED'
      : 'REQUEST_MALFORMED'
  }
  const fields = readFields(bytes, end + 2, to, FIELD_LIMIT)
  if (fields === 'too many') return 'REQUEST_HEAD_TOO_LARGE'
  if (fields === 'malformed') return 'REQUEST_MALFORMED'

  const http10 = minor === '0'
  let host: string | undefined
  let length: number | undefined
  let keepAlive = !http10
  let expects = false
  for (const [name, value] of fields) {
    if (name === 'host') {
      if (host !== undefined || !HOST.test(value)) return 'REQUEST_MALFORMED'
      host = value
    } else if (name === 'content-length') {
      if (length !== undefined || !/^[0-9]{1,15}$/.test(value)) return 'REQUEST_MALFORMED'
      length = Number(value)
    } else if (name === 'transfer-encoding') {
      if (length !== undefined || http10 || value.toLowerCase() !== 'chunked') return 'REQUEST_MALFORMED'
      length = CHUNKED
    } else if (name === 'connection') {
      if (/(?:^|,)[ \t]*close[ \t]*(?:,|$)/i.test(value)) keepAlive = false
    } else if (name === 'expect') {
      if (value.toLowerCase() !== '100-continue') return 'EXPECTATION_FAILED'
      expects = !http10
    } else {
      const code = REFUSED.get(name)
      if (code !== undefined) return code
    }
  }
  if (host === undefined && !http10) return 'REQUEST_MALFORMED' // RFC 9112 section 3.2
  if (length !== undefined && length !== 0 && method === 'GET') return 'REQUEST_MALFORMED'
  if (length !== undefined && length > BODY_LIMIT) return 'REQUEST_BODY_TOO_LARGE'
  const path = target.startsWith('/') ? target : target.replace(AUTHORITY, '')
  return {
    method,
    target: path === '' ? '/' : path,
    fields,
    body: EMPTY,
    http10,
    keepAlive,
    expects,
    length: length ?? 0,
  }
}
