// Clears the caveats of a macaroon whose chain is verified: may this caller, now, act under it?

import type { Caveat } from './caveat.ts'
import type { Verdict } from './verify.ts'

/** Who calls, as flyd knows it from the door that the connection came through. */
export interface Caller {
  readonly org: string
  readonly app: string
  readonly machine: string
}

export type Bar = 'CAVEAT_MISSING' | 'CAVEAT_REPEATED' | 'EXPIRED' | 'NOT_THIS_CALLER'

/** A word for yes as well, so that a forgotten `return` is a no. `now`: Unix seconds. */
export function clear(verified: Verdict & { ok: true }, caller: Caller | undefined, now: number): 'CLEARED' | Bar {
  const { permission, discharges } = verified
  // As minted: each of the four once, and nothing else. Init presents its macaroon untouched, so one that somebody
  // has attenuated is one that somebody has held.
  const fault = complete(permission, ['org', 'app', 'machine', 'expires'])
  if (fault !== undefined) return fault
  for (const caveats of discharges) {
    const lack = complete(caveats, ['expires'])
    if (lack !== undefined) return lack
  }
  for (const caveat of [permission, ...discharges].flat()) {
    const bar = judge(caveat, caller, now)
    if (bar !== 'CLEARED') return bar
  }
  return 'CLEARED'
}

function complete(caveats: readonly Caveat[], mandatory: readonly Caveat['kind'][]): Bar | undefined {
  const kinds = caveats.map(({ kind }) => kind)
  if (!mandatory.every((kind) => kinds.includes(kind))) return 'CAVEAT_MISSING'
  return kinds.length > mandatory.length ? 'CAVEAT_REPEATED' : undefined
}

function judge(caveat: Caveat, caller: Caller | undefined, now: number): 'CLEARED' | Bar {
  if (caveat.kind === 'expires') return now < caveat.value ? 'CLEARED' : 'EXPIRED'
  // The TCP door knows no caller, and then no Machine's macaroon is good.
  return caller !== undefined && caller[caveat.kind] === caveat.value ? 'CLEARED' : 'NOT_THIS_CALLER'
}
