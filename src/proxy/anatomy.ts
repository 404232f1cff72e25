// Which bytes of the credential are secret. The text inside a macaroon that the guest knows anyway (location, the
// names in its caveats, packet keys) is public, because the same text stands in the answers that the guest asks for;
// signatures, nonces, encrypted keys, and whatever is not understood to its last byte, are secret.
// All that is derived here is credential too: it lies in `alloc`ed memory and never becomes a string.

import type { Alloc } from './secret.ts'

/** Bytes, and for each of them 1 where it is secret. */
export interface Part {
  bytes: Uint8Array
  secret: Uint8Array
}

export interface Anatomy {
  /** The line that flyd is sent: `Authorization: FlyV1 tok1,tok2,…` */
  line: Part
  /** Its tokens, as they stand in it. */
  tokens: Part[]
  /** The bytes inside each token that is base64. */
  decoded: Part[]
}

export function anatomy(credential: Buffer, alloc: Alloc): Anatomy {
  const head = LINE.length
  const line = { bytes: alloc(head + credential.length), secret: alloc(head + credential.length) }
  for (let i = 0; i < head; i++) line.bytes[i] = LINE.charCodeAt(i)
  line.bytes.set(credential, head)
  const secret = line.secret.subarray(head)
  const tokens: Part[] = []
  const decoded: Part[] = []
  let at = SCHEMES.find((scheme) => startsWith(credential, 0, scheme))?.length ?? 0
  while (at < credential.length) {
    const comma = credential.indexOf(0x2c, at)
    const end = comma < 0 ? credential.length : comma
    const text = at + (PREFIXES.find((prefix) => startsWith(credential, at, prefix))?.length ?? 0)
    const part = decodeBase64(credential.subarray(text, end), alloc)
    if (part !== undefined) decoded.push(part)
    if (part !== undefined && (text > at ? markMsgpack(part) : markPackets(part))) {
      for (let i = text; i < end; i++) secret[i] = sextetSecret(part.secret, (i - text) * 6)
    } else {
      secret.fill(1, at, end)
      part?.secret.fill(1)
    }
    tokens.push({ bytes: credential.subarray(at, end), secret: secret.subarray(at, end) })
    at = end + 1
  }
  return { line, tokens, decoded }
}

/** 1 where all bytes that the six bits from `bit` on are drawn from are secret. Were one enough, 4 characters could be
 *  worth 8 bits instead of 24, and chance alone would blank somebody's ID token. */
export function sextetSecret(secret: Uint8Array, bit: number): number {
  const first = secret[bit >> 3] ?? 0
  return first & (secret[(bit + 5) >> 3] ?? first)
}

/** -1 where it is not one. */
export function hexDigit(c = 0): number {
  if (c >= 0x30 && c <= 0x39) return c - 0x30
  return (c | 0x20) >= 0x61 && (c | 0x20) <= 0x66 ? (c | 0x20) - 0x57 : -1
}

const LINE = 'Authorization: '
const SCHEMES = ['FlyV1 ', 'Bearer ']
const PREFIXES = ['fm2_', 'fm1r_', 'fm1a_']
const KEYS = ['location ', 'identifier ', 'cid ', 'vid ', 'cl ', 'signature ']
const SECRET_KEYS = ['identifier ', 'vid ', 'signature ']

function startsWith(bytes: Uint8Array, at: number, ascii: string): boolean {
  for (let i = 0; i < ascii.length; i++) if (bytes[at + i] !== ascii.charCodeAt(i)) return false
  return true
}

/** Either alphabet, padded or not. Undefined where it is not base64. */
function decodeBase64(text: Uint8Array, alloc: Alloc): Part | undefined {
  let length = text.length
  while (length > 0 && text[length - 1] === 0x3d) length--
  if (length === 0 || length % 4 === 1 || text.length - length > 2) return undefined
  const size = (length * 6) >> 3
  const part = { bytes: alloc(size), secret: alloc(size) }
  let bits = 0
  for (let i = 0; i < length; i++) {
    const six = sextet(text[i] ?? 0)
    if (six < 0) return undefined
    bits = ((bits << 6) | six) & 0xffff
    if (i % 4 !== 0) part.bytes[i - 1 - (i >> 2)] = bits >> (6 - 2 * (i % 4))
  }
  return part
}

function sextet(c: number): number {
  if (c >= 0x30 && c <= 0x39) return c + 4
  if (c >= 0x41 && c <= 0x5a) return c - 0x41
  if (c >= 0x61 && c <= 0x7a) return c - 0x47
  return c === 0x2b || c === 0x2d ? 62 : c === 0x2f || c === 0x5f ? 63 : -1
}

/** libmacaroons v1, packets of `4hexdigits key SP value LF`; false unless a signature is the last of the bytes. */
function markPackets({ bytes, secret }: Part): boolean {
  let cid = 0
  for (let at = 0; at < bytes.length;) {
    const key = KEYS.find((k) => startsWith(bytes, at + 4, k))
    let size = 0
    for (let i = at; i < at + 4; i++) size = hexDigit(bytes[i]) < 0 ? -Infinity : size * 16 + hexDigit(bytes[i])
    const from = at + 4 + (key?.length ?? 0)
    const end = at + size - 1
    if (key === undefined || (at === 0) !== (key === 'location ') || end < from || bytes[end] !== 0x0a) return false
    if (SECRET_KEYS.includes(key)) secret.fill(1, from, end)
    // The cid before a vid is a key encrypted to the third party, not text that the guest knows.
    if (key === 'vid ') secret.fill(1, cid, at - 1)
    if (key === 'signature ') return end + 1 === bytes.length
    if (key === 'cid ') cid = from
    at = end + 1
  }
  return false
}

/** Fly's array of 4, nonce, location, caveats and tail: every bin in it is secret. False unless it is all the bytes. */
function markMsgpack({ bytes, secret }: Part): boolean {
  let at = 0
  const take = (size: number): number => {
    let n = 0
    for (const end = at + size; at < end; at++) n = n * 256 + (bytes[at] ?? 0)
    return n
  }
  // Counted, not recursive: however deep a token nests, the stack is not its to exhaust.
  for (let left = 1; left > 0; left--) {
    const type = take(1)
    if (at > bytes.length) return false
    if (type < 0x80 || type >= 0xe0 || type === 0xc0 || type === 0xc2 || type === 0xc3) continue
    else if (type < 0x90) left += (type & 15) * 2
    else if (type < 0xa0) left += type & 15
    else if (type < 0xc0) at += type & 31
    else if ((type >= 0xc4 && type <= 0xc6) || (type >= 0xd9 && type <= 0xdb)) {
      const size = take(1 << ((type - 0xc4) % 7))
      if (at + size > bytes.length) return false
      if (type <= 0xc6) secret.fill(1, at, at + size)
      at += size
    } else if (type >= 0xca && type <= 0xd3) at += [4, 8, 1, 2, 4, 8, 1, 2, 4, 8][type - 0xca] ?? 0
    else if (type >= 0xdc) left += take(type & 1 ? 4 : 2) * (type < 0xde ? 1 : 2)
    else return false // extensions: no macaroon has one
  }
  return at === bytes.length && bytes[0] === 0x94
}
