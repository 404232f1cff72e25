// The credential of the tests, what a leak of it looks like, and how a corpus file is read.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const APP = 'weather-cat'
export const MACHINE = 'd891234ce56789'
export const OWN = `/v1/apps/${APP}/machines/${MACHINE}`
export const JWT = [
  Buffer.from('{"alg":"RS256","kid":"a1","typ":"JWT"}').toString('base64url'),
  Buffer.from('{"aud":"sts.amazonaws.com","iss":"https://oidc.fly.io/example","exp":1}').toString('base64url'),
  Buffer.from('a signature that is text, and long enough to look like one').toString('base64url'),
].join('.')

interface Bytes {
  bytes: Buffer
  secret: boolean[]
}

/** libmacaroons v1: packets of four hex digits, a key, a blank, a value, a line feed. Only what is random is secret. */
function packet(key: string, value: Buffer, secret: boolean): Bytes {
  const length = (4 + key.length + 1 + value.length + 1).toString(16).padStart(4, '0')
  const before = Buffer.from(`${length}${key} `)
  const mask = [...before.map(() => 0), ...value.map(() => Number(secret)), 0].map((bit) => bit === 1)
  return { bytes: Buffer.concat([before, value, Buffer.from('\n')]), secret: mask }
}

/** Fixed bytes that look random: xorshift, so that files made from them never change. */
function noise(seed: number, length: number): Buffer {
  let x = seed
  return Buffer.from(
    Array.from({ length }, () => {
      x ^= x << 13
      x ^= x >>> 17
      x ^= x << 5
      return x & 0xff
    }),
  )
}

const packets = [
  packet('location', Buffer.from('https://api.fly.io/v1'), false),
  packet('identifier', Buffer.from(noise(0x1234567, 24).toString('hex')), true),
  packet('cid', Buffer.from(`app = ${APP}`), false),
  packet('cid', Buffer.from(`machine = ${MACHINE}`), false),
  packet('signature', noise(0x7654321, 32), true),
]
const decoded: Bytes = {
  bytes: Buffer.concat(packets.map(({ bytes }) => bytes)),
  secret: packets.flatMap(({ secret }) => secret),
}
const encoded = decoded.bytes.toString('base64url')
export const CREDENTIAL = `FlyV1 ${encoded}`

// A character of base64 is secret when all of its bits are.
const value: Bytes = {
  bytes: Buffer.from(CREDENTIAL),
  secret: Array.from(CREDENTIAL, (_, i) => {
    const bit = (i - 6) * 6
    return i >= 6 && decoded.secret[bit >> 3] === true && (decoded.secret[(bit + 5) >> 3] ?? true)
  }),
}

const RUN = 16
const SECRET = 4

const spelled = (of: Bytes, spell: (byte: number) => string): Bytes => {
  const units = [...of.bytes].map(spell)
  return {
    bytes: Buffer.from(units.join('')),
    secret: units.flatMap((unit, i) => Array.from(unit, () => of.secret[i] === true)),
  }
}
const base64 = (of: Bytes, shift: number, alphabet: 'base64' | 'base64url'): Bytes => {
  const bytes = Buffer.concat([Buffer.alloc(shift), of.bytes])
  const secret = [...Array.from({ length: shift }, () => false), ...of.secret]
  const text = bytes.toString(alphabet).replace(/=+$/, '')
  const mask = Array.from(text, (_, i) => secret[(i * 6) >> 3] === true && (secret[(i * 6 + 5) >> 3] ?? false))
  return { bytes: Buffer.from(text), secret: mask }
}
const hex = (byte: number): string => byte.toString(16).padStart(2, '0')

const NEEDLES: readonly Bytes[] = [value, decoded].flatMap((of) => [
  of,
  ...[0, 1, 2].flatMap((shift) => [base64(of, shift, 'base64'), base64(of, shift, 'base64url')]),
  spelled(of, hex),
  spelled(of, (byte) => hex(byte).toUpperCase()),
  spelled(of, (byte) => `%${hex(byte)}`),
  spelled(of, (byte) => `%${hex(byte).toUpperCase()}`),
])

/** Runs of 16 bytes that spell at least four secret ones. */
const RUNS: ReadonlySet<string> = new Set(
  NEEDLES.flatMap(({ bytes, secret }) => {
    const runs: string[] = []
    for (let i = 0; i + RUN <= bytes.length; i++) {
      if (secret.slice(i, i + RUN).filter(Boolean).length >= SECRET) runs.push(bytes.toString('latin1', i, i + RUN))
    }
    return runs
  }),
)

/** Offset of the first run of the credential in what a guest received, or -1. */
export function leaks(bytes: Buffer): number {
  const text = bytes.toString('latin1')
  for (let i = 0; i + RUN <= text.length; i++) if (RUNS.has(text.slice(i, i + RUN))) return i
  return -1
}

export interface Case {
  readonly name: string
  /** Values of each key, in order. */
  readonly says: ReadonlyMap<string, readonly string[]>
  readonly bytes: Buffer
}

export const CORPUS = fileURLToPath(new URL('../corpus', import.meta.url))

/** `key: value` lines, an empty line, raw bytes. */
export function readCase(name: string, file: Buffer): Case {
  const end = file.indexOf('\n\n')
  const says = new Map<string, string[]>()
  for (const line of file.toString('utf8', 0, end).split('\n')) {
    const colon = line.indexOf(': ')
    if (colon < 1) throw new Error(`${name}: not a header line: ${line}`)
    const key = line.slice(0, colon)
    says.set(key, [...(says.get(key) ?? []), line.slice(colon + 2)])
  }
  return { name, says, bytes: file.subarray(end + 2) }
}

export const readCases = (kind: 'request' | 'response'): Case[] =>
  readdirSync(join(CORPUS, kind))
    .filter((name) => name.endsWith('.http'))
    .sort()
    .map((name) => readCase(name.slice(0, -'.http'.length), readFileSync(join(CORPUS, kind, name))))

export const said = (of: Case, key: string): string | undefined => of.says.get(key)?.[0]
