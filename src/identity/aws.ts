// AWS, as Fly's own init does it: AWS_ROLE_ARN is all that a user sets; every SDK finds the rest.

import { type Arrangement, firstSet, type Ground, NOTHING, tokenFile, valueOf, type Variables } from './cloud.ts'
import type { Notice } from './event.ts'

export function aws(env: Variables, ground: Ground): Arrangement {
  const role = valueOf(env, 'AWS_ROLE_ARN')
  if (role === undefined) return NOTHING
  const problem = roleProblem(role)
  if (problem !== undefined)
    return { ...NOTHING, problems: [{ code: problem, cloud: 'aws', variable: 'AWS_ROLE_ARN' }] }

  const file = tokenFile('aws', ground, 'oidc_token', AUDIENCE)
  const notices: Notice[] = [
    // Every SDK looks at keys in the environment before it looks at a token.
    ...firstSet(env, 'aws', 'STATIC_KEYS_WIN', ['AWS_ACCESS_KEY_ID']),
    ...firstSet(env, 'aws', 'PROFILE_MAY_WIN', ['AWS_PROFILE']),
  ]
  const session = valueOf(env, 'AWS_ROLE_SESSION_NAME')
  if (session !== undefined && !SESSION_NAME.test(session))
    notices.push({ code: 'SESSION_NAME_INVALID', cloud: 'aws', variable: 'AWS_ROLE_SESSION_NAME' })
  const names = session === undefined ? { AWS_ROLE_SESSION_NAME: sessionName(env) } : {}
  const kept = valueOf(env, 'AWS_WEB_IDENTITY_TOKEN_FILE')
  if (kept !== undefined && kept !== file.path)
    return {
      ...NOTHING,
      env: names,
      notices: [...notices, { code: 'VARIABLE_KEPT', cloud: 'aws', variable: 'AWS_WEB_IDENTITY_TOKEN_FILE' }],
    }
  return {
    ...NOTHING,
    env: { ...(kept === undefined ? { AWS_WEB_IDENTITY_TOKEN_FILE: file.path } : {}), ...names },
    files: [{ ...file, ...(ground.awsPrincipalTags ? { awsPrincipalTags: true } : {}) }],
    notices,
  }
}

const AUDIENCE = 'sts.amazonaws.com'

/** STS's own rule. */
const SESSION_NAME = /^[\w+=,.@-]{2,64}$/

/** App and Machine, so that CloudTrail tells who it was; the Machine is the part that must not be cut. */
export function sessionName(env: Variables): string {
  const clean = (name: string): string => (valueOf(env, name) ?? '').replace(/[^\w+=,.@-]/g, '-')
  const machine = clean('FLY_MACHINE_ID').slice(0, 32)
  const app = clean('FLY_APP_NAME').slice(0, 63 - machine.length)
  const name = [app, machine].filter((part) => part !== '').join('-')
  return name.length < 2 ? 'dotfly' : name
}

/** What STS would only say in a word, `ValidationError`. */
export function roleProblem(arn: string): 'ROLE_ARN_BLANKS' | 'ROLE_ARN_MALFORMED' | undefined {
  if (arn.length > 2048) return 'ROLE_ARN_MALFORMED'
  if (ROLE.test(arn)) return undefined
  return ROLE.test(arn.trim()) ? 'ROLE_ARN_BLANKS' : 'ROLE_ARN_MALFORMED'
}

// Any partition: aws, aws-cn, aws-us-gov, aws-iso…
const ROLE = /^arn:aws(?:-[a-z]+)*:iam::\d{12}:role\/(?:[\x21-\x7e]+\/)?[\w+=,.@-]{1,64}$/
