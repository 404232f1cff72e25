// One token for somebody who would rather wait than fail: a Machine that has just started, or has just been resumed.

import { setTimeout as pause } from 'node:timers/promises'
import { HOPELESS, IdentityError, requestToken, type Timed } from './client.ts'
import { readClocks } from './clocks.ts'
import { begin, failed } from './schedule.ts'

/** Asks again with the pauses of the schedule for `limit` ms; then throws what the last answer was. */
export async function untilToken(request: Timed, limit: number): Promise<string> {
  const until = performance.now() + limit
  for (let schedule = begin(readClocks()); ;) {
    try {
      const left = until - performance.now()
      return await requestToken({ ...request, timeout: Math.max(LAST_TRY, Math.min(request.timeout, left)) })
    } catch (error) {
      if (!(error instanceof IdentityError) || HOPELESS.has(error.code) || error.code === 'CANCELLED') throw error
      const now = readClocks()
      // A person or a script waits: no pause is longer than the rest, and the last try is at the very end.
      schedule = failed(schedule, now, Math.random, { retryAfter: error.retryAfter })
      const left = until - performance.now()
      if (left <= 0) throw error
      await pause(Math.min(schedule.notBefore - now.boot, LONGEST, left))
    }
  }
}

const LONGEST = 2_000 // ms
/** Too short a last try would always be a time-out, whatever is really wrong. */
const LAST_TRY = 200 // ms
