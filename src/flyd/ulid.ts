// ULIDs, as Fly uses them for Machine versions and request ids: 48 bits of milliseconds, 80 random ones, base32.

import { randomBytes } from 'node:crypto'

export function ulid(now: number, random: Buffer = randomBytes(10)): string {
  let value = (BigInt(now) << 80n) | BigInt(`0x${random.toString('hex')}`)
  let text = ''
  for (let i = 0; i < 26; i++) {
    text = (CROCKFORD[Number(value & 31n)] ?? '') + text
    value >>= 5n
  }
  return text
}

const CROCKFORD = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
