// Anybody's API that takes ID tokens as bearer tokens: `GET /whoami` tells the caller who it is.

import { json, serve } from '../serve.ts'
import type { Party, Reply } from '../serve.ts'
import { IdTokenError, checkIdToken } from '../trust/id-token.ts'
import type { Expected } from '../trust/id-token.ts'
import type { Reach } from '../trust/reach.ts'

export interface RelyingPartyOptions {
  readonly port?: number
  readonly expected: Expected
  readonly reach?: Reach
  /** Unix ms. */
  readonly now?: () => number
}

export const SEED_AUDIENCE = 'https://api.example.com'

export function startRelyingParty({ port, expected, reach = {}, now = Date.now }: RelyingPartyOptions): Promise<Party> {
  return serve({ port }, async (call) => {
    if (call.path !== '/whoami' || call.method !== 'GET') return json(404, { error: 'not_found' })
    const [, compact] = /^Bearer +([A-Za-z0-9._~+/=-]+)$/i.exec(call.headers.get('authorization') ?? '') ?? []
    // RFC 6750 3: whoever shows no token is told which scheme to use, and no error.
    if (compact === undefined) return challenge('Bearer realm="dotfly"', { error: 'no_token' })
    try {
      const { subject, claims } = await checkIdToken(compact, expected, reach, Math.floor(now() / 1000))
      return json(200, { subject, claims })
    } catch (caught) {
      if (!(caught instanceof IdTokenError)) throw caught
      // Not the token's fault, and not to be told as if it were.
      if (caught.code === 'NO_KEYS') return json(503, { error: 'temporarily_unavailable', code: caught.code })
      return challenge(`Bearer realm="dotfly", error="invalid_token", error_description="${caught.code}"`, {
        error: 'invalid_token',
        code: caught.code,
      })
    }
  })
}

const challenge = (scheme: string, body: object): Reply => json(401, body, { 'www-authenticate': scheme })
