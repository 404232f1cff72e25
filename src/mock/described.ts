// A Machine for the mock, all of it from its three names: the same names give the same ids in every run.

import { createHash } from 'node:crypto'
import type { Described } from '../flyd/machine.ts'
import { isMachineName, isSlug } from '../issuer/names.ts'

export interface MachineNames {
  readonly org: string
  readonly app: string
  readonly name: string
  readonly region?: string
}

export function describeMachine({ org, app, name, region = 'yyz' }: MachineNames): Described {
  if (!isSlug(org)) throw new TypeError('the name of an org is lower case letters, digits and dashes')
  if (!isSlug(app)) throw new TypeError('the name of an app is lower case letters, digits and dashes')
  if (!isMachineName(name)) throw new TypeError('the name of a Machine is letters, digits, dashes and underscores')
  if (!isSlug(region)) throw new TypeError('the name of a region is lower case letters and digits')
  return {
    org: { id: numberOf(`org ${org}`), name: org },
    app: { id: numberOf(`app ${org} ${app}`), name: app },
    id: hashOf(`machine ${org} ${app} ${name}`).slice(0, 14),
    name,
    region,
    image: `registry.fly.io/${app}:latest`,
    digest: `sha256:${hashOf(`image ${org} ${app}`)}`,
  }
}

const hashOf = (text: string): string => createHash('sha256').update(text).digest('hex')

/** Seven or eight digits, as Fly's ids have. */
const numberOf = (text: string): string =>
  String(1_000_000 + (Number.parseInt(hashOf(text).slice(0, 8), 16) % 90_000_000))

/** Two Machines of one app and one of another org: enough to see that each gets its own tokens and nobody else's. */
export const DEFAULT_MACHINES: readonly MachineNames[] = [
  { org: 'example', app: 'weather-cat', name: 'ancient-snow-4824' },
  { org: 'example', app: 'weather-cat', name: 'quiet-river-7311' },
  { org: 'rival', app: 'storm-dog', name: 'bold-leaf-1290', region: 'ams' },
]
