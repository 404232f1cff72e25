// When to ask for a new token, and when the old one must go. Pure: clocks and randomness are arguments, so a year of
// a Machine's life, or an hour of a million Machines, is tested in seconds.

import type { Instant } from './clocks.ts'

/** A good token of 10 minutes is replaced between 6 and 7:20, so that about 2 minutes of failures go unnoticed. */
const REFRESH_AT = 2 / 3
const JITTER = 0.1
/** A relying party must still have the time to accept what a program has just read. */
const MARGIN = 30_000 // ms
/** No longer: a program that was stopped, or whose timers stood still, looks again soon after. */
export const TICK = 500 // ms
/** Machines that resume together do not all ask in the same instant, and yet within a second. */
const SPREAD = 250 // ms
const BACK_OFF_MIN = 250 // ms
const BACK_OFF_MAX = 60_000 // ms
/** A clock that is adjusted gently moves by less than a millisecond in a tick. */
const STEP = 1_000 // ms
/** A clock this little behind will have caught up before anybody notices that we waited. */
const EARLY = 5_000 // ms

/** What a token says of its own life, Unix seconds. */
export interface Life {
  readonly iat: number
  readonly exp: number
  readonly nbf: number
}

/** A token that is in its file. */
export interface Held {
  /** When it was asked for: before it was made, so its age is never thought less than it is. */
  readonly at: Instant
  /** ms that it was good for then. */
  readonly life: number
  /** Unix ms, by the issuer's clock. */
  readonly iat: number
  /** Age at which it is replaced, ms. */
  readonly replaceAt: number
}

export interface Schedule {
  readonly held: Held | undefined
  /** A new token is wanted whatever the age of the old one. */
  readonly wanted: boolean
  /** Boot-time ms before which nothing is asked. */
  readonly notBefore: number
  /** Boot-time ms until which flyd asked to be left alone. */
  readonly closedUntil: number
  readonly failures: number
  /** One request at a time. */
  readonly asking: boolean
}

/** 0 to 1, as Math.random. */
export type Random = () => number

export const begin = (now: Instant, held?: Held): Schedule => ({
  held,
  wanted: held === undefined,
  notBefore: now.boot,
  closedUntil: now.boot,
  failures: 0,
  asking: false,
})

export interface Due {
  ask: boolean
  /** The token in the file is, or may be, too old to be used. */
  remove: boolean
  /** ms after which to look again, at most a tick. */
  wait: number
}

/** What is due now. */
export function due(schedule: Schedule, now: Instant): Due {
  const { held, wanted, notBefore, asking } = schedule
  const old = held === undefined ? Infinity : age(held, now)
  const remove = held !== undefined && old >= held.life - margin(held.life)
  const wants = wanted || remove || held === undefined || old >= held.replaceAt
  const ask = !asking && wants && now.boot >= notBefore
  const next = asking ? Infinity : wants ? notBefore - now.boot : held.replaceAt - old
  const end = held === undefined || remove ? Infinity : held.life - margin(held.life) - old
  return { ask, remove, wait: Math.min(TICK, Math.max(1, Math.min(next, end))) }
}

export const asked = (schedule: Schedule): Schedule => ({ ...schedule, asking: true })
export const removed = (schedule: Schedule): Schedule => ({ ...schedule, held: undefined })

/** A token that was asked for `at` is in its file. */
export const renewed = (
  { closedUntil }: Schedule,
  at: Instant,
  life: Life,
  random: Random,
  refreshAt?: number,
): Schedule => ({
  held: hold(at, life, random, refreshAt),
  wanted: false,
  notBefore: at.boot,
  closedUntil,
  failures: 0,
  asking: false,
})

/** By the length of its life and not by `exp`: the wall clock may be wrong by hours, and the token as good as any. */
export const hold = (at: Instant, { iat, exp }: Life, random: Random, refreshAt = REFRESH_AT): Held => ({
  at,
  life: (exp - iat) * 1000,
  iat: iat * 1000,
  replaceAt: (exp - iat) * 1000 * refreshAt * (1 - JITTER + 2 * JITTER * random()),
})

