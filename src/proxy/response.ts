// flyd's bytes in, one well-formed answer or a code out: as strict as the request reader, because what is read
// loosely here could be framed differently for the guest. Interim answers, reason phrases, trailers and chunk
// extensions are dropped; upgrades, redirects, encodings and unframed bodies are refused: none can be judged.

import type { Code } from './event.ts'
import { readFields } from './headers.ts'
import type { Field } from './headers.ts'
import { Seen } from './seen.ts'

export interface AnswerHead {
  readonly status: number
  readonly fields: readonly Field[]
  /** Body bytes to come; undefined when the answer is chunked. */
  readonly length: number | undefined
  /** What exchange.ts made of it for a guest, kept for a head that comes again. */
  told?: { readonly framing: string; readonly bytes: Buffer }
}

/** Where an answer goes as it is read: one head, any number of parts, one end. */
export interface AnswerSink {
  head(head: AnswerHead): void
  /** A view into the read buffer: valid, and the sink's to change, until the next read. */
  part(bytes: Buffer): void
  end(): void
}

const HEAD_LIMIT = 64 * 1024
const FIELD_LIMIT = 100
const LINE_LIMIT = 4 * 1024 // chunk sizes with extensions, and trailers
const INTERIM_LIMIT = 8 // 100 and 103 are never more than a few; a flood is an attack
const TRAILER_LIMIT = 32

