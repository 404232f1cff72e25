// Connections to flyd: one fixed target, one exchange at a time on each. A connection is used again only after an
// exactly framed answer with nothing left over; else it is destroyed. No redirect is followed and no proxy variable
// is read, since nothing here could do either.

import type { Clock } from '../os/loop.ts'
import type { Hearer } from '../os/stream.ts'
import type { Code } from './event.ts'
import type { Ask } from './policy.ts'
import { ResponseReader } from './response.ts'
import type { AnswerSink } from './response.ts'
import type { Credential } from './secret.ts'
import type { Wire } from './wire.ts'

/** Begins a connection to flyd. */
export type Dial = (hearer: Hearer) => Wire

/** Who asks: gets the answer, then exactly one of `done` and `fail`. */
export interface Asker extends AnswerSink {
  /** What carries the exchange now; another one after a retry. */
  connection: Connection | undefined
  /** After each read: hand on what came. `wait`: read no more until `resume`, the guest is slow. */
  flush(): 'read on' | 'wait'
  done(): void
  fail(code: Code): void
}

const CONNECT_LIMIT = 5_000 // ms, all of these
const MINT_LIMIT = 10_000 // a token is minted in milliseconds
const REVIVE_LIMIT = 2_000 // silence on a reused connection: it died while the Machine was suspended
const SILENCE_LIMIT = 75_000 // `wait` is silent for 60 s by contract
const IDLE_LIMIT = 4_000 // below the 5 s after which Node and many others close
const TICK = 500
const HOST = 'Host: flyd\r\nAccept-Encoding: identity\r\n'

export class Flyd {
  /** How often it was asked. */
  asked = 0
  readonly #dial: Dial
  readonly #credential: Credential
  readonly #clock: Clock
  readonly #idle: Connection[] = [] // the last used at the end; of one turn in any order
  readonly #all = new Set<Connection>()
  #tick: NodeJS.Timeout | undefined

  constructor(dial: Dial, credential: Credential, clock: Clock) {
    this.#dial = dial
    this.#credential = credential
    this.#clock = clock
  }

  /** Sends a request, and again on a new connection when a reused one turns out dead before the first answer byte
   * and the request does no harm twice. */
  ask(ask: Ask, asker: Asker): void {
    this.asked++
    let idle = this.#take()
    // What is there before it is asked answers nobody: it would be one more answer to the guest before.
    while (idle !== undefined && (idle.stale || !idle.quiet)) {
      idle.abandon()
      idle = this.#take()
    }
    const connection = idle ?? this.#open()
    connection.send(ask, asker, idle !== undefined)
  }

  close(): void {
    for (const connection of this.#idle.splice(0)) connection.abandon()
  }

  /** The last used; rather one that was at rest before this turn, for that costs no look at it. */
  #take(): Connection | undefined {
    const { now } = this.#clock
    let at = this.#idle.length - 1
    while (at > 0 && this.#idle[at]?.restsSince === now) at--
    const taken = this.#idle[at]
    const last = this.#idle.pop()
    if (last !== undefined && taken !== last) this.#idle[at] = last
    return taken
  }

  #open(): Connection {
    const connection = new Connection(this.#dial, this.#credential, this.#clock, {
      idle: () => this.#idle.push(connection),
      closed: () => {
        this.#all.delete(connection)
        const at = this.#idle.indexOf(connection)
        if (at >= 0) this.#idle.splice(at, 1)
      },
      again: (ask, asker) => {
        // What was idle as long is as dead.
        for (const other of this.#idle.splice(0)) other.abandon()
        this.#open().send(ask, asker, false)
      },
    })
    this.#all.add(connection)
    this.#tick ??= setInterval(() => this.#expire(), TICK)
    return connection
  }

