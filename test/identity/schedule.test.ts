import * as fc from 'fast-check'
import { test } from 'tap'
import { readClocks, type Instant } from '../../src/identity/clocks.ts'
import { azure } from '../../src/identity/azure.ts'
import {
  asked,
  begin,
  due,
  early,
  failed,
  hold,
  jump,
  openGate,
  pass,
  removed,
  renewed,
  type Schedule,
  TICK,
  woken,
} from '../../src/identity/schedule.ts'
import { seeded } from './support.ts'

const T0 = 1_800_000_000_000
/** `ms` after the start; the three clocks may be pushed apart. */
const at = (ms: number, { wall = 0, suspended = 0 } = {}): Instant => ({
  wall: T0 + ms + wall,
  mono: 5_000_000 + ms - suspended,
  boot: 9_000_000 + ms,
})
const life = (issued: number, seconds = 600): { iat: number; nbf: number; exp: number } => {
  const iat = Math.floor((T0 + issued) / 1000)
  return { iat, nbf: iat, exp: iat + seconds }
}
const middle = (): number => 0.5
const fresh = (random = middle): Schedule => renewed(asked(begin(at(0))), at(0), life(0), random)

/** First moment, by looks of a second, at which `what` is due. */
function when(schedule: Schedule, what: 'ask' | 'remove', clock: (ms: number) => Instant = at): number {
  for (let s = 0; s < 4000; s++) if (due(schedule, clock(s * 1000))[what]) return s
  return -1
}

test('a Machine asks at once, then at two thirds of a token’s life, 10 % earlier or later', async (t) => {
  t.match(due(begin(at(0)), at(0)), { ask: true, remove: false })
  t.equal(when(fresh(), 'ask'), 400)
  t.equal(
    when(
      fresh(() => 0),
      'ask',
    ),
    360,
  )
  t.equal(
    when(
      fresh(() => 0.999_999),
      'ask',
    ),
    440,
  )
})

/** An hour of a file that is kept, and of a program that reads it at some time and shows what it read for as long as its
 * SDK keeps that, ms. Returns the least that was left of a token that it showed, ms; Infinity where it never had one. */
function leastShown(dice: () => number, keeps: number, away: number, refreshAt?: number): number {
  const outage = { from: dice() * 3_600_000, to: 0 }
  outage.to = outage.from + dice() * away
  const read = 60_000 + dice() * 3_400_000
  let schedule = begin(at(0))
  let expires = Infinity // of the token in the file
  let shown = Infinity
  for (let ms = 0; ms < 3_600_000;) {
    const { ask, remove, wait } = due(schedule, at(ms))
    if (remove) [schedule, expires] = [removed(schedule), Infinity]
    if (ask && ms >= outage.from && ms < outage.to) schedule = failed(asked(schedule), at(ms), dice)
    else if (ask) {
      schedule = renewed(asked(schedule), at(ms), life(ms), dice, refreshAt)
      // iat is a whole second, and so up to one earlier than the request.
      expires = life(ms).exp * 1000 - T0
    }
    const next = ms + wait
    if (ms <= read && read < next) shown = expires - (read + keeps)
    ms = next
  }
  return shown
}

test('Azure’s libraries keep what they read for 5 minutes, and never show a token that has expired', async (t) => {
  const FIVE = 300_000
  const AWAY = 15_000 // ms that flyd is not there, once an hour
  const [file] = azure(
    { AZURE_CLIENT_ID: '11111111-2222-4333-8444-555555555555', AZURE_TENANT_ID: 'tenant.example' },
    { directory: '/.fly', awsPrincipalTags: false },
  ).files
  const least = (refreshAt?: number): number => {
    const dice = seeded(1)
    return Math.min(...Array.from({ length: 1000 }, () => leastShown(dice, FIVE, AWAY, refreshAt)))
  }
  const left = least(file?.refreshAt)
  t.comment(`${Math.round(left / 1000)} s were left at least`)
  t.ok(left > 0, `${left} ms`)
  t.ok(least() < -100_000, 'which at two thirds of its life they would: the test can tell')
  t.equal(
    when(
      renewed(asked(begin(at(0))), at(0), life(0), () => 0.999_999, file?.refreshAt),
      'ask',
    ),
    220,
  )
})

test('no look is more than half a second away', async (t) => {
  for (const schedule of [begin(at(0)), fresh(), failed(fresh(), at(0), () => 1), asked(fresh())])
    for (const ms of [0, 1, 100_000, 2 ** 31, 2 ** 40]) t.ok(due(schedule, at(ms)).wait <= TICK)
})

test('while one request is under way there is no second', async (t) => {
  t.equal(due(asked(begin(at(0))), at(3_600_000)).ask, false)
})

test('the old token stays until 30 s before its end, and is removed then', async (t) => {
  t.equal(when(failed(fresh(), at(400_000), middle), 'remove'), 570)
  const short = renewed(begin(at(0)), at(0), life(0, 60), middle)
  t.equal(when(short, 'remove'), 54, 'a tenth of a short life')
})

test('pauses after failures double up to a minute, each between half and three halves', async (t) => {
  const pauses: number[] = []
  let schedule = begin(at(0))
  for (let i = 0; i < 12; i++) {
    schedule = failed(schedule, at(0), middle)
    pauses.push(schedule.notBefore - at(0).boot)
  }
  t.strictSame(pauses.slice(0, 9), [250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000])
  t.strictSame(pauses.slice(9), [60_000, 60_000, 60_000])
  t.equal(failed(begin(at(0)), at(0), () => 0).notBefore - at(0).boot, 125)
  t.equal(failed(begin(at(0)), at(0), () => 1).notBefore - at(0).boot, 375)
  t.equal(failed(begin(at(0)), at(0), middle, { hopeless: true }).notBefore - at(0).boot, 60_000)
})

