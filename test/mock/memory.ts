// Looks for an RSA private key in the memory of a process, as root in its kernel could.

import { closeSync, openSync, readFileSync, readSync } from 'node:fs'

/** Writable memory of a process, piece by piece. */
export function* memoryOf(pid: number): Generator<Buffer> {
  const mem = openSync(`/proc/${pid}/mem`, 'r')
  try {
    for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
      const [, from = '', to = ''] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? []
      if (from === '') continue
      const start = Number.parseInt(from, 16)
      const piece = Buffer.alloc(Number.parseInt(to, 16) - start)
      let length = 0
      try {
        while (length < piece.length) {
          const read = readSync(mem, piece, length, piece.length - length, start + length)
          if (read === 0) break
          length += read
        }
      } catch {
        // Gone since the map was read, or a device: what could be read is looked at.
      }
      yield piece.subarray(0, length)
    }
  } finally {
    closeSync(mem)
  }
}

const little = (bytes: Uint8Array): bigint => BigInt(`0x${Buffer.from(bytes.toReversed()).toString('hex')}`)

/** A prime factor of `n` (2048 bits) that lies in memory as OpenSSL keeps it: 128 bytes, the lowest first. */
export function findFactor(pid: number, n: bigint): bigint | undefined {
  for (const piece of memoryOf(pid)) {
    const words = new Uint32Array(piece.buffer, piece.byteOffset, piece.length >> 2)
    for (let at = 0; at + 32 <= words.length; at += 2) {
      // OpenSSL's primes are odd and at least the square root of 2, times 2 to the 1023 (FIPS 186-5, A.1.3): one key in
      // 47 has none with both of its highest bits set.
      if ((words[at]! & 1) === 0 || words[at + 31]! < 0xb504f333) continue
      let random = true
      for (let i = 1; random && i < 32; i += 2) random = words[at + i]! > 0xffff // no pointer, no small integer
      if (!random) continue
      const candidate = little(piece.subarray(at * 4, at * 4 + 128))
      if (n % candidate === 0n) return candidate
    }
  }
  return undefined
}

/** All spellings of the private numbers of the key: binary in both orders, hex and base64 in both alphabets. */
export function spellings(n: bigint, p: bigint): Buffer[] {
  const q = n / p
  const phi = (p - 1n) * (q - 1n)
  const carmichael = phi / gcd(p - 1n, q - 1n)
  const secrets = [
    p,
    q,
    inverse(65537n, phi),
    inverse(65537n, carmichael),
    inverse(65537n, p - 1n),
    inverse(65537n, q - 1n),
  ]
  return secrets.flatMap((secret) => {
    const hex = secret.toString(16)
    const bytes = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex')
    const texts = [0, 1, 2].map((shift) => bytes.subarray(shift, shift + 96).toString('base64'))
    const inText = [
      bytes.toString('hex'),
      ...texts,
      ...texts.map((text) => text.replaceAll('+', '-').replaceAll('/', '_')),
    ]
    return [bytes, Buffer.from(bytes.toReversed()), ...inText.map((text) => Buffer.from(text.slice(0, 64)))]
  })
}

const STRIDE = 32
const WORD = 4

/** Whether one of these stands in a piece, at any place: the same as `includes` of each, in one reading of the piece. All
 * are at least 35 bytes long, so that a whole word of each occurrence stands at a multiple of 32. */
export function finder(needles: readonly Buffer[]): (piece: Buffer) => boolean {
  const places = new Map<number, { needle: Buffer; at: number }[]>()
  for (const needle of needles) {
    if (needle.length < STRIDE + WORD - 1) throw new Error(`${needle.length} bytes are too short to be found`)
    for (let at = 0; at < STRIDE; at++) {
      const word = needle.readUInt32LE(at)
      places.set(word, [...(places.get(word) ?? []), { needle, at }])
    }
  }
  return (piece) => {
    for (let at = 0; at + WORD <= piece.length; at += STRIDE) {
      for (const { needle, at: within } of places.get(piece.readUInt32LE(at)) ?? []) {
        const from = at - within
        if (from >= 0 && piece.subarray(from, from + needle.length).equals(needle)) return true
      }
    }
    return false
  }
}

const gcd = (a: bigint, b: bigint): bigint => (b === 0n ? a : gcd(b, a % b))

function inverse(value: bigint, modulus: bigint): bigint {
  let [r, next, s, other] = [modulus, value % modulus, 0n, 1n]
  while (next !== 0n) {
    const quotient = r / next
    ;[r, next] = [next, r - quotient * next]
    ;[s, other] = [other, s - quotient * other]
  }
  return ((s % modulus) + modulus) % modulus
}
