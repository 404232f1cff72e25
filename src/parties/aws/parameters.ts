// The query protocol's edge: names and values out of a form, and the checks that STS makes before anything else. Every
// broken rule is reported in one answer, in the words of the services' common validator; limits: botocore service-2.json.

import { StsError } from './error.ts'
import type { Call } from '../serve.ts'
import { mediaType } from '../serve.ts'

export type Parameters = ReadonlyMap<string, string>

export interface AssumeRequest {
  readonly roleArn: string
  readonly sessionName: string
  readonly token: string
  readonly seconds: number
  readonly policy: string | undefined
}

/** From the query of a GET, or the form of a POST. The first of several values counts. */
export function readParameters(call: Call): Parameters {
  const form = call.method === 'POST' && mediaType(call) === 'application/x-www-form-urlencoded'
  const parameters = new Map<string, string>()
  for (const text of [call.query, form ? call.body.toString('utf8') : '']) {
    for (const [name, value] of new URLSearchParams(text)) if (!parameters.has(name)) parameters.set(name, value)
  }
  return parameters
}

export function readAssumeRequest(parameters: Parameters): AssumeRequest {
  const broken: string[] = []
  const read = (name: keyof typeof RULES): string => {
    const { least, most, pattern, shown } = RULES[name]
    const value = parameters.get(name)
    const member = `${name.slice(0, 1).toLowerCase()}${name.slice(1)}`
    if (value === undefined || value === '') {
      broken.push(
        `Value ${value === undefined ? 'null' : "''"} at '${member}' failed to satisfy constraint: ${value === undefined ? 'Member must not be null' : atLeast(least)}`,
      )
      return ''
    }
    const fail = (rule: string): number =>
      broken.push(`Value ${shown ? `'${value}' ` : ''}at '${member}' failed to satisfy constraint: ${rule}`)
    if (value.length < least) fail(atLeast(least))
    if (value.length > most) fail(`Member must have length less than or equal to ${most}`)
    if (pattern !== undefined && !pattern.test(value))
      fail(`Member must satisfy regular expression pattern: ${pattern.source.slice(1, -1)}`)
    return value
  }
  const roleArn = read('RoleArn')
  const sessionName = read('RoleSessionName')
  const token = read('WebIdentityToken')
  const seconds = readSeconds(parameters.get('DurationSeconds'), broken)
  const policy = parameters.get('Policy')
  if (broken.length > 0) {
    throw new StsError(
      'ValidationError',
      `${broken.length} validation error${broken.length === 1 ? '' : 's'} detected: ${broken.join('; ')}`,
    )
  }
  // ProviderId is for the access tokens of Facebook and the like, and must be absent for OpenID Connect. Text: a guess.
  if (parameters.has('ProviderId'))
    throw new StsError('ValidationError', 'ProviderId must not be specified for OpenID Connect ID tokens')
  // Managed session policies are not modelled; to pass over them would grant more than was asked for.
  if ([...parameters.keys()].some((name) => name.startsWith('PolicyArns.')))
    throw new StsError('ValidationError', 'PolicyArns is not modelled by this mock')
  return { roleArn, sessionName, token, seconds, policy }
}

// The token's own value is never put into an answer. Whether AWS does so is not known.
const RULES = {
  RoleArn: { least: 20, most: 2048, pattern: undefined, shown: true },
  RoleSessionName: { least: 2, most: 64, pattern: /^[\w+=,.@-]*$/, shown: true },
  WebIdentityToken: { least: 4, most: 20_000, pattern: undefined, shown: false },
}

const atLeast = (length: number): string => `Member must have length greater than or equal to ${length}`

function readSeconds(text: string | undefined, broken: string[]): number {
  if (text === undefined || text === '') return 3600
  if (!/^-?\d{1,9}$/.test(text)) throw new StsError('ValidationError', 'DurationSeconds must be an integer') // text: a guess
  const seconds = Number(text)
  const fail = (rule: string): number =>
    broken.push(`Value '${seconds}' at 'durationSeconds' failed to satisfy constraint: Member must have value ${rule}`)
  if (seconds < 900) fail('greater than or equal to 900')
  if (seconds > 43_200) fail('less than or equal to 43200')
  return seconds
}