test('Retry-After is kept, with jitter on top, and even when woken', async (t) => {
  const refused = failed(begin(at(0)), at(0), middle, { retryAfter: 20_000 })
  t.equal(due(refused, at(20_000)).ask, false)
  t.equal(due(refused, at(20_126)).ask, true)
  t.equal(due(woken(refused, at(1000), middle), at(19_999)).ask, false)
  t.equal(due(woken(refused, at(1000), middle), at(20_001)).ask, true)
})

test('a resume or a step of the clock asks within a second, whatever was planned', async (t) => {
  t.equal(jump(at(0), at(500)), undefined)
  t.equal(jump(at(0), at(1_200_000)), undefined, 'a process that was stopped: all clocks went on together')
  t.equal(jump(at(0), at(1_200_000, { suspended: 1_199_000 })), 'suspended')
  t.equal(jump(at(0), at(500, { wall: 3_600_000 })), 'stepped')
  t.equal(jump(at(0), at(500, { wall: -37 * 3_600_000 })), 'stepped')
  t.equal(jump(at(0), at(500, { wall: 3 })), undefined, 'slewed')
  for (const random of [() => 0, middle, () => 0.999]) {
    const later = woken(
      failed(fresh(), at(0), () => 1, { hopeless: true }),
      at(500),
      random,
    )
    t.equal(due(later, at(500 + TICK)).ask, true)
  }
})

test('20 minutes of suspension: the old token is not served, whichever clock knows of them', async (t) => {
  const token = fresh()
  t.match(due(token, at(1_200_000)), { remove: true }, 'stopped, and all clocks went on')
  t.match(due(token, at(1_200_000, { suspended: 1_200_000 })), { remove: true }, 'the boot-time clock went on')
  t.match(due(token, at(1000, { wall: 1_200_000 })), { remove: true }, 'a snapshot whose wall clock is put right later')
})

test('a wall clock that is wrong does not cost a good token', async (t) => {
  t.match(due(fresh(), at(1000, { wall: -37 * 3_600_000 })), { remove: false })
  // It was an hour behind when the token was made, and is put right: the token is as old as it is.
  const behind = renewed(begin(at(0)), at(0, { wall: -3_600_000 }), life(0), middle)
  t.match(due(behind, at(1000)), { remove: false, ask: false })
  const ahead = renewed(begin(at(0)), at(0, { wall: 3_600_000 }), life(0), middle)
  t.match(due(ahead, at(1000, { wall: 3_600_000 })), { remove: false, ask: false })
})

test('a token that a slow clock takes for not yet valid waits while the old one is good', async (t) => {
  const slow = { wall: -2000 }
  t.equal(early(fresh(), at(400_000, slow), life(400_000)), 2000)
  t.equal(early(begin(at(0)), at(0, slow), life(0)), 0, 'there is none but it')
  t.equal(early(fresh(), at(400_000, { wall: -60_000 }), life(400_000)), 0, 'this clock is plainly wrong')
  t.equal(early(fresh(), at(400_000), life(400_000)), 0)
  // The clocks saw nothing of a suspension, but the date of the new token tells.
  t.equal(early(fresh(), at(1000, { wall: 1_199_000 - 2000 }), life(1_200_000)), 0)
})

test('six requests at once pass three first, then one after the other', async (t) => {
  let gate = openGate(at(0))
  const passed: number[] = []
  for (let ms = 0; ms < 6000; ms += 100) {
    for (;;) {
      const tried = pass(gate, at(ms))
      gate = tried.gate
      if (tried.wait > 0 || passed.length === 6) break
      passed.push(ms)
    }
  }
  t.strictSame(passed, [0, 0, 0, 1200, 2300, 3400])
})

test('whatever happens in an hour, no token is in its file past its end, and requests keep their distance', async (t) => {
  const event = fc.record({
    ms: fc.integer({ min: 1, max: 700_000 }),
    what: fc.constantFrom('look', 'fail', 'renew', 'suspend', 'step', 'retry'),
    step: fc.integer({ min: -7_200_000, max: 7_200_000 }),
  })
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(
        fc.array(event, { maxLength: 30 }),
        fc.infiniteStream(fc.double({ min: 0, max: 0.99, noNaN: true })),
        (events, dice) => {
          const random = (): number => Number(dice.next().value)
          let now = at(0)
          let truth = 0
          let schedule = begin(now)
          let made = 0
          for (const { ms, what, step } of events) {
            truth += ms
            now = {
              wall: now.wall + ms + (what === 'step' ? step : 0),
              mono: now.mono + (what === 'suspend' ? 0 : ms),
              boot: now.boot + ms,
            }
            if (what === 'suspend' || what === 'step') schedule = woken(schedule, now, random)
            const { ask, remove } = due(schedule, now)
            if (schedule.held !== undefined && truth - made > 570_000 + 1000 && !remove) return false
            if (remove) schedule = { ...schedule, held: undefined }
            if (!ask) continue
            if (what === 'renew') {
              made = truth
              schedule = renewed(asked(schedule), now, life(truth), random)
            } else if (what === 'fail' || what === 'retry') {
              schedule = failed(asked(schedule), now, random, what === 'retry' ? { retryAfter: 5000 } : {})
              if (due(schedule, now).ask) return false
            }
          }
          return true
        },
      ),
      { numRuns: 400 },
    ),
  )
})

test('the real clocks agree with each other, and with Date', async (t) => {
  const { wall, mono, boot } = readClocks()
  t.ok(Math.abs(wall - Date.now()) < 100)
  t.ok(boot >= mono - 1 && mono > 0)
  t.equal(hold(at(0), life(0), middle).life, 600_000)
})
