// A token endpoint in the manner of Anthropic's workload identity federation: RFC 7523 as JSON. From its TypeScript SDK,
// src/lib/credentials/oidc-federation.ts, which shows what is sent and that a rule which does not match is a 401. What a
// rule looks like, and the texts of errors, are guesses. Behind it is one thing to ask with what it gives: the models.

import { randomBytes } from 'node:crypto'
import { matches } from '../aws/pattern.ts'
import { json, mediaType, serve } from '../serve.ts'
import type { Call, Party, Reply } from '../serve.ts'
import { recordOf } from '../shape.ts'
import { IdTokenError, checkIdToken } from '../trust/id-token.ts'
import type { Expected } from '../trust/id-token.ts'
import type { Reach } from '../trust/reach.ts'

export interface Rule extends Expected {
  readonly id: string
  readonly organization: string
  /** `*` and `?` stand for more. */
  readonly subject: string
}

export interface AnthropicOptions {
  readonly port?: number
  readonly rules: readonly Rule[]
  readonly reach?: Reach
  /** Unix ms. */
  readonly now?: () => number
}

export const seedRules = (issuer: string): Rule[] => [
  {
    id: 'fdrl_weathercat',
    organization: '11111111-2222-4333-8444-555555555555',
    issuer,
    audience: 'https://api.anthropic.com',
    subject: 'example:weather-cat:*',
  },
]

export function startAnthropic({ port, rules, reach = {}, now = Date.now }: AnthropicOptions): Promise<Party> {
  const given = new Map<string, number>() // access token -> when it expires, Unix ms
  return serve({ port }, async (call) => {
    if (call.path === '/v1/models' && call.method === 'GET') return listModels(call, given, now())
    if (call.path !== '/v1/oauth/token' || call.method !== 'POST') return refuse(404, 'invalid_request', 'not found')
    const reply = await exchange(call, rules, reach, Math.floor(now() / 1000))
    if ('token' in reply) {
      given.set(reply.token, now() + LIFE * 1000)
      return json(200, { access_token: reply.token, token_type: 'Bearer', expires_in: LIFE })
    }
    return reply
  })
}

const LIFE = 3600 // s

/** Only for who shows a token that was given here: a program's first call that has a meaning. */
function listModels({ headers }: Call, given: ReadonlyMap<string, number>, now: number): Reply {
  const [, token = ''] = /^Bearer (\S+)$/.exec(headers.get('authorization') ?? '') ?? []
  if ((given.get(token) ?? 0) <= now)
    return json(401, { type: 'error', error: { type: 'authentication_error', message: 'invalid bearer token' } })
  const model = { type: 'model', id: 'claude-example', display_name: 'Example', created_at: '2026-01-01T00:00:00Z' }
  return json(200, { data: [model], has_more: false, first_id: model.id, last_id: model.id })
}

const BETAS = ['oauth-2025-04-20', 'oidc-federation-2026-04-01']

/** The SDK gives up by itself beyond this: 16 KiB. */
const LONGEST = 16 * 1024

async function exchange(
  call: Call,
  rules: readonly Rule[],
  reach: Reach,
  now: number,
): Promise<Reply | { token: string }> {
  const betas = (call.headers.get('anthropic-beta') ?? '').split(',').map((one) => one.trim())
  if (!BETAS.every((one) => betas.includes(one)))
    return refuse(400, 'invalid_request', `anthropic-beta must name ${BETAS.join(' and ')}`)
  const body = mediaType(call) === 'application/json' ? parse(call.body.toString('utf8')) : undefined
  if (body === undefined) return refuse(400, 'invalid_request', 'the body is not a JSON object')
  const { grant_type: grant, assertion, federation_rule_id: id, organization_id: organization } = body
  if (grant !== 'urn:ietf:params:oauth:grant-type:jwt-bearer')
    return refuse(400, 'unsupported_grant_type', 'grant_type must be jwt-bearer')
  if (typeof assertion !== 'string' || typeof id !== 'string' || typeof organization !== 'string') {
    return refuse(400, 'invalid_request', 'assertion, federation_rule_id and organization_id are needed')
  }
  if (assertion.length > LONGEST) return refuse(400, 'invalid_request', 'the assertion is longer than 16 KiB')
  const rule = rules.find((one) => one.id === id && one.organization === organization)
  // Which part did not match is told to the owner, in the console, and not to the caller.
  if (rule === undefined) return refuse(401, 'invalid_grant', NO_MATCH)
  try {
    const { subject } = await checkIdToken(assertion, rule, reach, now)
    if (!matches(rule.subject, subject, true)) return refuse(401, 'invalid_grant', NO_MATCH)
  } catch (caught) {
    if (!(caught instanceof IdTokenError)) throw caught
    return refuse(401, 'invalid_grant', NO_MATCH)
  }
  return { token: `sk-ant-oat01-${randomBytes(48).toString('base64url')}` }
}

const NO_MATCH = 'the federation rule does not match the assertion'

const refuse = (status: number, error: string, error_description: string): Reply =>
  json(status, { error, error_description }, { 'request-id': `req_${randomBytes(12).toString('hex')}` })

function parse(text: string): Record<string, unknown> | undefined {
  try {
    return recordOf(JSON.parse(text))
  } catch (caught) {
    if (caught instanceof SyntaxError) return undefined // the caller is told so
    throw caught
  }
}
