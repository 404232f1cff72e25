// One guest connection: its requests, one after another, each judged by what it says and answered in order.

import type { Clock } from '../os/loop.ts'
import type { Hearer } from '../os/stream.ts'
import { STATUS } from './event.ts'
import type { Code, Event } from './event.ts'
import { blankReport, Exchange, refusal } from './exchange.ts'
import type { Listener } from './exchange.ts'
import { METHODS, methodsOf } from './policy.ts'
import type { Ask, Judge } from './policy.ts'
import { RequestReader } from './request.ts'
import type { Head, Request } from './request.ts'
import { EMPTY, Seen } from './seen.ts'
import type { Needles } from './strip.ts'
import type { Flyd } from './upstream.ts'
import type { Wire } from './wire.ts'

/** A request, and what it may ask of flyd. */
export interface Judged {
  readonly request: Request
  readonly ask: Ask
}

/** What all connections of one listening socket share. */
export interface Door {
  readonly socket: number
  readonly judge: Judge
  readonly flyd: Flyd
  readonly needles: Needles
  /** What was asked last by a guest that had asked nothing before. */
  readonly seen: Seen<Judged>
  /** The last head of a request, whoever sent it. */
  readonly heads: Seen<Head>
  readonly report: (event: Event, ask?: Ask) => void
  /** Bytes that its guests have in our memory: of requests that are not whole, and of answers that are not read. */
  held: number
  /** As many, and no more: whoever fills it holds up guests of this socket alone. */
  readonly holds: number
  readonly clock: Clock
  /** Calls `run` when everybody else has had a turn. */
  readonly nextTurn: (run: () => void) => void
  readonly closed: (guest: Guest) => void
}

const HEAD_LIMIT = 5_000 // ms from a request's first byte to the end of its head and body: slowloris
const IDLE_LIMIT = 75_000 // ms between requests
const REQUEST_LIMIT = 100_000 // requests on one connection: then a new one, and a new look at who calls
const LINGER_LIMIT = 2_000 // ms for a guest to read its last answer and hang up; what it still sends is thrown away
const CONTINUE = Buffer.from('HTTP/1.1 100 Continue\r\n\r\n')

export class Guest implements Listener, Hearer {
  readonly #wire: Wire
  readonly #door: Door
  readonly #caller: { pid: number; uid: number; gid: number }
  readonly #reader: RequestReader
  #exchange: Exchange | undefined
  #seen: Seen<Judged>
  #held = 0 // of door.held
  #begun = 0 // door.clock.now at which the exchange began
  #requests = 0
  #deadline: number
  #draining = false
  #halfClosed = false
  #closing = false

  constructor(open: (hearer: Hearer) => Wire, door: Door, caller: { pid: number; uid: number; gid: number }) {
    this.#door = door
    this.#reader = new RequestReader(door.heads)
    this.#seen = door.seen // curl and its like ask once each, and all ask the same
    this.#caller = caller
    this.#deadline = door.clock.now + IDLE_LIMIT
    this.#wire = open(this)
  }

