// One exchange, as it happens. The guest's request is judged and written anew (policy.ts); the credential joins it
// only on the socket to flyd (secret.ts); flyd's answer is read strictly (response.ts) and told anew: its status, a
// constant reason, listed headers, the body with every run of the credential blanked (strip.ts). Drop rather than
// filter: what is not forwarded is a rule that nobody has to audit. Exactly one event is reported.

import { STATUS } from './event.ts'
import type { Code, Exchange as Report } from './event.ts'
import { toGuest } from './headers.ts'
import type { Ask } from './policy.ts'
import type { Request } from './request.ts'
import type { AnswerHead } from './response.ts'
import { Strip, stripWhole } from './strip.ts'
import type { Needles } from './strip.ts'
import type { Asker, Connection } from './upstream.ts'

/** The guest's side of an exchange. */
export interface Listener {
  /** The parts are free to be used again when this returns. */
  write(parts: readonly Buffer[]): void
  /** Bytes that the kernel has not taken yet. */
  readonly pending: number
  /** After more was kept for the guest. False where that is too much: it gets no more. */
  weigh(): boolean
  /** No further request will be read on this connection. */
  readonly last: boolean
  /** The answer is complete; `close` when nothing more may be said on this connection. */
  over(close: boolean): void
}

// RFC 9110 section 15; any other status goes out with no reason at all.
const REASON = new Map(
  `200 OK,201 Created,202 Accepted,204 No Content,400 Bad Request,401 Unauthorized,403 Forbidden,404 Not Found,
  405 Method Not Allowed,408 Request Timeout,409 Conflict,412 Precondition Failed,413 Content Too Large,
  414 URI Too Long,417 Expectation Failed,422 Unprocessable Content,429 Too Many Requests,
  431 Request Header Fields Too Large,500 Internal Server Error,502 Bad Gateway,503 Service Unavailable,
  504 Gateway Timeout,505 HTTP Version Not Supported`
    .split(/,\s*/)
    .map((entry) => [Number(entry.slice(0, 3)), entry] as const),
)

const TOKEN_LIMIT = 64 * 1024 // a JWT is about 1 KiB
const IN_TOKEN = Uint8Array.from({ length: 256 }, (_, c) => (/[A-Za-z0-9_-]/.test(String.fromCharCode(c)) ? 1 : 0))
const SMALL = 4 * 1024 // as much of an answer always finds room: a token that comes in two pieces
const WHOLE_LIMIT = 1024 * 1024 // what HTTP/1.0 gets in one piece or not at all

/** A refusal as the guest sees it: the code and a sentence made of it; never a byte of either side's wire. `allow` are the
 * methods of a 405. */
export function refusal(code: Code, close: boolean, allow?: string): Buffer {
  const body = `${JSON.stringify({ error: code.toLowerCase().replaceAll('_', ' '), code })}\n`
  const methods = allow === undefined ? '' : `allow: ${allow}\r\n`
  const head = `${statusLine(STATUS[code])}content-type: application/json; charset=utf-8\r\n${methods}`
  return Buffer.from(
    `${head}content-length: ${body.length}\r\n${close ? 'connection: close\r\n' : ''}\r\n${body}`,
    'latin1',
  )
}

const statusLine = (status: number): string => `HTTP/1.1 ${REASON.get(status) ?? `${status} `}\r\n`

/** Blank report of an exchange; whoever runs it fills in what becomes known. */
export function blankReport(socket: number, caller: { pid: number; uid: number; gid: number }, time: number): Report {
  return {
    kind: 'exchange',
    time,
    socket,
    pid: caller.pid, // no spread: this is made for each request
    uid: caller.uid,
    gid: caller.gid,
    method: '',
    route: '',
    status: 0,
    hits: 0,
    bytes: 0,
    ms: 0,
  }
}

export class Exchange implements Asker {
  connection: Connection | undefined
  readonly report: Report
  readonly ask: Ask
  readonly #guest: Listener
  readonly #request: Request
  readonly #needles: Needles
  #strip: Strip | undefined // for a body that comes in pieces
  #head: AnswerHead | undefined
  #parts: Buffer[] = [] // not yet handed to the guest; stripped, but for a token that is not whole
  #kept = 0 // of #parts are copies, and no views of the read buffer
  #size = 0 // bytes in #parts
  #begun = false // the guest has our head
  #ended = false
  #chunked = false

  constructor(guest: Listener, request: Request, ask: Ask, needles: Needles, report: Report) {
    this.#guest = guest
    this.#request = request
    this.ask = ask
    this.#needles = needles
    this.report = report
  }

  head(head: AnswerHead): void {
    this.#head = head
  }

