// A subject token for a federated principal: RFC 8693 as Google's Security Token Service has it.

import { IssuerError } from '../trust/issuer-error.ts'
import { fetchKeys } from '../trust/keys.ts'
import type { Reach } from '../trust/reach.ts'
import { TokenError, audiences, readToken, timeClaim } from '../trust/token.ts'
import type { Claims, Unverified } from '../trust/token.ts'
import { verify } from '../trust/verify.ts'
import { CelError } from './cel.ts'
import { TokenEndpointError } from './error.ts'
import type { Project, Provider } from './pool.ts'

/** Who a federated access token speaks for. */
export interface Federated {
  readonly provider: Provider
  readonly subject: string
  readonly groups: readonly string[]
  readonly attributes: ReadonlyMap<string, string>
}

/** `now`: Unix seconds. */
export async function exchange(
  form: ReadonlyMap<string, string>,
  { providers }: Project,
  reach: Reach,
  now: number,
): Promise<Federated> {
  if (form.get('grant_type') !== 'urn:ietf:params:oauth:grant-type:token-exchange') {
    throw new TokenEndpointError(
      'unsupported_grant_type',
      'Invalid grant_type. The grant type must be "urn:ietf:params:oauth:grant-type:token-exchange".',
    )
  }
  if (form.get('requested_token_type') !== 'urn:ietf:params:oauth:token-type:access_token')
    throw badRequest('Invalid value for "requested_token_type".')
  const kind = form.get('subject_token_type') ?? ''
  if (!/^urn:ietf:params:oauth:token-type:(?:jwt|id_token)$/.test(kind))
    throw badRequest('Invalid value for "subject_token_type".')
  const name = AUDIENCE.exec(form.get('audience') ?? '')?.[1]
  // google-github-actions/auth#211
  if (name === undefined) {
    throw badRequest(
      'Invalid value for "audience". This value should be the full resource name of the Identity Provider. See https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token for the list of possible formats.',
    )
  }
  if ((form.get('scope') ?? '') === '') throw badRequest('Missing required parameter: scope.')
  const compact = form.get('subject_token') ?? ''
  if (compact === '') throw badRequest('Missing required parameter: subject_token.')
  const provider = providers.find((one) => one.name === name)
  // google-github-actions/auth#202
  if (provider === undefined || provider.disabled) {
    throw new TokenEndpointError(
      'invalid_target',
      'The target service indicated by the "audience" parameters is invalid. This might either be because the pool or provider is disabled or deleted or because it doesn\'t exist.',
    )
  }
  return map(await prove(compact, provider, reach, now), provider)
}

/** With a scheme, or as the bare resource name. */
const AUDIENCE =
  /^(?:https:)?\/\/iam\.googleapis\.com\/(projects\/\d+\/locations\/global\/workloadIdentityPools\/[^/]+\/providers\/[^/]+)$/

/** Seconds that clocks may differ. A guess. */
const LEEWAY = 60

async function prove(compact: string, provider: Provider, reach: Reach, now: number): Promise<Claims> {
  const token = read(compact)
  const { claims } = token
  if (claims['iss'] !== provider.issuer)
    throw refused(
      `The issuer in ID Token ${String(claims['iss'])} does not match the expected ones: ${provider.issuer}`,
    )
  await check(token, provider.issuer, reach)
  const [exp, iat] = [timeClaim(claims, 'exp'), timeClaim(claims, 'iat')]
  if (typeof exp !== 'number' || typeof iat !== 'number')
    throw refused('The ID Token must have integer "exp" and "iat" claims.')
  if (now >= exp + LEEWAY) throw refused(`ID Token issued at ${iat} is stale to sign-in.`)
  const nbf = timeClaim(claims, 'nbf')
  if (nbf === 'malformed' || Math.max(iat, nbf ?? iat) > now + LEEWAY)
    throw refused(`ID Token issued at ${iat} is not yet valid.`)
  // IAM: "exp must be at most 24 hours after iat".
  if (exp - iat > 24 * 3600) throw refused('The ID Token must not be valid for longer than 24 hours.')
  const given = audiences(claims) ?? []
  if (!given.some((one) => provider.audiences.includes(one)))
    throw refused(`The audience in ID Token [${given.join(', ')}] does not match the expected audience.`)
  return claims
}

function read(compact: string): Unverified {
  try {
    return readToken(compact)
  } catch (caught) {
    if (!(caught instanceof TokenError)) throw caught
    throw refused('Unable to parse the ID Token.', caught)
  }
}

async function check(token: Unverified, issuer: string, reach: Reach): Promise<void> {
  try {
    // IAM, "Prepare your external IdP": RS256 or ES256.
    await verify(token, await fetchKeys(issuer, reach), ['RS256', 'ES256'])
  } catch (caught) {
    // cloud.google.com/iam/docs/troubleshooting-workload-identity-federation
    if (caught instanceof IssuerError) throw refused("Error connecting to the given credential's issuer.", caught)
    if (caught instanceof TokenError) throw refused('Invalid ID Token: the signature could not be verified.', caught)
    throw caught
  }
}

function map(assertion: Claims, provider: Provider): Federated {
  const attributes = new Map<string, string>()
  let subject = ''
  let groups: string[] = []
  for (const [target, expression] of provider.mapping) {
    let value: unknown
    try {
      value = expression({ assertion })
    } catch (caught) {
      if (!(caught instanceof CelError)) throw caught
      // A claim that is not there: an attribute is left out, and only the subject is needed. A guess.
      if (target === 'google.subject')
        throw badRequest('The mapped attribute "google.subject" could not be evaluated.', caught)
      continue
    }
    if (target === 'google.groups') groups = needGroups(value)
    else if (typeof value !== 'string') throw badRequest(`The mapped attribute "${target}" must be of type STRING.`)
    else if (target === 'google.subject') subject = value
    else attributes.set(target.slice('attribute.'.length), value)
  }
  if (subject === '') throw badRequest('The mapped attribute "google.subject" is empty.')
  // google-github-actions/auth docs/TROUBLESHOOTING.md; a guess that the code is invalid_request. Bytes, not characters.
  if (Buffer.byteLength(subject) > 127) {
    throw badRequest(
      'The size of mapped attribute google.subject exceeds the 127 bytes limit. Either modify your attribute mapping or the incoming assertion to produce a mapped attribute that is less than 127 bytes.',
    )
  }
  if (!meets(provider, assertion, { subject, groups, attributes })) {
    // terraform-google-modules/terraform-example-foundation#1362
    throw new TokenEndpointError('unauthorized_client', 'The given credential is rejected by the attribute condition.')
  }
  return { provider, subject, groups, attributes }
}

function meets(
  { condition }: Provider,
  assertion: Claims,
  { subject, groups, attributes }: Omit<Federated, 'provider'>,
): boolean {
  if (condition === undefined) return true
  try {
    return condition({ assertion, google: { subject, groups }, attribute: Object.fromEntries(attributes) }) === true
  } catch (caught) {
    // A condition that fails is not met, so a claim that is missing opens nothing.
    if (caught instanceof CelError) return false
    throw caught
  }
}

function needGroups(value: unknown): string[] {
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'string'))
    throw badRequest('The mapped attribute "google.groups" must be of type LIST of STRING.')
  return value
}

const badRequest = (message: string, cause?: unknown): TokenEndpointError =>
  new TokenEndpointError('invalid_request', message, cause)
const refused = (message: string, cause?: unknown): TokenEndpointError =>
  new TokenEndpointError('invalid_grant', message, cause)
