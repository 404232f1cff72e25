// Random credentials, and what is secret in each, known from how it was made and not from how it is parsed.

import { createHash } from 'node:crypto'

/** Bytes, and whether each of them is secret. */
export interface Known {
  bytes: Buffer
  secret: boolean[]
}

export interface Credential {
  format: string
  /** The header value. */
  value: Buffer
  /** The bytes inside each token, where the format has any. */
  decoded: Known[]
  /** `FlyV1 `, and for each token its prefix and whether its text is all secret. */
  tokens: { at: number; prefix: string; text: string; opaque: boolean }[]
}

/** Random bytes from a seed, so that a failing run can be repeated. */
export class Dice {
  #pool = Buffer.alloc(0)
  #round = 0
  readonly #seed: string
  constructor(seed: string | number) {
    this.#seed = String(seed)
  }
  bytes(n: number): Buffer {
    while (this.#pool.length < n) {
      const more = createHash('sha512')
        .update(`${this.#seed}:${this.#round++}`)
        .digest()
      this.#pool = Buffer.concat([this.#pool, more])
    }
    const out = Buffer.from(this.#pool.subarray(0, n))
    this.#pool = this.#pool.subarray(n)
    return out
  }
  below(n: number): number {
    return this.bytes(4).readUInt32LE() % n
  }
  pick<T>(list: readonly T[]): T {
    const picked = list[this.below(list.length)]
    if (picked === undefined) throw new RangeError('nothing to pick from')
    return picked
  }
  text(n: number, alphabet = 'abcdefghijklmnopqrstuvwxyz0123456789-'): string {
    return Array.from({ length: n }, () => this.pick([...alphabet])).join('')
  }
}

export interface Names {
  org: string
  app: string
  machine: string
}

export const weather: Names = { org: 'example', app: 'weather-cat', machine: '148e21ea7e46e8' }

class Writer {
  readonly #bytes: Buffer[] = []
  readonly secret: boolean[] = []
  put(bytes: Buffer | string | number[], secret = false): this {
    const b = typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : Buffer.from(bytes)
    this.#bytes.push(b)
    for (let i = 0; i < b.length; i++) this.secret.push(secret)
    return this
  }
  known(): Known {
    return { bytes: Buffer.concat(this.#bytes), secret: this.secret }
  }
}

/** libmacaroons v1, as macaroons.js writes it. */
export function packets(dice: Dice, names: Names, thirdParty = false): Known {
  const w = new Writer()
  const packet = (key: string, value: Buffer | string, secret = false): void => {
    const size = 4 + key.length + 1 + value.length + 1
    w.put(`${size.toString(16).padStart(4, '0')}${key} `)
      .put(value, secret)
      .put('\n')
  }
  packet('location', 'https://api.fly.io/v1')
  packet('identifier', dice.bytes(16).toString(dice.pick(['hex', 'base64'] as const)), true)
  packet('cid', `org = ${names.org}`)
  packet('cid', `app = ${names.app}`)
  packet('cid', `machine = ${names.machine}`)
  if (thirdParty) {
    packet('cid', dice.bytes(48), true)
    packet('vid', dice.bytes(72), true)
    packet('cl', 'https://auth.fly.io')
  }
  packet('cid', `expires < ${1_800_000_000 + dice.below(1e6)}`)
  packet('signature', dice.bytes(32), true)
  return w.known()
}

/** Fly's msgpack `[nonce, location, caveats, tail]`. */
export function msgpack(dice: Dice, names: Names, thirdParty = false): Known {
  const w = new Writer()
  const bin = (n: number): void => void w.put([0xc4, n]).put(dice.bytes(n), true)
  const str = (s: string): void => void (s.length < 32 ? w.put([0xa0 | s.length]) : w.put([0xd9, s.length])).put(s)
  w.put([0x94, 0x93])
  bin(16)
  bin(16)
  w.put([0xc2])
  str('https://api.fly.io/v1')
  w.put([0x90 | (thirdParty ? 10 : 8)])
  w.put([0x00, 0x92, 0xce, 0, 0xa9, 0x8a, 0xc7, 0x1f])
  w.put([0x03, 0x91, 0x81, 0xce, 1, 0x53, 0x15, 0x8e, 0x1f])
  w.put([0x07, 0x91, 0x81])
  str(names.machine)
  w.put([0x1f])
  w.put([0x1f, 0x93])
  str(names.org)
  str(names.app)
  str(names.machine)
  if (thirdParty) {
    w.put([0x0b, 0x93])
    str('https://auth.fly.io')
    bin(60)
    bin(120)
  }
  bin(32)
  return w.known()
}

export const FORMATS = ['v1', 'v1 with a third party', 'fm2', 'fm2 with a discharge', 'opaque', 'fm2 and opaque']

export function credential(dice: Dice, format: string, names: Names = weather): Credential {
  const v1 = (k: Known): [Known, string, string] => [k, '', k.bytes.toString('base64url')]
  const fm2 = (k: Known): [Known, string, string] => [k, 'fm2_', k.bytes.toString('base64')]
  const opaque = (): [undefined, string, string] => [undefined, '', `tok.${dice.text(60)}`]
  const made: [Known | undefined, string, string][] =
    format === 'v1'
      ? [v1(packets(dice, names))]
      : format === 'v1 with a third party'
        ? [v1(packets(dice, names, true)), v1(packets(dice, names))]
        : format === 'fm2'
          ? [fm2(msgpack(dice, names))]
          : format === 'fm2 with a discharge'
            ? [fm2(msgpack(dice, names, true)), fm2(msgpack(dice, names))]
            : format === 'opaque'
              ? [opaque()]
              : [fm2(msgpack(dice, names)), opaque()]
  let value = 'FlyV1 '
  const tokens: Credential['tokens'] = []
  for (const [known, prefix, text] of made) {
    if (tokens.length > 0) value += ','
    tokens.push({ at: value.length, prefix, text, opaque: known === undefined })
    value += prefix + text
  }
  return { format, value: Buffer.from(value), decoded: made.flatMap(([known]) => known ?? []), tokens }
}
