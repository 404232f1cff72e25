// Whether one of the issuer's published keys made a token's signature.

import { compactVerify, importJWK } from 'jose'
import type { JWK } from 'jose'
import { TokenError } from './token.ts'
import type { Unverified } from './token.ts'

/** AWS takes these six; Google and Microsoft take fewer, see there. */
export const ASYMMETRIC = ['RS256', 'RS384', 'RS512', 'ES256', 'ES384', 'ES512']

export async function verify(
  { compact, header }: Unverified,
  keys: readonly JWK[],
  algorithms: readonly string[],
): Promise<void> {
  const { alg, kid } = header
  // `none` and HS256 end here, so a public key is never taken for an HMAC secret.
  if (typeof alg !== 'string' || !algorithms.includes(alg)) throw new TokenError('ALG_NOT_ALLOWED')
  // Whoever lets a token bring its own key, or say where one is, verifies nothing; `crit` names what we do not know.
  if (FORBIDDEN.some((name) => name in header)) throw new TokenError('HEADER_NOT_ALLOWED')
  if (typeof kid !== 'string' || kid === '') throw new TokenError('NO_KID')
  const named = keys.filter((key) => key.kid === kid && fits(key, alg))
  if (named.length > 1) throw new TokenError('TWO_SUCH_KEYS')
  const [key] = named
  if (key === undefined) throw new TokenError('NO_SUCH_KEY')
  try {
    await compactVerify(compact, await importJWK(key, alg), { algorithms: [alg] })
  } catch (caught) {
    // Also an RSA key under 2048 bits and a JWK that is none: jose refuses both.
    throw new TokenError('BAD_SIGNATURE', caught)
  }
}

const FORBIDDEN = ['crit', 'jku', 'jwk', 'x5u', 'x5c', 'b64']

function fits(key: JWK, alg: string): boolean {
  if (key.kty !== (alg.startsWith('RS') ? 'RSA' : 'EC')) return false
  return (key.use === undefined || key.use === 'sig') && (key.alg === undefined || key.alg === alg)
}
