// What a million Machines ask of the issuer in 70 minutes, by src/identity/schedule.ts itself, with its jitter and
// without. Seeded: the same numbers in every run. Writes docs/refresh.svg, and prints what it found.
//
//    node bench/refresh.ts [MACHINES]

import { writeFileSync } from 'node:fs'
import type { Instant } from '../src/identity/clocks.ts'
import {
  asked,
  begin,
  due,
  failed,
  type Random,
  removed,
  renewed,
  type Schedule,
  woken,
} from '../src/identity/schedule.ts'

const MACHINES = Number(process.argv[2] ?? 1_000_000)
const MINUTE = 60_000
const END = 70 * MINUTE
const STEP = 100 // ms, the resolution of events
const LIFE = 600 // s

/** What happens: all Machines start within 20 s; the issuer is away from two Machines in five for 7 minutes; later half
 * of all are suspended in one instant and resumed in one instant. */
const BOOT = 20_000
const OUTAGE = { from: 25 * MINUTE, to: 32 * MINUTE, share: 0.4 }
const SUSPEND = { from: 45 * MINUTE, to: 55 * MINUTE, share: 0.5 }

interface Run {
  /** Requests that arrive, by second. */
  load: Uint32Array
  requests: number
  /** Tokens taken away because no new one came in time. */
  lost: number
  /** ms after the resume until the last of the resumed had a new token. */
  resumed: number
  /** ms after the outage until everybody had a token again. */
  recovered: number
}

