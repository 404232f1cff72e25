// The keys of an issuer, by discovery. Asked for anew each time: the real services keep them for a while, but for how
// long is not public, and without a cache a rotated key counts at once.

import type { JWK } from 'jose'
import { recordOf } from '../shape.ts'
import { IssuerError } from './issuer-error.ts'
import { fetchDocument, PATIENCE } from './reach.ts'
import type { Reach } from './reach.ts'

/** AWS: spiffe/spire#4699. The others: a guess. */
const KEY_LIMIT = 100

export async function fetchKeys(issuer: string, reach: Reach): Promise<JWK[]> {
  // One limit for both documents: an issuer may not use up the time twice.
  const late = AbortSignal.timeout(reach.patience ?? PATIENCE)
  const discovery = recordOf(await fetchDocument(`${issuer}/.well-known/openid-configuration`, reach, late))
  // OpenID Connect Discovery 4.3: exactly the URL that was asked. An alias such as `personal` fails here.
  if (discovery?.['issuer'] !== issuer) throw new IssuerError('WRONG_ISSUER')
  const uri = discovery['jwks_uri']
  if (typeof uri !== 'string') throw new IssuerError('NO_JWKS_URI')
  // Plain http would let anyone on the way put a key of their own; an issuer that is itself on loopback http may.
  if (!uri.startsWith('https://') && issuer.startsWith('https://')) throw new IssuerError('NO_JWKS_URI')
  const keys = recordOf(await fetchDocument(uri, reach, late))?.['keys']
  if (!Array.isArray(keys)) throw new IssuerError('NOT_A_KEY_SET')
  if (keys.length > KEY_LIMIT) throw new IssuerError('TOO_MANY_KEYS')
  return keys.filter(isJwk)
}

/** RFC 7517 5: members that are not understood are passed over, they do not spoil the set. */
const isJwk = (value: unknown): value is JWK => typeof recordOf(value)?.['kty'] === 'string'