  /** One coarse timer for all connections: a timer each would cost every request. */
  #expire(): void {
    const { now } = this.#clock
    for (const connection of this.#all) connection.expire(now)
    if (this.#all.size > 0) return
    clearInterval(this.#tick)
    this.#tick = undefined
  }
}

interface Pool {
  idle(): void
  closed(): void
  again(ask: Ask, asker: Asker): void
}

/** One connection to flyd. */
export class Connection implements Hearer {
  readonly #wire: Wire
  readonly #credential: Credential
  readonly #clock: Clock
  readonly #pool: Pool
  readonly #reader = new ResponseReader()
  #ask: Ask | undefined
  #asker: Asker | undefined
  #reused = false
  #connected = false
  #deadline = 0
  /** In ms of `clock.now`. */
  restsSince = 0
  #idleSince = 0 // Unix ms: the wall clock is what moves when a Machine resumes

  constructor(dial: Dial, credential: Credential, clock: Clock, pool: Pool) {
    this.#credential = credential
    this.#clock = clock
    this.#pool = pool
    this.#wire = dial(this)
  }

  send(ask: Ask, asker: Asker, reused: boolean): void {
    this.#ask = ask
    this.#asker = asker
    asker.connection = this
    this.#reused = reused
    // Ours goes on last, as bytes: nothing the guest sent may name, replace or remove it.
    const [before, after] = (ask.wire ??= wire(ask))
    if (this.#credential.writeTo(this.#wire, before, after)) this.#connected = true
    this.#deadline =
      this.#clock.now +
      (!this.#connected ? CONNECT_LIMIT : reused && ask.again && !ask.waits ? REVIVE_LIMIT : this.#patience(ask))
  }

  resume(): void {
    this.#wire.resume()
  }

  /** The guest is gone, or flyd's answer cannot be judged: nobody may read on. */
  abandon(): void {
    this.#asker = undefined
    this.#wire.destroy()
  }

  drained(): void {
    if (!this.#connected && this.#ask !== undefined) this.#deadline = this.#clock.now + this.#patience(this.#ask)
    this.#connected = true
  }

  ended(): void {
    this.#broken('FLYD_CLOSED')
  }

  closed(): void {
    this.#broken(this.#connected ? 'FLYD_CLOSED' : 'FLYD_UNREACHABLE')
  }

  get stale(): boolean {
    return Math.abs(Date.now() - this.#idleSince) > IDLE_LIMIT
  }

  get quiet(): boolean {
    return this.#wire.quiet
  }

  expire(now: number): void {
    if (this.#asker === undefined) {
      if (this.stale) this.abandon()
    } else if (now > this.#deadline) {
      this.#broken(this.#connected ? 'FLYD_TIMEOUT' : 'FLYD_UNREACHABLE')
    }
  }

  #patience(ask: Ask): number {
    return ask.mints ? MINT_LIMIT : SILENCE_LIMIT
  }

  data(bytes: Buffer): void {
    const asker = this.#asker
    const ask = this.#ask
    if (asker === undefined || ask === undefined) {
      this.#broken('FLYD_CLOSED') // bytes that nobody asked for: out of the pool before anybody takes it from there
      return
    }
    // A mint has one deadline for all of it, from its first byte at the latest; others must only not fall silent.
    if (!ask.mints || this.#reader.silent) this.#deadline = this.#clock.now + this.#patience(ask)
    const result = this.#reader.read(bytes, asker)
    if (result !== 'more' && result !== 'done') {
      this.abandon()
      asker.fail(result)
      return
    }
    const flows = asker.flush() === 'read on'
    if (this.#asker === undefined) return // it has seen enough and abandoned us
    if (result === 'more') {
      if (!flows) this.#wire.pause()
      return
    }
    this.#asker = undefined
    // Answered before it was all sent: flyd may answer it once more when it is, and that would be the next guest's.
    if (this.#reader.reusable && this.#wire.pending === 0) {
      this.restsSince = this.#clock.now
      this.#idleSince = this.#clock.date
      this.#pool.idle()
    } else this.#wire.destroy()
    asker.done()
  }

  /** Closed, reset, refused or silent for too long. */
  #broken(code: Code): void {
    const asker = this.#asker
    const ask = this.#ask
    this.abandon()
    this.#pool.closed()
    if (asker === undefined || ask === undefined) return
    if (this.#reused && ask.again && this.#reader.silent) this.#pool.again(ask, asker)
    else asker.fail(code)
  }
}

function wire(ask: Ask): readonly [before: Buffer, after: Buffer] {
  const length = Buffer.byteLength(ask.body)
  const type = length > 0 ? 'Content-Type: application/json\r\n' : ''
  const framing = length > 0 || ask.method !== 'GET' ? `${type}Content-Length: ${length}\r\n` : ''
  return [
    Buffer.from(`${ask.method} ${ask.target} HTTP/1.1\r\n${HOST}${ask.fields}${framing}Authorization: `, 'latin1'),
    Buffer.from(`\r\n\r\n${ask.body}`),
  ]
}
