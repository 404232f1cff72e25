// An ID token checked as OpenID Connect Core 3.1.3.7 has it, for parties without rules and words of their own.

import { IssuerError } from './issuer-error.ts'
import { fetchKeys } from './keys.ts'
import type { Reach } from './reach.ts'
import { TokenError, audiences, readToken, textClaim, timeClaim } from './token.ts'
import type { Claims } from './token.ts'
import { ASYMMETRIC, verify } from './verify.ts'

export type IdTokenTrouble =
  | 'NOT_A_JWT'
  | 'WRONG_ISSUER'
  | 'NO_KEYS'
  | 'BAD_SIGNATURE'
  | 'CLAIM_MISSING'
  | 'EXPIRED'
  | 'NOT_YET_VALID'
  | 'WRONG_AUDIENCE'

export class IdTokenError extends Error {
  override name = 'IdTokenError'
  readonly code: IdTokenTrouble
  constructor(code: IdTokenTrouble, cause?: unknown) {
    super(`the ID token is refused: ${code}`, { cause })
    this.code = code
  }
}

export interface Expected {
  readonly issuer: string
  readonly audience: string
}

export interface Identified {
  readonly subject: string
  readonly claims: Claims
}

/** Seconds that clocks may differ. */
const LEEWAY = 60

/** `now`: Unix seconds. */
export async function checkIdToken(
  compact: string,
  { issuer, audience }: Expected,
  reach: Reach,
  now: number,
): Promise<Identified> {
  const claims = await proven(compact, issuer, reach)
  const [exp, iat, nbf] = ['exp', 'iat', 'nbf'].map((name) => timeClaim(claims, name))
  const subject = textClaim(claims, 'sub')
  if (subject === undefined || typeof exp !== 'number' || typeof iat !== 'number' || nbf === 'malformed')
    throw new IdTokenError('CLAIM_MISSING')
  if (now >= exp + LEEWAY) throw new IdTokenError('EXPIRED')
  if (Math.max(iat, nbf ?? iat) > now + LEEWAY) throw new IdTokenError('NOT_YET_VALID')
  const given = audiences(claims) ?? []
  // 3.1.3.7, 4 and 5: with several audiences there must be an authorized party, and it must be us.
  const meant = textClaim(claims, 'azp') ?? (given.length === 1 ? given[0] : undefined)
  if (!given.includes(audience) || meant !== audience) throw new IdTokenError('WRONG_AUDIENCE')
  return { subject, claims }
}

async function proven(compact: string, issuer: string, reach: Reach): Promise<Claims> {
  try {
    const token = readToken(compact)
    // Before any key is fetched: nobody but the expected issuer is asked.
    if (token.claims['iss'] !== issuer) throw new IdTokenError('WRONG_ISSUER')
    await verify(token, await fetchKeys(issuer, reach), ASYMMETRIC)
    return token.claims
  } catch (caught) {
    if (caught instanceof IssuerError) throw new IdTokenError('NO_KEYS', caught)
    if (caught instanceof TokenError)
      throw new IdTokenError(caught.code === 'NOT_A_JWT' ? 'NOT_A_JWT' : 'BAD_SIGNATURE', caught)
    throw caught
  }
}
