// A client assertion that another issuer signed: which credential of the application it matches, and whether it holds.

import { IssuerError } from '../trust/issuer-error.ts'
import { fetchKeys } from '../trust/keys.ts'
import type { Reach } from '../trust/reach.ts'
import { TokenError, audiences, readToken, textClaim, timeClaim } from '../trust/token.ts'
import type { Claims, Unverified } from '../trust/token.ts'
import { verify } from '../trust/verify.ts'
import type { Application } from './application.ts'
import { EntraError } from './error.ts'

/** `now`: Unix ms. */
export async function admit(compact: string, { credentials }: Application, reach: Reach, now: number): Promise<void> {
  const token = read(compact)
  match(token.claims, credentials)
  inTime(token.claims, now)
  await prove(token, reach)
}

function read(compact: string): Unverified {
  try {
    return readToken(compact)
  } catch (caught) {
    if (!(caught instanceof TokenError)) throw caught
    throw new EntraError(50027, 'JWT token is invalid or malformed.', caught)
  }
}

/** Azure/azure-workload-identity#1200. */
const CHECK =
  'Check your federated identity credential Subject, Audience and Issuer against the presented assertion. https://learn.microsoft.com/entra/workload-id/workload-identity-federation'

/** Byte by byte, first the issuer, then the subject, then the audience: the code says how far it got. */
function match(claims: Claims, credentials: Application['credentials']): void {
  const none = (code: EntraError['code'], what: string): EntraError =>
    new EntraError(code, `No matching federated identity record found for presented assertion ${what}. ${CHECK}`)
  // A claim that is missing is compared as nothing, which no credential has.
  const [iss, sub] = [textClaim(claims, 'iss') ?? '', textClaim(claims, 'sub') ?? '']
  const given = audiences(claims) ?? []
  if (credentials.length === 0) {
    // Since there are codes for each part, this one is left for an application without any credential: a guess.
    throw new EntraError(
      70021,
      `No matching federated identity record found for presented assertion. Assertion Issuer: '${iss}'. Assertion Subject: '${sub}'. Assertion Audience: '${given.join(', ')}'. https://learn.microsoft.com/entra/workload-id/workload-identity-federation`,
    )
  }
  const sameIssuer = credentials.filter(({ issuer }) => issuer === iss)
  if (sameIssuer.length === 0) throw none(700211, `issuer '${iss}'`)
  const sameSubject = sameIssuer.filter(({ subject }) => subject === sub)
  if (sameSubject.length === 0) {
    const folded = sameIssuer.some(({ subject }) => subject.toLowerCase() === sub.toLowerCase())
    // Azure/login#517: the code; its text is a guess.
    if (folded)
      throw none(
        7002138,
        `subject '${sub}'. The subject matches when compared case-insensitively, and is compared case-sensitively`,
      )
    throw none(700213, `subject '${sub}'`)
  }
  if (!sameSubject.some(({ audience }) => given.includes(audience)))
    throw none(700212, `audience '${given.join(', ')}'`)
}

/** Five minutes each way, as Entra allows for its own tokens. A guess for these. */
const LEEWAY = 300_000

function inTime(claims: Claims, now: number): void {
  const [exp, iat, nbf] = ['exp', 'iat', 'nbf'].map((name) => timeClaim(claims, name))
  if (typeof exp !== 'number' || iat === 'malformed' || nbf === 'malformed')
    throw new EntraError(50027, 'JWT token is invalid or malformed.')
  const from = (nbf ?? iat ?? 0) * 1000
  if (now - LEEWAY < exp * 1000 && now + LEEWAY >= from) return
  // AzureAD/microsoft-authentication-library-for-dotnet#4951
  const [current, valid, expiry] = [now, from, exp * 1000].map((at) => new Date(at).toISOString().replace('Z', '0000Z'))
  throw new EntraError(
    700024,
    `Client assertion is not within its valid time range. Current time: ${current}, assertion valid from ${valid}, expiry time of assertion ${expiry}. Review the documentation at https://learn.microsoft.com/entra/identity-platform/certificate-credentials .`,
  )
}

async function prove(token: Unverified, reach: Reach): Promise<void> {
  try {
    // Workload identity federation takes RS256 only.
    await verify(token, await fetchKeys(String(token.claims['iss']), reach), ['RS256'])
  } catch (caught) {
    if (caught instanceof IssuerError) throw new EntraError(90061, 'Request to External OIDC endpoint failed.', caught)
    if (caught instanceof TokenError) throw new EntraError(50013, 'Assertion failed signature validation.', caught)
    throw caught
  }
}
