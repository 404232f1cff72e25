// All that flyd knows and shares among its doors.

import type { Signer } from '../issuer/client.ts'
import type { Limiter } from './bucket.ts'
import type { Machine, Time } from './machine.ts'
import { Refusal } from './refusal.ts'

export interface Fleet {
  readonly machines: readonly Machine[]
  /** Root key of all macaroons: random, as a string, which macaroons.js derives the true key from. */
  readonly key: string
  readonly signer: Pick<Signer, 'sign'>
  readonly limiter: Limiter | undefined
  readonly time: Time
}

/** The Machines of the caller's own app; any other app, there or not, is not there for it. */
export function appOf(fleet: Fleet, caller: Machine, app: string | undefined): Machine[] {
  const { org, app: own } = caller.about
  if (app !== own.name) throw new Refusal(404, 'app not found')
  return fleet.machines.filter(({ about }) => about.app.name === own.name && about.org.name === org.name)
}

/** A Machine of the caller's app, to be read. */
export function neighbour(fleet: Fleet, caller: Machine, app: string | undefined, id: string | undefined): Machine {
  const machine = appOf(fleet, caller, app).find(({ about }) => about.id === id)
  if (machine === undefined) throw new Refusal(404, 'machine not found')
  return machine
}

/** The caller itself: its macaroon changes no other Machine. */
export function itself(fleet: Fleet, caller: Machine, app: string | undefined, id: string | undefined): Machine {
  if (neighbour(fleet, caller, app, id) !== caller) throw new Refusal(403, 'Authorize: token is for another machine')
  return caller
}
