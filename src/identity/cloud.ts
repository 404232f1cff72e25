// What a cloud needs of a Machine: variables that its SDKs look at, a token file of its own audience, at times a file
// of settings. Each cloud is one function from the environment to an Arrangement, in a file of its own.

import type { CloudName, Notice, Problem } from './event.ts'
import type { Place } from './file.ts'

export type Variables = Readonly<Record<string, string | undefined>>

export interface TokenFile extends Place {
  readonly cloud: CloudName
  /** Without one, flyd's default. */
  readonly audience?: string
  readonly format: 'raw' | 'json'
  readonly awsPrincipalTags?: boolean
  /** At which part of its life a token is replaced, where that is earlier than for all: its readers keep it themselves. */
  readonly refreshAt?: number
}

/** A file that says where the token is, and never changes. */
export interface SettingsFile extends Place {
  readonly text: string
}

export interface Arrangement {
  /** Variables to add: never one that is set already. */
  readonly env: Readonly<Record<string, string>>
  readonly files: readonly TokenFile[]
  readonly settings: readonly SettingsFile[]
  readonly problems: readonly Problem[]
  readonly notices: readonly Notice[]
}

export interface Ground {
  /** Where token files go. */
  readonly directory: string
  /** Whose they are: the program's that reads them. */
  readonly owner?: { readonly uid: number; readonly gid: number }
  readonly awsPrincipalTags: boolean
}

export type Cloud = (env: Variables, ground: Ground) => Arrangement

export const NOTHING: Arrangement = { env: {}, files: [], settings: [], problems: [], notices: [] }

/** A variable's value; an empty one is one that is not set. */
export const valueOf = (env: Variables, name: string): string | undefined => (env[name] === '' ? undefined : env[name])

/** A token file that only the program's user may read. */
export const tokenFile = (
  cloud: CloudName,
  { directory, owner }: Ground,
  name: string,
  audience: string,
): TokenFile => ({ cloud, path: `${directory}/${name}`, mode: 0o600, ...owner, audience, format: 'raw' })

/** The first of the variables that is set, as a notice. */
export function firstSet(
  env: Variables,
  cloud: CloudName,
  code: Notice['code'],
  names: readonly string[],
): readonly Notice[] {
  const variable = names.find((name) => valueOf(env, name) !== undefined)
  return variable === undefined ? [] : [{ code, cloud, variable }]
}

/** Plain text of at most 512 bytes: what flyd signs. */
export const isAudience = (text: string): boolean =>
  text !== '' && Buffer.byteLength(text) <= 512 && !/[\p{C}\p{Zl}\p{Zp}]/u.test(text)
