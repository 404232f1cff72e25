// One Machine as flyd sees it: what it is, and its life. Refusals carry the words of the real API where they are known.

import { randomBytes } from 'node:crypto'
import { Refusal } from './refusal.ts'
import { ulid } from './ulid.ts'

export interface Described {
  readonly org: { readonly id: string; readonly name: string }
  readonly app: { readonly id: string; readonly name: string }
  /** 14 hex digits. */
  readonly id: string
  readonly name: string
  readonly region: string
  readonly image: string
  readonly digest: string
}

export type State = 'started' | 'stopping' | 'stopped' | 'suspending' | 'suspended' | 'starting'
export type Act = 'start' | 'stop' | 'suspend' | 'restart'

export interface MachineEvent {
  readonly id: string
  readonly type: string
  readonly status: string
  readonly source: 'flyd' | 'user'
  readonly timestamp: number
}

export interface Lease {
  readonly nonce: string
  /** Unix seconds. */
  readonly expires_at: number
  readonly owner: string
  readonly description: string
  readonly version: string
}

export interface Time {
  /** Milliseconds. */
  now(): number
  later(milliseconds: number, run: () => void): void
}

export class Machine {
  readonly about: Described
  /** `instance_id`, and `machine_version` in tokens: a new one only with a new configuration, so here it stays. */
  readonly version: string
  readonly metadata = new Map<string, string>()
  readonly created: number
  #updated: number
  #state: State = 'started'
  #cordoned = false
  #lease: Lease | undefined
  #events: MachineEvent[] = []
  #watchers = new Set<() => void>()
  readonly #time: Time
  readonly #settle: number

  /** `settle`: milliseconds that starting, stopping and suspending take. */
  constructor(about: Described, time: Time, settle: number) {
    this.about = about
    this.#time = time
    this.#settle = settle
    this.created = time.now()
    this.#updated = this.created
    this.version = ulid(this.created)
    this.#record('launch', 'created', 'user')
    this.#record('start', 'started', 'flyd')
  }

  get state(): State {
    return this.#state
  }
  get cordoned(): boolean {
    return this.#cordoned
  }
  get updated(): number {
    return this.#updated
  }
  /** Newest first. */
  get events(): readonly MachineEvent[] {
    return this.#events
  }
  get lease(): Lease | undefined {
    const lease = this.#lease
    return lease !== undefined && this.#time.now() < lease.expires_at * 1000 ? lease : undefined
  }

  /** Begins the act and gives the state before it. Repeating an act that is done already changes nothing. */
  act(act: Act): State {
    const before = this.#state
    const { from, through, to } = LIFE[act]
    if (act !== 'restart' && before === to) return before
    if (!from.includes(before)) {
      throw new Refusal(412, `failed_precondition: unable to ${act} machine from current state: '${before}'`)
    }
    this.#enter(act, through, 'user', () => {
      if (act !== 'restart') return this.#enter(act, to, 'flyd')
      return this.#enter('start', 'starting', 'flyd', () => this.#enter('start', 'started', 'flyd'))
    })
    return before
  }

  /** SIGKILL ends the Machine; what other signals do is up to its program. */
  signal(signal: string): void {
    if (this.#state !== 'started') {
      throw new Refusal(412, `failed_precondition: unable to signal machine from current state: '${this.#state}'`)
    }
    this.#record('signal', signal, 'user')
    if (signal === 'SIGKILL') this.#enter('exit', 'stopping', 'flyd', () => this.#enter('exit', 'stopped', 'flyd'))
  }

  cordon(cordoned: boolean): void {
    this.#cordoned = cordoned
    this.#record(cordoned ? 'cordon' : 'uncordon', this.#state, 'user')
  }

  /** True once the Machine is in that state; false when `milliseconds` are over or `signal` aborts. */
  wait(state: string, milliseconds: number, signal: AbortSignal): Promise<boolean> {
    if (this.#state === state) return Promise.resolve(true)
    return new Promise((resolve) => {
      const end = (reached: boolean): void => {
        this.#watchers.delete(look)
        signal.removeEventListener('abort', giveUp)
        resolve(reached)
      }
      const look = (): void => {
        if (this.#state === state) end(true)
      }
      const giveUp = (): void => end(false)
      this.#watchers.add(look)
      signal.addEventListener('abort', giveUp)
      this.#time.later(milliseconds, giveUp)
      if (signal.aborted) giveUp()
    })
  }

  /** Takes the lease, or prolongs it for whoever holds it. */
  takeLease(nonce: string | undefined, ttl: number, owner: string, description: string): Lease {
    this.requireLease(nonce)
    this.#lease = {
      nonce: this.lease?.nonce ?? randomBytes(6).toString('hex'),
      expires_at: Math.floor(this.#time.now() / 1000) + ttl,
      owner,
      description,
      version: this.version,
    }
    return this.#lease
  }

  releaseLease(nonce: string | undefined): void {
    if (this.lease === undefined) throw new Refusal(404, 'lease not found')
    this.requireLease(nonce)
    this.#lease = undefined
  }

  /** Nobody may change a leased Machine but the holder of the lease. */
  requireLease(nonce: string | undefined): void {
    const lease = this.lease
    if (lease === undefined || lease.nonce === nonce) return
    throw new Refusal(
      409,
      `lease currently held by ${lease.owner}, expires at ${new Date(lease.expires_at * 1000).toISOString()}`,
    )
  }

  #enter(type: string, state: State, source: MachineEvent['source'], then?: () => void): void {
    this.#state = state
    this.#record(type, state, source)
    for (const look of this.#watchers) look()
    if (then !== undefined) this.#time.later(this.#settle, then)
  }

  #record(type: string, status: string, source: MachineEvent['source']): void {
    const timestamp = this.#time.now()
    this.#updated = timestamp
    this.#events = [{ id: ulid(timestamp), type, status, source, timestamp }, ...this.#events].slice(0, 20)
  }
}

const LIFE: Record<Act, { from: readonly State[]; through: State; to: State }> = {
  start: { from: ['stopped', 'suspended'], through: 'starting', to: 'started' },
  stop: { from: ['started', 'suspended'], through: 'stopping', to: 'stopped' },
  suspend: { from: ['started'], through: 'suspending', to: 'suspended' },
  restart: { from: ['started'], through: 'stopping', to: 'started' },
}
