// Connections to flyd: one fixed target, one exchange at a time on each. A connection is used again only after an
// exactly framed answer with nothing left over; else it is destroyed. No redirect is followed and no proxy variable
// is read, since nothing here could do either.

import { connect, isIP } from 'node:net'
import type { Socket } from 'node:net'
import type { Code } from './event.ts'
import type { Ask } from './policy.ts'
import { ResponseReader } from './response.ts'
import type { AnswerSink } from './response.ts'
import type { Credential } from './secret.ts'

export type Target =
  | { readonly path: string }
  | { readonly host: string; readonly port: number }
  | { readonly host: string; readonly port: number; readonly tls: typeof import('node:tls'); readonly ca?: string }

/** Who asks: gets the answer, then exactly one of `done` and `fail`. */
export interface Asker extends AnswerSink {
  /** What carries the exchange now; another one after a retry. */
  connection: Connection | undefined
  /** After each read: hand on what came. `wait`: read no more until `resume`, the guest is slow. */
  flush(): 'read on' | 'wait'
  /** True while the guest's socket still holds bytes of the read buffer. */
  readonly keeps: boolean
  done(): void
  fail(code: Code): void
}

const CONNECT_LIMIT = 5_000 // ms, all of these
const MINT_LIMIT = 10_000 // a token is minted in milliseconds
const REVIVE_LIMIT = 2_000 // silence on a reused connection: it died while the Machine was suspended
const SILENCE_LIMIT = 75_000 // `wait` is silent for 60 s by contract
const IDLE_LIMIT = 4_000 // below the 5 s after which Node and many others close
const TICK = 500
const READ_SIZE = 64 * 1024
const HOST = 'Host: flyd\r\nAccept-Encoding: identity\r\n'

export class Flyd {
  readonly #target: Target
  readonly #credential: Credential
  readonly #idle: Connection[] = [] // the last used at the end
  readonly #all = new Set<Connection>()
  #tick: NodeJS.Timeout | undefined

  constructor(target: Target, credential: Credential) {
    this.#target = target
    this.#credential = credential
  }

  /** Sends a request, and again on a new connection when a reused one turns out dead before the first answer byte
   * and the request does no harm twice. */
  ask(ask: Ask, asker: Asker): void {
    let idle = this.#idle.pop()
    while (idle?.stale === true) {
      idle.abandon()
      idle = this.#idle.pop()
    }
    const connection = idle ?? this.#open()
    connection.send(ask, asker, idle !== undefined)
  }

  close(): void {
    for (const connection of this.#idle.splice(0)) connection.abandon()
  }

  #open(): Connection {
    const connection = new Connection(this.#target, this.#credential, {
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
    const now = performance.now()
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
export class Connection {
  readonly #socket: Socket
  readonly #credential: Credential
  readonly #pool: Pool
  readonly #reader = new ResponseReader()
  #ask: Ask | undefined
  #asker: Asker | undefined
  #reused = false
  #connected = false
  #buffer = Buffer.allocUnsafeSlow(READ_SIZE)
  #deadline = 0
  #idleSince = 0 // Unix ms: the wall clock is what moves when a Machine resumes

  constructor(target: Target, credential: Credential, pool: Pool) {
    this.#credential = credential
    this.#pool = pool
    const secure = 'tls' in target
    if (secure) {
      const { host, port, tls, ca } = target
      this.#socket = tls.connect({
        host,
        port,
        ca,
        servername: isIP(host) === 0 ? host : '',
        minVersion: 'TLSv1.2',
        rejectUnauthorized: true,
      })
      this.#socket.on('data', (bytes: Buffer) => {
        if (!this.#read(bytes)) this.#socket.pause()
      })
    } else {
      const onread = { buffer: () => this.#buffer, callback: (n: number) => this.#read(this.#buffer.subarray(0, n)) }
      this.#socket = connect({ ...target, onread, noDelay: true })
    }
    this.#socket.on(secure ? 'secureConnect' : 'connect', () => {
      this.#connected = true
      if (this.#ask !== undefined) this.#deadline = performance.now() + this.#patience(this.#ask)
    })
    this.#socket.on('end', () => this.#broken('FLYD_CLOSED'))
    this.#socket.on('error', () => this.#broken(this.#connected ? 'FLYD_CLOSED' : 'FLYD_UNREACHABLE'))
    this.#socket.on('close', () => this.#broken('FLYD_CLOSED'))
    this.#socket.setKeepAlive(true, 1000)
  }

  send(ask: Ask, asker: Asker, reused: boolean): void {
    this.#ask = ask
    this.#asker = asker
    asker.connection = this
    this.#reused = reused
    this.#deadline =
      performance.now() +
      (!this.#connected ? CONNECT_LIMIT : reused && ask.again && !ask.waits ? REVIVE_LIMIT : this.#patience(ask))
    // Ours goes on last, as bytes: nothing the guest sent may name, replace or remove it.
    const [before, after] = (ask.wire ??= wire(ask))
    this.#credential.writeTo(this.#socket, before, after)
  }

  resume(): void {
    this.#socket.resume()
  }

  /** The guest is gone, or flyd's answer cannot be judged: nobody may read on. */
  abandon(): void {
    this.#asker = undefined
    this.#socket.destroy()
  }

  get stale(): boolean {
    return Math.abs(Date.now() - this.#idleSince) > IDLE_LIMIT
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

  #read(bytes: Buffer): boolean {
    const asker = this.#asker
    const ask = this.#ask
    if (asker === undefined || ask === undefined) {
      this.abandon() // bytes that nobody asked for
      return false
    }
    // A mint has one deadline for all of it, from its first byte at the latest; others must only not fall silent.
    if (!ask.mints || this.#reader.silent) this.#deadline = performance.now() + this.#patience(ask)
    const result = this.#reader.read(bytes, asker)
    if (result !== 'more' && result !== 'done') {
      this.abandon()
      asker.fail(result)
      return false
    }
    const flows = asker.flush() === 'read on'
    if (this.#asker === undefined) return false // it has seen enough and abandoned us
    // The guest's socket still holds these bytes: the next read must not overwrite them.
    if (asker.keeps) this.#buffer = Buffer.allocUnsafeSlow(READ_SIZE)
    if (result === 'more') return flows
    this.#asker = undefined
    if (this.#reader.reusable) {
      this.#idleSince = Date.now()
      this.#pool.idle()
    } else this.#socket.destroy()
    asker.done()
    return true
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
