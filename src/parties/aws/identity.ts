// From a token to who it speaks of: the provider that the account has for its issuer, the signature, the times, the
// audience. In this order; which one the real service looks at first when several are wrong is a guess.

import { IssuerError } from '../trust/issuer-error.ts'
import { fetchKeys } from '../trust/keys.ts'
import type { Reach } from '../trust/reach.ts'
import { TokenError, audiences, readToken, textClaim, timeClaim } from '../trust/token.ts'
import type { Claims, TokenTrouble, Unverified } from '../trust/token.ts'
import { ASYMMETRIC, verify } from '../trust/verify.ts'
import { StsError } from './error.ts'
import type { Iam, Provider } from './iam.ts'

export interface Identity {
  readonly provider: Provider
  readonly subject: string
  readonly audience: string
  readonly claims: Claims
}

/** `account`: the one that the role is in, whose providers alone count. `now`: Unix seconds. */
export async function identify(
  compact: string,
  account: string,
  iam: Iam,
  reach: Reach,
  now: number,
): Promise<Identity> {
  const token = read(compact)
  const { claims } = token
  const iss = need(claims, 'iss')
  const provider = iam.providers.find((one) => one.url === iss && one.account === account)
  if (provider === undefined) throw invalid(`No OpenIDConnect provider found in your account for ${iss}`)
  await prove(token, iss, reach)
  inTime(claims, now)
  const audience = audienceOf(claims, provider)
  return { provider, subject: need(claims, 'sub'), audience, claims }
}

function read(compact: string): Unverified {
  try {
    return readToken(compact)
  } catch (caught) {
    if (!(caught instanceof TokenError)) throw caught
    throw invalid(
      'The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)',
      caught,
    )
  }
}

async function prove(token: Unverified, issuer: string, reach: Reach): Promise<void> {
  try {
    await verify(token, await fetchKeys(issuer, reach), ASYMMETRIC)
  } catch (caught) {
    if (caught instanceof IssuerError) {
      // SDKs ask again after this one. That an issuer which takes no connection gives this, and one which answers
      // wrongly or slowly the other, is a guess from the two codes' descriptions.
      if (caught.code === 'UNREACHABLE')
        throw new StsError('IDPCommunicationError', 'Unable to communicate with the identity provider', caught)
      throw invalid(NO_KEY, caught)
    }
    if (!(caught instanceof TokenError)) throw caught
    if (NO_SUCH.includes(caught.code)) throw invalid(NO_KEY, caught)
    throw invalid('The ID Token could not be verified', caught) // text: a guess
  }
}

/** Two keys of one name leave open which is meant: that AWS then takes neither is a guess. */
const NO_SUCH: readonly TokenTrouble[] = ['NO_KID', 'NO_SUCH_KEY', 'TWO_SUCH_KEYS']

/** Live capture: repost.aws QUN9CxsYDHQFqlo_Y9Y2sjVQ. */
const NO_KEY =
  "Couldn't retrieve verification key from your identity provider, please reference AssumeRoleWithWebIdentity documentation for requirements"

/** Seconds that an issuer's clock may be ahead. A guess. */
const LEEWAY = 60

/** Seconds: an older token is refused whatever its `exp` says. The limit is a guess, the code and text are not. */
const OLDEST = 24 * 3600

function inTime(claims: Claims, now: number): void {
  const [exp, iat, nbf] = ['exp', 'iat', 'nbf'].map((name) => timeClaim(claims, name))
  if (exp === undefined || iat === undefined) throw missing(exp === undefined ? 'exp' : 'iat')
  // SDK documentation: timestamps must be integers. Text: a guess.
  if (exp === 'malformed' || iat === 'malformed' || nbf === 'malformed')
    throw invalid('The timestamps of the ID Token must be integers')
  // The missing space is the service's own: awslabs/aws-orbit-workbench#771.
  if (now >= exp) {
    throw new StsError(
      'ExpiredTokenException',
      `Token expired: current date/time ${now} must be before the expiration date/time${exp}`,
    )
  }
  // mozilla-iam/mozilla-aws-cli#146
  if (now - iat > OLDEST) throw new StsError('ExpiredTokenException', `Token too old: ${now - iat}`)
  if (Math.max(iat, nbf ?? iat) > now + LEEWAY) throw invalid('The ID Token is not yet valid') // text: a guess
}

/** With an authorized party, that is the audience: IAM User Guide, "Available keys for AWS OIDC federation". */
function audienceOf(claims: Claims, { audiences: registered }: Provider): string {
  const given = audiences(claims)
  if (given === undefined || given.length === 0) throw missing('aud')
  // A list of one is what Kubernetes sends and EKS relies on. A longer one without `azp` leaves open whom it is for: a guess.
  const audience = textClaim(claims, 'azp') ?? (given.length === 1 ? given[0] : undefined)
  if (audience === undefined || !registered.includes(audience)) throw invalid('Incorrect token audience')
  return audience
}

function need(claims: Claims, name: string): string {
  const value = textClaim(claims, name)
  if (value === undefined) throw missing(name)
  return value
}

const invalid = (message: string, cause?: unknown): StsError => new StsError('InvalidIdentityToken', message, cause)

/** aws-actions/configure-aws-credentials#502, aws/aws-sdk-ruby#2698. */
const missing = (claim: string): StsError => invalid(`Missing a required claim: ${claim}`)
