// Verifies the chain of a macaroon; what its caveats demand is for clear.ts to judge afterwards.
//
// macaroons.js alone must not be trusted with a stranger's token. It leaves every caveat that it is not told to
// satisfy out of the HMAC, so an unsigned one slips in; it ignores packets that it does not know, or knows in another
// order; it reads base64 with rubbish in it. Hence the order here: the text is exactly what the library itself would
// write, each packet is in its place, each caveat is one that we understand, and only then the signature is asked for,
// with every caveat in the HMAC and no predicate of anybody's in the library's hands.

import macaroons from 'macaroons.js'
import type { Macaroon } from 'macaroons.js'
import { readCaveat } from './caveat.ts'
import type { Caveat } from './caveat.ts'

export type Flaw =
  | 'HEADER_MISSING'
  | 'HEADER_MALFORMED'
  | 'TOKEN_TOO_LONG'
  | 'TOKEN_MALFORMED'
  | 'TOKEN_NOT_CANONICAL'
  | 'PACKETS_OUT_OF_PLACE'
  | 'TOO_MANY_CAVEATS'
  | 'TOO_MANY_DISCHARGES'
  | 'CAVEAT_UNKNOWN'
  | 'PERMISSION_TOKENS_NOT_ONE'
  | 'DISCHARGE_MISSING'
  | 'DISCHARGE_UNASKED'
  | 'DISCHARGE_NESTED'
  | 'SIGNATURE_WRONG'

/** `identifier` names the permission token, and is as secret as the rest of it. */
export type Verdict =
  | {
      readonly ok: true
      readonly identifier: string
      readonly permission: readonly Caveat[]
      readonly discharges: readonly (readonly Caveat[])[]
    }
  | { readonly ok: false; readonly flaw: Flaw }

export function verify(header: string | undefined, key: string): Verdict {
  try {
    return chain(header, key)
  } catch (error) {
    // A Flawed is ours. Anything else is macaroons.js stumbling over a token that it cannot take: a refusal as well.
    return { ok: false, flaw: error instanceof Flawed ? error.flaw : 'TOKEN_MALFORMED' }
  }
}

/** Where a permission token is good, and where its discharge comes from: the locations that Fly's tokens name. */
export const PERMISSION_LOCATION = 'https://api.fly.io/v1'
export const DISCHARGE_LOCATION = 'https://api.fly.io/aaa/v1'
const MAX_HEADER = 8 * 1024
const MAX_CAVEATS = 32
const MAX_DISCHARGES = 4

class Flawed extends Error {
  readonly flaw: Flaw
  constructor(flaw: Flaw) {
    super(flaw)
    this.flaw = flaw
  }
}

function chain(header: string | undefined, key: string): Verdict {
  const tokens = split(header).map(readToken)
  const [permission, ...others] = tokens.filter(({ location }) => location === PERMISSION_LOCATION)
  if (permission === undefined || others.length > 0) throw new Flawed('PERMISSION_TOKENS_NOT_ONE')
  const discharges = tokens.filter((token) => token !== permission)
  if (discharges.length > MAX_DISCHARGES) throw new Flawed('TOO_MANY_DISCHARGES')
  pair(permission, discharges)

  const verifier = new macaroons.MacaroonsVerifier(permission.macaroon)
  // Every caveat goes into the HMAC; whether it is satisfied is decided later, of a token known to be genuine.
  for (const { texts } of tokens) for (const text of texts) verifier.satisfyExact(text)
  for (const { macaroon } of discharges) verifier.satisfy3rdParty(macaroon)
  if (verifier.isValid(key) !== true) throw new Flawed('SIGNATURE_WRONG')
  return {
    ok: true,
    identifier: permission.macaroon.identifier,
    permission: permission.caveats,
    discharges: discharges.map(({ caveats }) => caveats),
  }
}

/** `FlyV1 ` and a list of url-safe base64, and nothing else: not even the spaces and cases that Fly would forgive. */
function split(header: string | undefined): string[] {
  if (header === undefined) throw new Flawed('HEADER_MISSING')
  if (header.length > MAX_HEADER) throw new Flawed('TOKEN_TOO_LONG')
  if (!/^FlyV1 [A-Za-z0-9_-]+(?:,[A-Za-z0-9_-]+)*$/.test(header)) throw new Flawed('HEADER_MALFORMED')
  return header.slice('FlyV1 '.length).split(',')
}

interface Token {
  readonly macaroon: Macaroon
  readonly location: string
  readonly texts: readonly string[]
  readonly caveats: readonly Caveat[]
  /** Identifiers of the discharges it asks for. */
  readonly tickets: readonly string[]
}

const CID = 3
const VID = 4
const CL = 5

function readToken(text: string): Token {
  const macaroon = macaroons.MacaroonsBuilder.deserialize(text)
  // Catches in one go unknown, repeated and reordered head packets, bytes behind the end, spare base64 bits, text that
  // is not UTF-8 and lengths that do not fit.
  if (macaroon.serialize() !== text) throw new Flawed('TOKEN_NOT_CANONICAL')
  const { location, identifier, signatureBuffer, caveatPackets: packets } = macaroon
  if (location !== PERMISSION_LOCATION && location !== DISCHARGE_LOCATION) throw new Flawed('TOKEN_MALFORMED')
  if (!NONCE.test(identifier) || signatureBuffer.length !== 32) throw new Flawed('TOKEN_MALFORMED')

  const texts: string[] = []
  const caveats: Caveat[] = []
  const tickets: string[] = []
  for (let at = 0; at < packets.length; at++) {
    const [cid, vid, cl] = [packets[at], packets[at + 1], packets[at + 2]]
    if (cid?.type !== CID) throw new Flawed('PACKETS_OUT_OF_PLACE')
    const value = cid.getValueAsText()
    if (vid?.type !== VID) {
      const caveat = readCaveat(value)
      if (caveat === undefined) throw new Flawed('CAVEAT_UNKNOWN')
      texts.push(value)
      caveats.push(caveat)
      continue
    }
    if (vid.rawValue.length !== 72 || cl?.type !== CL) throw new Flawed('PACKETS_OUT_OF_PLACE')
    // `cl` is not signed, so only the one place that we know of will do.
    if (cl.getValueAsText() !== DISCHARGE_LOCATION || !NONCE.test(value)) throw new Flawed('TOKEN_MALFORMED')
    tickets.push(value)
    at += 2
  }
  if (caveats.length + tickets.length > MAX_CAVEATS) throw new Flawed('TOO_MANY_CAVEATS')
  return { macaroon, location, texts, caveats, tickets }
}

const NONCE = /^[0-9a-f]{32}$/

/** Each ticket has its one discharge, each discharge its one ticket, and there is one level of them: macaroons.js
 * follows nested discharges without end. */
function pair(permission: Token, discharges: readonly Token[]): void {
  if (discharges.some(({ tickets }) => tickets.length > 0)) throw new Flawed('DISCHARGE_NESTED')
  const tickets = new Set(permission.tickets)
  if (tickets.size !== permission.tickets.length) throw new Flawed('TOKEN_MALFORMED')
  for (const { macaroon } of discharges) {
    if (!tickets.delete(macaroon.identifier)) throw new Flawed('DISCHARGE_UNASKED')
  }
  if (tickets.size > 0) throw new Flawed('DISCHARGE_MISSING')
}