/** There is no new token. `retryAfter`: ms that flyd asked for; `hopeless`: only somebody's hand can change the answer. */
export function failed(
  schedule: Schedule,
  now: Instant,
  random: Random,
  { retryAfter = 0, hopeless = false } = {},
): Schedule {
  const failures = schedule.failures + 1
  const pause = hopeless ? BACK_OFF_MAX : Math.min(BACK_OFF_MAX, BACK_OFF_MIN * 2 ** (failures - 1))
  const jittered = pause * (0.5 + random())
  return {
    ...schedule,
    wanted: true,
    // On top of what flyd asked for, or all that were refused together come back together.
    notBefore: now.boot + (retryAfter > 0 ? retryAfter + jittered / 2 : jittered),
    closedUntil: now.boot + retryAfter,
    failures,
    asking: false,
  }
}

/** The request was given up, and is made again at once: it is not the answer's fault. */
export const dropped = (schedule: Schedule): Schedule => ({ ...schedule, wanted: true, asking: false })

/** The Machine has been away or its clock was set: whatever was known of time is doubted, so a new token is wanted at
 * once. An old connection only looks alive, so whoever calls this also gives up the request that is under way. */
export const woken = (schedule: Schedule, now: Instant, random: Random): Schedule => ({
  ...schedule,
  wanted: true,
  failures: 0,
  notBefore: Math.max(schedule.closedUntil, now.boot + SPREAD * random()),
})

export type Jump = 'suspended' | 'stepped'

/** Whether time went on without us, or was set, between two looks. */
export function jump(before: Instant, now: Instant): Jump | undefined {
  const passed = now.boot - before.boot
  if (passed - (now.mono - before.mono) > STEP / 2) return 'suspended'
  return Math.abs(now.wall - before.wall - passed) > STEP ? 'stepped' : undefined
}

/** ms for which a new token is better kept out of its file: one that a clock a little behind takes for not yet valid,
 * while the old one is good for everybody. */
export function early(schedule: Schedule, now: Instant, { iat, nbf }: Life): number {
  const ahead = nbf * 1000 - now.wall
  if (ahead <= 0 || ahead > EARLY) return 0
  const { held } = schedule
  // The new token's own date tells how old the old one really is, whatever our clocks say.
  const good =
    held !== undefined && Math.max(age(held, now), iat * 1000 - held.iat) + ahead < held.life - margin(held.life)
  return good ? ahead : 0
}

/** The oldest that any clock can make of it. The wall clock counts as well, for a snapshot that is resumed may know of
 * the time that went by only when somebody sets it; but never as more than what it makes of `iat`, for else a clock
 * that was behind and is put right would look like hours that passed. */
function age({ at, iat }: Held, now: Instant): number {
  return Math.max(now.boot - at.boot, now.mono - at.mono, Math.min(now.wall - at.wall, now.wall - iat))
}

/** A token of a few minutes or seconds cannot give half a minute away. */
const margin = (life: number): number => Math.min(MARGIN, life / 10)

/** Requests that a Machine may make: flyd takes one a second of each kind, in bursts of three. */
export interface Gate {
  readonly level: number
  /** Boot-time ms. */
  readonly at: number
}
const BURST = 3
/** A little slower than that: our bucket has the next token before a request of ours has reached flyd's. */
const RATE = 0.9 / 1000 // a ms
export const openGate = (now: Instant): Gate => ({ level: BURST, at: now.boot })

/** Lets one request through, or says how many ms to wait. */
export function pass({ level, at }: Gate, now: Instant): { gate: Gate; wait: number } {
  const filled = Math.min(BURST, level + Math.max(0, now.boot - at) * RATE)
  return filled >= 1
    ? { gate: { level: filled - 1, at: now.boot }, wait: 0 }
    : { gate: { level: filled, at: now.boot }, wait: (1 - filled) / RATE }
}
