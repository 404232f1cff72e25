// An ID token, taken apart but believed in nothing yet. Its claims name the issuer whose keys must prove it.

import { recordOf } from '../shape.ts'

export type TokenTrouble =
  | 'NOT_A_JWT'
  | 'ALG_NOT_ALLOWED'
  | 'HEADER_NOT_ALLOWED'
  | 'NO_KID'
  | 'NO_SUCH_KEY'
  | 'TWO_SUCH_KEYS'
  | 'BAD_SIGNATURE'

export class TokenError extends Error {
  override name = 'TokenError'
  readonly code: TokenTrouble
  constructor(code: TokenTrouble, cause?: unknown) {
    super(`the token is not good: ${code}`, { cause })
    this.code = code
  }
}

export type Claims = Readonly<Record<string, unknown>>

export interface Unverified {
  readonly compact: string
  readonly header: Readonly<Record<string, unknown>>
  readonly claims: Claims
}

export function readToken(compact: string): Unverified {
  const parts = compact.split('.')
  const [header, payload, signature] = parts
  if (parts.length !== 3 || header === undefined || payload === undefined || signature === undefined)
    throw new TokenError('NOT_A_JWT')
  if (signature !== '' && !BASE64URL.test(signature)) throw new TokenError('NOT_A_JWT')
  return { compact, header: object(header), claims: object(payload) }
}

/** A claim that must be a text; anything else is as good as missing. */
export function textClaim(claims: Claims, name: string): string | undefined {
  const value = claims[name]
  return typeof value === 'string' && value !== '' ? value : undefined
}

/** Unix seconds as an integer. The clouds refuse `1700000000.5` and `"1700000000"`. */
export function timeClaim(claims: Claims, name: string): number | undefined | 'malformed' {
  const value = claims[name]
  if (value === undefined) return undefined
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : 'malformed'
}

/** `aud` as a list; anything but a text or a list of texts is as good as missing. */
export function audiences(claims: Claims): readonly string[] | undefined {
  const { aud } = claims
  if (typeof aud === 'string') return [aud]
  return Array.isArray(aud) && aud.every((item) => typeof item === 'string') ? aud : undefined
}

const BASE64URL = /^[A-Za-z0-9_-]+$/

function object(part: string): Record<string, unknown> {
  if (!BASE64URL.test(part)) throw new TokenError('NOT_A_JWT')
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(part, 'base64url')))
  } catch (caught) {
    throw new TokenError('NOT_A_JWT', caught)
  }
  const given = recordOf(value)
  if (given === undefined) throw new TokenError('NOT_A_JWT')
  return given
}
