// Who is asking? The macaroon says which Machine it was minted for, the door says which Machine is calling, and only
// when both say the same is anything answered.

import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { clear } from './clear.ts'
import type { Bar } from './clear.ts'
import type { Machine } from './machine.ts'
import { Refusal } from './refusal.ts'
import { verify } from './verify.ts'

export interface Admitted {
  readonly machine: Machine
  /** A public name for the token, for `GET /v1/tokens/current`: its identifier is secret. */
  readonly tokenId: string
}

/** `here` is the Machine whose door this is; the TCP door has none. `now`: Unix seconds. Throws a Refusal. */
export function admit(message: IncomingMessage, here: Machine | undefined, key: string, now: number): Admitted {
  const verdict = verify(authorization(message), key)
  // One text for every flaw: how far a forgery came is nothing to tell.
  if (!verdict.ok) throw new Refusal(401, NOT_VALID)
  const caller =
    here === undefined ? undefined : { org: here.about.org.name, app: here.about.app.name, machine: here.about.name }
  const outcome = clear(verdict, caller, now)
  if (outcome !== 'CLEARED') throw new Refusal(STATUS[outcome], outcome === 'NOT_THIS_CALLER' ? NOT_YOURS : NOT_VALID)
  if (here === undefined) throw new Refusal(403, NOT_YOURS)
  return { machine: here, tokenId: createHash('sha256').update(verdict.identifier).digest('hex').slice(0, 16) }
}

// The first text is a capture of the real API; no capture of its 403 is public, so the second is ours.
const NOT_VALID = 'Authenticate: token validation error'
const NOT_YOURS = 'Authorize: token does not belong to this caller'

const STATUS: Record<Bar, number> = { CAVEAT_MISSING: 401, CAVEAT_REPEATED: 401, EXPIRED: 401, NOT_THIS_CALLER: 403 }

/** The one Authorization header. Node keeps the first of several and says nothing; here two are none. */
function authorization({ rawHeaders }: IncomingMessage): string | undefined {
  const values = rawHeaders.filter((_text, at) => at % 2 === 1 && rawHeaders[at - 1]?.toLowerCase() === 'authorization')
  return values.length === 1 ? values[0] : undefined
}