const CRLF = '\r\n'
const END_OF_HEAD = '\r\n\r\n'
const STATUS_LINE = /^HTTP\/1\.([01]) ([1-9][0-9]{2})(?: [^\r\n]*)?$/
const CHUNK_LINE = /^([0-9A-Fa-f]{1,12})(?:;[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:=[!#$%&'*+.^_`|~0-9A-Za-z-]+)?)*$/

/** Reads the answers on one connection to flyd, one at a time. */
export class ResponseReader {
  #carry = '' // an unfinished head or line
  #tail = '' // its last characters, in which the mark that ends it may have begun
  #state: 'head' | 'sized' | 'chunk size' | 'chunk' | 'chunk end' | 'trailer' = 'head'
  #left = 0 // body or chunk bytes to come
  #interim = 0
  #trailers = 0
  #reusable = true
  readonly #seen = new Seen<AnswerHead>()

  /** True when the connection may carry another exchange: HTTP/1.1 and flyd did not say `close`. */
  get reusable(): boolean {
    return this.#reusable
  }

  /** True before the first byte of an answer: then it is certain that the guest has seen none of it. */
  get silent(): boolean {
    return this.#state === 'head' && this.#carry.length === 0 && this.#interim === 0
  }

  /** Feeds what was read. `done`: the answer ended exactly at the end of these bytes. A Code: destroy the connection. */
  read(bytes: Buffer, sink: AnswerSink): 'more' | 'done' | Code {
    let at = 0
    for (;;) {
      switch (this.#state) {
        case 'head': {
          const known = this.#carry === '' ? this.#seen.at(bytes, at) : 0
          if (known > 0 && this.#seen.last !== undefined) {
            at += known
            this.#reusable = true
            this.#take(this.#seen.last, sink)
            break
          }
          const from = this.#carry === '' ? at : -1 // of one that is here whole
          const head = this.#until(bytes, at, END_OF_HEAD, HEAD_LIMIT)
          if (typeof head !== 'object') return head
          at = head.next
          const begun = this.#begin(head.line, sink)
          if (typeof begun === 'string' && begun !== 'interim') return begun
          if (typeof begun === 'object' && from >= 0 && this.#reusable) this.#seen.keep(begun, bytes.subarray(from, at))
          break
        }
        case 'sized':
        case 'chunk': {
          // The buffer itself where it is all body: where that lies is known.
          const part = at === 0 && bytes.length <= this.#left ? bytes : bytes.subarray(at, at + this.#left)
          at += part.length
          this.#left -= part.length
          if (part.length > 0) sink.part(part)
          if (this.#left > 0) return 'more'
          if (this.#state === 'sized') return this.#finish(bytes, at, sink)
          this.#state = 'chunk end'
          break
        }
        case 'chunk size': {
          const line = this.#until(bytes, at, CRLF, LINE_LIMIT)
          if (typeof line !== 'object') return line
          at = line.next
          const size = CHUNK_LINE.exec(line.line.toString('latin1'))?.[1]
          if (size === undefined) return 'FLYD_MALFORMED'
          this.#left = Number.parseInt(size, 16)
          this.#state = this.#left === 0 ? 'trailer' : 'chunk'
          break
        }
        case 'chunk end': {
          const line = this.#until(bytes, at, CRLF, 0)
          if (typeof line !== 'object') return line
          if (line.line.length > 0) return 'FLYD_MALFORMED'
          at = line.next
          this.#state = 'chunk size'
          break
        }
        case 'trailer': {
          const line = this.#until(bytes, at, CRLF, LINE_LIMIT)
          if (typeof line !== 'object') return line
          at = line.next
          if (line.line.length === 0) return this.#finish(bytes, at, sink)
          const field = readFields(line.line, 0, line.line.length, 1)
          if (++this.#trailers > TRAILER_LIMIT || typeof field === 'string') return 'FLYD_MALFORMED'
          // Some readers would frame by these even here: RFC 9110 section 6.5.1 forbids them.
          if (/^(?:content-length|transfer-encoding)$/.test(field[0]?.[0] ?? '')) return 'FLYD_MALFORMED'
          break
        }
      }
    }
  }

  /** What stands before `mark`, at most `limit` bytes, and where the bytes go on behind it. */
  #until(bytes: Buffer, at: number, mark: string, limit: number): { line: Buffer; next: number } | 'more' | Code {
    if (this.#carry === '') {
      const end = bytes.indexOf(mark, at, 'latin1')
      if (end >= 0 && end - at <= limit) return { line: bytes.subarray(at, end), next: end + mark.length }
    }
    const fresh = bytes.toString('latin1', at, at + limit + mark.length)
    const found = (this.#tail + fresh).indexOf(mark)
    const taken = found + mark.length - this.#tail.length
    const length = this.#carry.length + (found < 0 ? fresh.length : taken) - mark.length
    if (length > limit || (found < 0 && length === limit))
      return limit === HEAD_LIMIT ? 'FLYD_TOO_LARGE' : 'FLYD_MALFORMED'
    if (found < 0) {
      this.#tail = (this.#tail + fresh).slice(1 - mark.length)
      this.#carry += fresh
      return 'more'
    }
    const text = (this.#carry + fresh.slice(0, taken)).slice(0, -mark.length)
    this.#carry = this.#tail = ''
    return { line: Buffer.from(text, 'latin1'), next: at + taken }
  }

  /** Judges a head, whose last line has no CRLF, and tells the sink; a code when the answer cannot be judged. */
  #begin(head: Buffer, sink: AnswerSink): AnswerHead | 'interim' | Code {
    const crlf = head.indexOf(CRLF, 0, 'latin1')
    const end = crlf < 0 ? head.length : crlf
    const [, minor, digits] = STATUS_LINE.exec(head.toString('latin1', 0, end)) ?? []
    if (digits === undefined) return 'FLYD_MALFORMED'
    const fields = readFields(head, end + CRLF.length, head.length, FIELD_LIMIT)
    if (typeof fields === 'string') return fields === 'too many' ? 'FLYD_TOO_LARGE' : 'FLYD_MALFORMED'
    const status = Number(digits)
    if (status === 101) return 'FLYD_UPGRADED'
    if (status < 200 && minor === '0') return 'FLYD_MALFORMED' // RFC 9110 section 15.2: 1.0 has no interim answers
    if (status < 200) return ++this.#interim > INTERIM_LIMIT ? 'FLYD_TOO_LARGE' : 'interim'
    if (status >= 300 && status < 400) return 'FLYD_REDIRECTED'
    if (status >= 600) return 'FLYD_MALFORMED'

    let length: number | undefined
    let chunked = false
    this.#reusable = minor === '1'
    for (const [name, value] of fields) {
      if (name === 'content-length') {
        if (length !== undefined || !/^[0-9]{1,15}$/.test(value)) return 'FLYD_MALFORMED'
        length = Number(value)
      } else if (name === 'transfer-encoding') {
        if (chunked || minor === '0' || value.toLowerCase() !== 'chunked') return 'FLYD_MALFORMED'
        chunked = true
      } else if (name === 'content-encoding') {
        if (value.toLowerCase() !== 'identity') return 'FLYD_ENCODED'
      } else if (name === 'connection') {
        if (/close|upgrade/i.test(value)) this.#reusable = false
      }
    }
    if (chunked && length !== undefined) return 'FLYD_MALFORMED'
    if (status === 204 || status === 205) {
      if (chunked || (length ?? 0) !== 0) return 'FLYD_MALFORMED'
      if (status === 204) length = 0
    }
    // Neither length nor chunks: it would end when the connection does, and a cut answer would pass for a whole one.
    if (!chunked && length === undefined) return 'FLYD_MALFORMED'
    const answer = { status, fields, length }
    this.#take(answer, sink)
    return answer
  }

  #take(answer: AnswerHead, sink: AnswerSink): void {
    this.#state = answer.length === undefined ? 'chunk size' : 'sized'
    this.#left = answer.length ?? 0
    sink.head(answer)
  }

  #finish(bytes: Buffer, at: number, sink: AnswerSink): 'done' | Code {
    this.#state = 'head'
    this.#interim = this.#trailers = 0
    sink.end()
    // Bytes behind the end belong to no exchange: were the connection used again, they would answer the next guest.
    if (at < bytes.length) this.#reusable = false
    return 'done'
  }
}