  part(bytes: Buffer): void {
    if (this.#isHeld) this.#hold(bytes)
    else if (bytes.length === this.#head?.length) {
      this.report.hits += stripWhole(this.#needles, bytes)
      this.#hold(bytes)
    } else this.#hold((this.#strip ??= new Strip(this.#needles)).push(bytes))
  }

  end(): void {
    if (this.#strip !== undefined) this.#hold(this.#strip.end())
    this.#ended = true
  }

  flush(): 'read on' | 'wait' {
    const head = this.#head
    if (head === undefined) return 'read on'
    if (this.#isHeld) {
      this.#sendWhole(head)
      return 'read on'
    }
    this.#send(head)
    return this.#guest.pending > 0 ? 'wait' : 'read on' // what a slow guest has not taken stays with flyd
  }

  /** Bytes that wait for the rest of the answer. */
  get held(): number {
    return this.#size
  }

  done(): void {
    this.report.hits += this.#strip?.hits ?? 0
    this.#guest.over(this.#closes)
  }

  fail(code: Code): void {
    this.report.code = code
    this.report.hits += this.#strip?.hits ?? 0
    // Once our head is out the only honest thing is to break off, so that a cut answer cannot pass for a whole one.
    if (!this.#begun) {
      this.report.status = STATUS[code]
      this.#guest.write([refusal(code, this.#closes)])
    }
    this.#guest.over(this.#begun || this.#closes)
  }

  get #closes(): boolean {
    return !this.#request.keepAlive || this.#guest.last
  }

  #hold(bytes: Buffer): void {
    if (bytes.length === 0) return
    this.#parts.push(bytes)
    this.#size += bytes.length
  }

  /** A token goes out whole or not at all; and so does what has no length for HTTP/1.0, which has no chunks: there a cut
   * answer would pass for a whole one. */
  get #isHeld(): boolean {
    return this.ask.mints || (this.#request.http10 && this.#head?.length === undefined)
  }

  #sendWhole(head: AnswerHead): void {
    if (this.#size > (this.ask.mints ? TOKEN_LIMIT : WHOLE_LIMIT)) {
      this.#refuse('FLYD_TOO_LARGE')
      return
    }
    if (!this.#ended) {
      // What is not all here must leave the read buffer, which is about to be used again.
      const fresh = this.#parts.splice(this.#kept)
      if (fresh.length > 0) this.#parts.push(Buffer.concat(fresh))
      // A part is more than its bytes: a flyd that sends a byte at a time must not fill memory by that.
      if (this.#parts.length === 64) this.#parts = [Buffer.concat(this.#parts)]
      this.#kept = this.#parts.length
      if (!this.#guest.weigh() && this.#size > SMALL) this.#refuse('TOO_MUCH_UNFINISHED')
      return
    }
    const [first] = this.#parts
    const whole = first?.length === this.#size ? first : Buffer.concat(this.#parts, this.#size)
    this.#parts = [whole]
    const token = this.ask.mints && isToken(whole)
    const hits = stripWhole(this.#needles, whole)
    this.report.hits += hits
    // A token with blanks in it is none.
    if (this.ask.mints && head.status === 200 && (!token || hits > 0)) this.#refuse('FLYD_NOT_A_TOKEN')
    else this.#send(head)
  }

  #refuse(code: Code): void {
    this.connection?.abandon()
    this.fail(code)
  }

  /** Hands what is there to the guest, in one write. */
  #send(head: AnswerHead): void {
    const parts = this.#parts
    const size = this.#size
    this.#parts = []
    this.#size = 0
    this.report.bytes += size
    const out: Buffer[] = []
    if (!this.#begun) out.push(this.#begin(head, size))
    const isChunk = this.#chunked && size > 0
    if (isChunk) out.push(Buffer.from(`${size.toString(16)}\r\n`, 'latin1'))
    for (const part of parts) out.push(part)
    if (isChunk) out.push(this.#ended ? CRLF_LAST : CRLF)
    else if (this.#chunked && this.#ended) out.push(LAST)
    if (out.length > 0) this.#guest.write(out)
  }

  #begin(head: AnswerHead, size: number): Buffer {
    const connection = this.#closes ? 'connection: close\r\n' : ''
    // An answer that is here whole has a length, chunked or not: some clients cannot read chunks.
    const length = this.#ended ? size : head.length
    this.#chunked = length === undefined
    const framing = this.#chunked ? 'transfer-encoding: chunked\r\n' : `content-length: ${length}\r\n`
    this.report.status = head.status
    this.#begun = true
    const { told } = head
    if (told?.framing === framing && !this.#chunked && !this.#closes) return told.bytes
    const status = statusLine(head.status)
    const said = toGuest(head.fields)
    const bytes = Buffer.from(`${status}${said}${head.status === 204 ? '' : framing}${connection}\r\n`, 'latin1')
    const hits = stripWhole(this.#needles, bytes.subarray(status.length, status.length + said.length))
    this.report.hits += hits
    if (hits === 0 && !this.#chunked && !this.#closes) head.told = { framing, bytes }
    return bytes
  }
}

/** `a.b.c`, each part base64url and not empty, and at most one line end behind: the shape of a JWT. */
function isToken(bytes: Uint8Array): boolean {
  const end = bytes.length - (bytes[bytes.length - 1] === LF ? 1 : 0)
  let dots = 0
  let part = 0 // where it begins
  for (let i = 0; i < end; i++) {
    while (i + 4 <= end && fits(bytes, i) && fits(bytes, i + 2)) i += 4
    if (i === end) break
    const c = bytes[i] ?? 0
    if (IN_TOKEN[c] === 1) continue
    if (c !== DOT || i === part) return false
    dots++
    part = i + 1
  }
  return dots === 2 && part < end
}
const fits = (bytes: Uint8Array, i: number): boolean =>
  ((IN_TOKEN[bytes[i] ?? 0] ?? 0) & (IN_TOKEN[bytes[i + 1] ?? 0] ?? 0)) === 1

const LF = 0x0a
const DOT = 0x2e
const CRLF = Buffer.from('\r\n')
const LAST = Buffer.from('0\r\n\r\n')
const CRLF_LAST = Buffer.from('\r\n0\r\n\r\n')