  ended(): void {
    this.#halfClosed = true // a client that said `-N` or shut down its sending side still gets its answer
    // What it has sent ahead is judged even if it is gone by then: a wire that is paused does not tell of that.
    if (this.#exchange !== undefined && this.#reader.partial) this.#wire.pause()
    this.#next()
  }

  drained(): void {
    this.#lighten()
    this.#exchange?.connection?.resume()
    if (this.#closing) this.#deadline = this.#door.clock.now + LINGER_LIMIT
    this.#next()
  }

  /** The guest went away, with or without its answer. */
  closed(): void {
    this.#closing = true // what it has sent ahead is asked for nobody
    this.#exchange?.connection?.abandon()
    this.#account()
    this.#forget()
    this.#door.closed(this)
  }

  get pending(): number {
    return this.#wire.pending
  }

  get last(): boolean {
    return this.#draining || this.#requests >= REQUEST_LIMIT
  }

  write(parts: readonly Buffer[]): void {
    this.#wire.write(parts)
    if (this.pending === 0 || this.weigh()) return
    if (this.#exchange !== undefined) this.#exchange.report.code ??= 'TOO_MUCH_UNFINISHED'
    this.#closing = true
    this.#wire.destroy()
  }

  /** False where this guest holds more than before, and all together too much: nobody else is cut off for it. */
  weigh(): boolean {
    const held = this.#reader.held + this.#wire.pending + (this.#exchange?.held ?? 0)
    const more = held - this.#held
    this.#held = held
    this.#door.held += more
    return more <= 0 || this.#door.held <= this.#door.holds
  }

  /** After less is kept than before: who held nothing has nothing to give back. */
  #lighten(): void {
    if (this.#held > 0) this.weigh()
  }

  /** No request will be read any more. */
  #forget(): void {
    this.#reader.forget()
    this.#lighten()
  }

  /** Before any request: who calls may not be served at all. */
  turnAway(code: Code): void {
    this.#refuse(code)
  }

  /** Called about once a second. */
  expire(now: number): void {
    if (this.#exchange !== undefined || now < this.#deadline) return
    if (this.#reader.partial && !this.#closing) this.#refuse('REQUEST_TIMEOUT')
    else this.#wire.destroy()
  }

  /** No further requests: idle connections close now, busy ones after their answer. Who has just connected, or is in the
   * middle of a request, is answered too: its bytes may be on their way. */
  drain(): void {
    this.#draining = true
    if (this.#exchange !== undefined) return
    if (this.#requests > 0 && !this.#reader.partial) this.#close()
    else this.#deadline = Math.min(this.#deadline, this.#door.clock.now + LINGER_LIMIT)
  }

  over(close: boolean): void {
    this.#deadline = this.#account() + HEAD_LIMIT // for what was read ahead
    if (close || this.last) this.#close()
    else this.#next()
  }

  #close(): void {
    this.#closing = true
    this.#forget()
    this.#deadline = this.#door.clock.now + (this.pending > 0 ? IDLE_LIMIT : LINGER_LIMIT)
    this.#wire.end()
    this.#wire.resume()
  }

  data(bytes: Buffer): void {
    if (this.#closing) return
    if (this.#exchange !== undefined) {
      this.#reader.push(bytes)
      this.#reader.keep()
      this.weigh()
      this.#wire.pause() // one request in work and one read ahead bound the memory of a pipelining guest
      return
    }
    const fresh = !this.#reader.partial
    const { last } = this.#seen
    if (fresh && last !== undefined && this.#seen.at(bytes, 0) === bytes.length && this.pending === 0) {
      this.#serve(last)
      return
    }
    if (fresh) this.#deadline = this.#door.clock.now + HEAD_LIMIT
    this.#reader.push(bytes)
    this.#next(fresh ? bytes : undefined)
    this.#reader.keep()
    if (!this.weigh() && this.#exchange === undefined) this.#refuse('TOO_MUCH_UNFINISHED')
  }

  /** Takes requests until one is in work, the bytes run out, or one is refused for good. `bytes`: all that there is. */
  #next(bytes?: Buffer): void {
    let refused = false
    while (this.#exchange === undefined && !this.#closing) {
      if (this.pending > 0) {
        // It asks and does not read what the kernel keeps for it: no more until it has, and `drained` comes.
        this.#deadline = this.#door.clock.now + IDLE_LIMIT
        this.#wire.pause()
        return
      }
      if (refused && this.#reader.partial) {
        // A thousand in one write, which cost flyd nothing, would keep everybody else waiting: one a turn.
        this.#wire.pause()
        this.#door.nextTurn(() => this.#next())
        return
      }
      const request = this.#reader.read()
      if (request === undefined) {
        this.#await()
        return
      }
      this.#deadline = this.#door.clock.now + HEAD_LIMIT // for the next one
      if (typeof request === 'string') this.#refuse(request)
      else this.#begin(request, refused ? undefined : bytes)
      refused = true
    }
  }

  #await(): void {
    if (this.#halfClosed) {
      this.#close()
      return
    }
    const head = this.#reader.expecting()
    if (head !== undefined) {
      // Only what could be served is asked to send its body; what the body holds is judged when it is here.
      const verdict = this.#door.judge(head)
      if (typeof verdict === 'string' && verdict !== 'AUDIENCE_NOT_ALLOWED') {
        this.#refuse(verdict, head)
        return
      }
      this.write([CONTINUE])
    }
    if (!this.#reader.partial) {
      this.#deadline = this.#door.clock.now + IDLE_LIMIT
      this.#reader.keep()
      this.#lighten()
    }
    this.#wire.resume()
  }

  #begin(request: Request, bytes: Buffer | undefined): void {
    const ask = this.#judge(request)
    if (typeof ask === 'string') {
      // A refused HEAD has a body in our answer and none in its sender's mind: the connection cannot go on.
      // A target that is none, or hostile, could be read in another way too, and with it all that follows.
      const goesOn = ask !== 'METHOD_NOT_ALLOWED' && ask !== 'TARGET_MALFORMED'
      this.#requests++
      this.#refuse(ask, request, request.keepAlive && goesOn)
      return
    }
    // From its second request on a guest has a memory of its own: others ask other things.
    if (this.#requests > 0 && this.#seen === this.#door.seen) this.#seen = new Seen()
    const judged = { request, ask }
    request.body = this.#seen.keep(judged, bytes === undefined || this.#reader.partial ? EMPTY : bytes, request.body)
    this.#serve(judged)
  }

  /** Requests that differ in what goes nowhere, such as an id in a field that nobody asks for, are judged once. */
  #judge(request: Request): Ask | Code {
    const { last } = this.#seen
    const { method, target, body, fields } = request
    if (
      last?.request.method === method &&
      last.request.target === target &&
      last.request.body.equals(body) &&
      last.request.fields.length === fields.length &&
      fields.every(([name, value], i) => {
        const [before, said] = last.request.fields[i] ?? []
        return name === before && value === said
      })
    )
      return last.ask
    return this.#door.judge(request)
  }

  #serve({ request, ask }: Judged): void {
    this.#requests++
    const report = blankReport(this.#door.socket, this.#caller, this.#door.clock.date)
    report.method = ask.method
    report.route = ask.route
    if (ask.audience !== undefined) report.audience = ask.audience
    this.#begun = this.#door.clock.now
    this.#exchange = new Exchange(this, request, ask, this.#door.needles, report)
    this.#door.flyd.ask(ask, this.#exchange)
  }

  #refuse(code: Code, asked?: Request, keepAlive = false): void {
    const close = !keepAlive || this.last
    const word = asked?.method ?? ''
    const method = METHODS.has(word) ? word : '' // any other word would be the guest's own, in our log
    const allow = asked !== undefined && code === 'METHOD_NOT_ALLOWED' ? methodsOf(asked, this.#door.judge) : undefined
    this.#door.report({
      ...blankReport(this.#door.socket, this.#caller, this.#door.clock.date),
      method,
      status: STATUS[code],
      code,
    })
    this.write([refusal(code, close, allow)])
    if (close) this.#close()
  }

  #account(): number {
    const now = this.#door.clock.now
    const exchange = this.#exchange
    if (exchange === undefined) return now
    this.#exchange = undefined
    this.#lighten()
    exchange.report.ms = Math.round((now - this.#begun) * 100) / 100
    this.#door.report(exchange.report, exchange.ask)
    return now
  }
}
