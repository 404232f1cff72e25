// The documented rate limits: one request a second for each action on each Machine, in bursts of up to three.

/** A token bucket; the clock is the caller's. */
export class Bucket {
  readonly #rate: number
  readonly #burst: number
  #level: number
  #at: number

  /** `rate`: tokens a second. `now`: milliseconds. */
  constructor({ rate, burst }: Limit, now: number) {
    this.#rate = rate
    this.#burst = burst
    this.#level = burst
    this.#at = now
  }

  /** Takes a token: 0, or the milliseconds until there will be one. */
  take(now: number): number {
    // A clock set back must not empty the bucket.
    const passed = Math.max(0, now - this.#at)
    this.#level = Math.min(this.#burst, this.#level + (passed * this.#rate) / 1000)
    this.#at = now
    if (this.#level < 1) return Math.ceil(((1 - this.#level) * 1000) / this.#rate)
    this.#level -= 1
    return 0
  }
}

export interface Limit {
  readonly rate: number
  readonly burst: number
}

/** One bucket for each action on each Machine. */
export class Limiter {
  readonly #buckets = new Map<string, Bucket>()

  /** 0, or the milliseconds to wait. */
  take(action: string, machine: string, now: number): number {
    const key = `${machine} ${action}`
    let bucket = this.#buckets.get(key)
    if (bucket === undefined) {
      bucket = new Bucket(action === 'get machine' ? { rate: 5, burst: 10 } : { rate: 1, burst: 3 }, now)
      this.#buckets.set(key, bucket)
    }
    return bucket.take(now)
  }
}
