// Google Cloud: the Security Token Service, and the IAM Credentials API that makes a service account's token of a
// federated one. Two hosts of Google's, one here.

import { randomBytes } from 'node:crypto'
import { json, mediaType, serve } from '../serve.ts'
import type { Call, Party, Reply } from '../serve.ts'
import { recordOf } from '../shape.ts'
import type { Reach } from '../trust/reach.ts'
import { API_STATUS, ApiError, TokenEndpointError } from './error.ts'
import { exchange } from './exchange.ts'
import type { Federated } from './exchange.ts'
import { poolOf } from './pool.ts'
import type { Project } from './pool.ts'

export interface GcpOptions {
  readonly port?: number
  readonly project: Project
  readonly reach?: Reach
  /** Unix ms. */
  readonly now?: () => number
}

export interface Gcp extends Party {
  /** Whom an access token speaks for, as an API of Google's would learn it; undefined for one that is not good. */
  principal(accessToken: string): string | undefined
}

interface Issued {
  /** Unix ms. */
  readonly expires: number
  readonly who: Federated | string
}

export async function startGcp({ port, project, reach = {}, now = Date.now }: GcpOptions): Promise<Gcp> {
  const tokens = new Tokens(now)
  const party = await serve({ port }, async (call) => {
    try {
      if (call.path === '/v1/token') return await token(call, project, reach, tokens, now)
      const [, email] = /^\/v1\/projects\/-\/serviceAccounts\/([^/:]+):generateAccessToken$/.exec(call.path) ?? []
      if (email !== undefined && call.method === 'POST')
        return generate(call, email.replace('%40', '@'), project, tokens)
      throw new ApiError('NOT_FOUND', 'Requested entity was not found.')
    } catch (caught) {
      if (caught instanceof TokenEndpointError)
        return json(400, { error: caught.code, error_description: caught.message })
      if (!(caught instanceof ApiError)) throw caught
      const { status, message, details } = caught
      return json(API_STATUS[status], {
        error: { code: API_STATUS[status], message, status, ...(details.length === 0 ? {} : { details }) },
      })
    }
  })
  return {
    ...party,
    principal: (accessToken) => {
      const who = tokens.find(accessToken)
      return who === undefined || typeof who === 'string'
        ? who
        : `principal://iam.googleapis.com/${poolOf(who.provider.name)}/subject/${who.subject}`
    },
  }
}

class Tokens {
  readonly #issued = new Map<string, Issued>()
  readonly #now: () => number

  constructor(now: () => number) {
    this.#now = now
  }

  issue(who: Issued['who'], seconds: number): { token: string; expires: number } {
    const [oldest] = this.#issued.keys()
    if (this.#issued.size >= 10_000 && oldest !== undefined) this.#issued.delete(oldest)
    // Opaque, but told by its prefix: `ya29.d.` federated, `ya29.c.` a service account's.
    const token = `ya29.${typeof who === 'string' ? 'c' : 'd'}.${randomBytes(96).toString('base64url')}`
    const expires = this.#now() + seconds * 1000
    this.#issued.set(token, { who, expires })
    return { token, expires }
  }

  find(token: string): Issued['who'] | undefined {
    const issued = this.#issued.get(token)
    return issued === undefined || issued.expires <= this.#now() ? undefined : issued.who
  }
}

async function token(call: Call, project: Project, reach: Reach, tokens: Tokens, now: () => number): Promise<Reply> {
  if (call.method !== 'POST') throw new ApiError('NOT_FOUND', 'Requested entity was not found.')
  // "The request must not have an Authorization header" for a workload: the subject token is the proof.
  if (call.headers.has('authorization'))
    throw new TokenEndpointError('invalid_request', 'The Authorization header must not be set.')
  const who = await exchange(parameters(call), project, reach, Math.floor(now() / 1000))
  return json(200, {
    access_token: tokens.issue(who, 3599).token,
    issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
    token_type: 'Bearer',
    expires_in: 3599,
  })
}

/** A form, or JSON with the same names in camelCase or as they are: Google's APIs take both. */
function parameters(call: Call): Map<string, string> {
  if (mediaType(call) !== 'application/json') return new Map(new URLSearchParams(call.body.toString('utf8')))
  const found = new Map<string, string>()
  for (const [name, value] of Object.entries(body(call) ?? {})) {
    if (typeof value === 'string')
      found.set(
        name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
        value,
      )
  }
  // In JSON the enums are the URNs as well.
  return found
}

function generate(call: Call, email: string, { serviceAccounts }: Project, tokens: Tokens): Reply {
  const [, bearer] = /^Bearer ([A-Za-z0-9._~+/=-]+)$/i.exec(call.headers.get('authorization') ?? '') ?? []
  const who = bearer === undefined ? undefined : tokens.find(bearer)
  if (who === undefined) {
    throw new ApiError(
      'UNAUTHENTICATED',
      'Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.',
    )
  }
  const asked = body(call)
  const { scope, lifetime = '3600s' } = asked ?? {}
  if (!Array.isArray(scope) || scope.length === 0 || !scope.every((one) => typeof one === 'string'))
    throw new ApiError('INVALID_ARGUMENT', 'The scope is missing.')
  const [, seconds] = typeof lifetime === 'string' ? (/^(\d{1,6})s$/.exec(lifetime) ?? []) : []
  // Twelve hours need an organisation policy, which is not modelled.
  if (seconds === undefined || Number(seconds) < 1 || Number(seconds) > 3600)
    throw new ApiError('INVALID_ARGUMENT', 'The access token lifetime cannot exceed 3600 seconds.')
  const account = serviceAccounts.find((one) => one.email === email)
  if (account === undefined || typeof who === 'string' || !account.members.some((member) => isMember(member, who))) {
    // google-github-actions/auth#340: whether the account is there at all is not told.
    throw new ApiError(
      'PERMISSION_DENIED',
      "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).",
      [
        {
          '@type': 'type.googleapis.com/google.rpc.ErrorInfo',
          reason: 'IAM_PERMISSION_DENIED',
          domain: 'iam.googleapis.com',
          metadata: { permission: 'iam.serviceAccounts.getAccessToken' },
        },
      ],
    )
  }
  const { token: accessToken, expires } = tokens.issue(email, Number(seconds))
  return json(200, { accessToken, expireTime: new Date(expires).toISOString().replace(/\.\d+Z$/, 'Z') })
}

/** IAM docs, "Principal identifiers": one subject, an attribute's value, a group, or the whole pool. */
function isMember(member: string, { provider, subject, groups, attributes }: Federated): boolean {
  const pool = `iam.googleapis.com/${poolOf(provider.name)}`
  if (member === `principal://${pool}/subject/${subject}` || member === `principalSet://${pool}/*`) return true
  if (groups.some((group) => member === `principalSet://${pool}/group/${group}`)) return true
  return [...attributes].some(([name, value]) => member === `principalSet://${pool}/attribute.${name}/${value}`)
}

function body(call: Call): Record<string, unknown> | undefined {
  try {
    return recordOf(JSON.parse(call.body.toString('utf8')))
  } catch (caught) {
    if (!(caught instanceof SyntaxError)) throw caught
    throw new ApiError('INVALID_ARGUMENT', 'Invalid JSON payload received.')
  }
}
