// Mints a Machine's macaroon.
//
// The text is `FlyV1 ` and libmacaroons v1 in url-safe base64, as macaroons.js writes it. It carries no `fm2_` prefix:
// fm2_ says that MessagePack follows, and whoever reads the token by its prefix (the strip filter does) would misread it.

import { randomBytes } from 'node:crypto'
import macaroons from 'macaroons.js'
import type { Macaroon } from 'macaroons.js'
import { writeCaveat } from './caveat.ts'
import type { Caveat } from './caveat.ts'
import { DISCHARGE_LOCATION, PERMISSION_LOCATION, verify } from './verify.ts'

export interface Grant {
  readonly org: string
  readonly app: string
  readonly machine: string
  /** Unix seconds. */
  readonly expires: number
}

/** The value of an Authorization header. With `discharged` it is a pair: permission token and its discharge. */
export function mint(key: string, grant: Grant, form: 'single' | 'discharged' = 'single'): string {
  const expires: Caveat = { kind: 'expires', value: grant.expires }
  const permission = token(PERMISSION_LOCATION, key, [
    { kind: 'org', value: grant.org },
    { kind: 'app', value: grant.app },
    { kind: 'machine', value: grant.machine },
    expires,
  ])
  if (form === 'single') return authorization(permission)
  for (let attempt = 0; attempt < 8; attempt++) {
    const header = authorization(...discharge(permission, expires))
    // macaroons.js fills the caveat's plaintext from a thread and encrypts it at the same time: once in a long while
    // the key inside is spoilt. So what was minted is tried before it is handed out.
    if (verify(header, key).ok) return header
  }
  throw new Error('no discharge verifies')
}

/** Puts a third-party caveat on a token, and gives the pair. A token is forked once only: macaroons.js encrypts the
 * caveat's key under an all-zero nonce, so two forks of one token would share a keystream. */
function discharge(permission: Macaroon, expires: Caveat): [Macaroon, Macaroon] {
  const secret = nonce()
  const ticket = nonce()
  const { MacaroonsBuilder } = macaroons
  const asking = MacaroonsBuilder.modify(permission)
    .add_third_party_caveat(DISCHARGE_LOCATION, secret, ticket)
    .getMacaroon()
  const answer = token(DISCHARGE_LOCATION, secret, [expires], ticket)
  return [asking, MacaroonsBuilder.modify(asking).prepare_for_request(answer).getMacaroon()]
}

function token(location: string, key: string, caveats: readonly Caveat[], identifier = nonce()): Macaroon {
  const builder = new macaroons.MacaroonsBuilder(location, key, identifier)
  for (const caveat of caveats) builder.add_first_party_caveat(writeCaveat(caveat))
  return builder.getMacaroon()
}

const authorization = (...tokens: Macaroon[]): string => `FlyV1 ${tokens.map((token) => token.serialize()).join(',')}`

/** 128 random bits; identifiers and tickets have this shape and no other. */
const nonce = (): string => randomBytes(16).toString('hex')
