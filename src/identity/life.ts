// How long a token is good for, by its own words. Its signature is the relying party's work.

import { decodeJwt } from 'jose/jwt/decode'
import type { Life } from './schedule.ts'

/** Undefined where the claims cannot be read, or speak of no time at all. */
export function lifeOf(token: string): Life | undefined {
  let claims
  try {
    claims = decodeJwt(token)
  } catch {
    return undefined // three parts with dots, and yet no token
  }
  const { exp, iat = claims.nbf, nbf = iat } = claims
  if (exp === undefined || iat === undefined || nbf === undefined) return undefined
  return [exp, iat, nbf].every(Number.isFinite) && exp > iat ? { iat, exp, nbf } : undefined
}