/** mulberry32 */
function seeded(seed: number): Random {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/** `random` is that of the schedule; who boots when is the same in both runs. */
function simulate(random: Random): Run {
  const world = seeded(7)
  const schedules: Schedule[] = Array.from({ length: MACHINES })
  // A wheel of lists: the Machines that look again in a step are linked by their numbers.
  const wheel = new Int32Array(END / STEP + 1).fill(-1)
  const next = new Int32Array(MACHINES)
  const load = new Uint32Array(END / 1000 + 1)
  const run: Run = { load, requests: 0, lost: 0, resumed: 0, recovered: 0 }
  const put = (machine: number, at: number): void => {
    const slot = Math.ceil(at / STEP)
    if (slot >= wheel.length) return
    next[machine] = wheel[slot]!
    wheel[slot] = machine
  }
  const affected = (machine: number, { from, to, share }: typeof OUTAGE, now: number): boolean =>
    now >= from && now < to && machine % 1000 < share * 1000

  for (let machine = 0; machine < MACHINES; machine++) put(machine, world() * BOOT)
  const asleep: number[] = []
  for (let slot = 0; slot < wheel.length; slot++) {
    const at = slot * STEP
    if (at === SUSPEND.to) {
      const now = moment(at)
      for (const machine of asleep) {
        const schedule = woken(schedules[machine]!, now, random)
        schedules[machine] = schedule
        put(machine, Math.max(schedule.notBefore, at + STEP))
      }
    }
    let following = -1
    for (let machine = wheel[slot]!; machine >= 0; machine = following) {
      following = next[machine]!
      // Which Machines sleep has nothing to do with which lose the issuer.
      const sleeper = (machine * 7) % 1000 < SUSPEND.share * 1000
      if (sleeper && at >= SUSPEND.from && at < SUSPEND.to) {
        asleep.push(machine)
        continue
      }
      const now = moment(at)
      let schedule = (schedules[machine] ??= begin(now))
      const { ask, remove } = due(schedule, now)
      if (remove) {
        run.lost++
        schedule = removed(schedule)
      }
      if (ask) {
        run.requests++
        load[Math.floor(at / 1000)]!++
        const without = schedule.held === undefined
        if (affected(machine, OUTAGE, at)) schedule = failed(asked(schedule), now, random)
        else {
          const iat = at / 1000
          schedule = renewed(asked(schedule), now, { iat, nbf: iat, exp: iat + LIFE }, random)
          if (without && at > OUTAGE.to && at < SUSPEND.from) run.recovered = Math.max(run.recovered, at - OUTAGE.to)
          if (at >= SUSPEND.to && at < SUSPEND.to + 5000 && sleeper)
            run.resumed = Math.max(run.resumed, at - SUSPEND.to)
        }
      }
      schedules[machine] = schedule
      put(machine, Math.max(at + STEP, nextLook(schedule)))
    }
  }
  return run
}

const moment = (at: number): Instant => ({ wall: at, mono: at, boot: at })

/** A real keeper looks twice a second; here nobody is looked at for nothing. */
function nextLook({ held, wanted, notBefore }: Schedule): number {
  if (held === undefined) return notBefore
  const replaced = wanted ? notBefore : held.at.boot + held.replaceAt
  return Math.min(replaced, held.at.boot + held.life - 30_000)
}

// ---- the picture

const WIDTH = 1000
const PANEL = 230
const LEFT = 64
const TOP = 46
const GAP = 52
const HIGHEST = 1_000_000

function draw(runs: readonly [string, Run][]): string {
  const x = (ms: number): number => LEFT + ((WIDTH - LEFT - 20) * ms) / END
  const height = TOP + runs.length * (PANEL + GAP)
  const parts: string[] = []
  for (const [index, [title, run]] of runs.entries()) {
    const top = TOP + index * (PANEL + GAP)
    const y = (load: number): number => top + PANEL - (PANEL * Math.log10(Math.max(1, load))) / Math.log10(HIGHEST)
    const mark = (from: number, to: number, text: string): void => {
      parts.push(
        `<rect x="${x(from).toFixed(1)}" y="${top}" width="${(x(to) - x(from)).toFixed(1)}" height="${PANEL}" fill="#f1ead9"/>`,
        `<text x="${(x(from) + 4).toFixed(1)}" y="${top + 14}" fill="#7a6a45">${text}</text>`,
      )
    }
    mark(OUTAGE.from, OUTAGE.to, `outage, ${OUTAGE.share * 100} %`)
    mark(SUSPEND.from, SUSPEND.to, `suspended, ${SUSPEND.share * 100} %`)
    for (let power = 0; power <= 6; power++) {
      const at = y(10 ** power).toFixed(1)
      parts.push(
        `<line x1="${LEFT}" x2="${WIDTH - 20}" y1="${at}" y2="${at}" stroke="#ddd"/>`,
        `<text x="${LEFT - 8}" y="${Number(at) + 4}" text-anchor="end" fill="#555">${(10 ** power).toLocaleString('en')}</text>`,
      )
    }
    for (let minute = 0; minute <= END / MINUTE; minute += 10)
      parts.push(
        `<text x="${x(minute * MINUTE).toFixed(1)}" y="${top + PANEL + 16}" text-anchor="middle" fill="#555">${minute} min</text>`,
      )
    // The highest second of every four: a mean would hide the peaks that this is about.
    const points: string[] = []
    for (let second = 0; second < run.load.length; second += 4)
      points.push(`${x(second * 1000).toFixed(1)},${y(Math.max(...run.load.subarray(second, second + 4))).toFixed(1)}`)
    parts.push(
      `<polyline points="${points.join(' ')}" fill="none" stroke="${index === 0 ? '#b3412e' : '#1f6f8b'}" stroke-width="1.4"/>`,
      `<text x="${LEFT}" y="${top - 8}" font-weight="bold" fill="#222">${title}</text>`,
    )
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="11">
<rect width="${WIDTH}" height="${height}" fill="#fff"/>
<text x="${LEFT}" y="20" font-size="14" fill="#222">${MACHINES.toLocaleString('en')} Machines: token requests a second that reach the issuer (logarithmic)</text>
${parts.join('\n')}
</svg>
`
}

const peak = (load: Uint32Array, from: number, to: number): number =>
  load.subarray(from, to).reduce((a, b) => Math.max(a, b), 0)

function tell(name: string, { load, requests, lost, resumed, recovered }: Run, ms: number): void {
  const figures = {
    'boot, first wave': peak(load, 0, 60),
    'second wave': peak(load, 120, 600),
    'just before the outage': peak(load, 1200, 1500),
    'during the outage': peak(load, 1501, 1920),
    'after it': peak(load, 1920, 2300),
    'at resume': peak(load, 3300, 3310),
    'next wave after resume': peak(load, 3400, 4200),
  }
  console.log(`${name} (${(ms / 1000).toFixed(1)} s to simulate)`)
  for (const [what, value] of Object.entries(figures)) console.log(`  ${what.padEnd(24)} ${value} a second`)
  console.log(`  requests ${requests}, tokens removed before their end ${lost}`)
  console.log(
    `  all resumed have new tokens after ${resumed} ms; all have tokens ${recovered / 1000} s after the outage`,
  )
}

function timed(name: string, random: Random): Run {
  const since = performance.now()
  const run = simulate(random)
  tell(name, run, performance.now() - since)
  return run
}

const runs: [string, Run][] = [
  ['without jitter', timed('without jitter', () => 0.5)],
  ['with jitter, as it is', timed('with jitter', seeded(42))],
]
if (MACHINES === 1_000_000) writeFileSync(new URL('../docs/refresh.svg', import.meta.url), draw(runs))
