// What `dotfly init` and `dotfly keep` may be told of token files: one function from words to typed options.

import { isAbsolute, resolve } from 'node:path'
import { shown } from '../cli/printable.ts'
import { UsageError } from '../errors.ts'
import type { TokenFile, Variables } from './cloud.ts'
import { parseTokenFile } from './custom.ts'

/** The options as they were typed. */
export interface IdentityWords {
  tokenDir?: string
  tokenFile?: string[]
  waitToken?: string
  awsPrincipalTags?: true
}

export interface IdentityOptions {
  /** The socket that is asked. */
  readonly socket: string
  readonly directory: string
  readonly files: readonly TokenFile[]
  /** How long an entrypoint waits for its tokens, ms, and what then becomes of it. */
  readonly wait: { readonly limit: number; readonly otherwise: 'fail' | 'continue' }
  readonly awsPrincipalTags: boolean
  /** Whose the clouds' files are, and those that name nobody: the program's that reads them. */
  readonly owner?: { readonly uid: number; readonly gid: number }
}

export function identityOptions(
  words: IdentityWords,
  env: Variables,
  socket: string,
  owner?: IdentityOptions['owner'],
): IdentityOptions {
  const variable = (name: string): string | undefined => (env[name] === '' ? undefined : env[name])
  const directory = words.tokenDir ?? variable('DOTFLY_TOKEN_DIR') ?? '/.fly'
  if (!isAbsolute(directory) || /\p{Cc}/u.test(directory))
    throw new UsageError(`token directory ${shown(directory)} is not a path from / on`)
  const listed = (variable('DOTFLY_TOKEN_FILE') ?? '').split(';').map((word) => word.trim())
  const files = words.tokenFile ?? listed.filter((word) => word !== '')
  return {
    socket,
    directory: resolve(directory),
    files: files.map(parseTokenFile),
    wait: parseWait(words.waitToken ?? variable('DOTFLY_WAIT_TOKEN') ?? '10s'),
    awsPrincipalTags: words.awsPrincipalTags ?? variable('DOTFLY_AWS_PRINCIPAL_TAGS') !== undefined,
    ...(owner === undefined ? {} : { owner }),
  }
}

/** `10s[,fail|continue]`; fail is the default, for a program without its token fails later and less clearly. */
function parseWait(word: string): IdentityOptions['wait'] {
  const [time = '', otherwise = 'fail', ...more] = word.split(',')
  const limit = parseDuration(time)
  if (limit === undefined || more.length > 0 || (otherwise !== 'fail' && otherwise !== 'continue'))
    throw new UsageError(`waiting time ${shown(word)} is not such as 10s, 500ms or 1m,continue`)
  return { limit, otherwise }
}

/** `10s`, `500ms`, `2m`, `10` (seconds): ms, at most an hour. */
export function parseDuration(word: string): number | undefined {
  const [, number = '', unit = 's'] = /^([0-9]{1,6}(?:\.[0-9]{1,3})?)(ms|s|m)?$/.exec(word) ?? []
  const ms = Number(number) * UNIT[unit === 'ms' || unit === 'm' ? unit : 's']
  return number === '' || ms > 3_600_000 ? undefined : ms
}

const UNIT = { ms: 1, s: 1000, m: 60_000 } as const
