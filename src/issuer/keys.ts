// The signing keys of one org. WebCrypto makes them, and makes them so that nobody, not even this process, can export
// the private half.

import { calculateJwkThumbprint, exportJWK, generateKeyPair, SignJWT } from 'jose'
import type { CryptoKey, JWK, JWTPayload } from 'jose'
import { LIFETIME } from './claims.ts'

/** Seconds that a relying party's clock may lag: a key is published that much longer than its last token lives. */
const LEEWAY = 60

interface Key {
  readonly kid: string
  readonly jwk: JWK
  readonly sign: CryptoKey
}

export class KeyRing {
  #current: Key
  #retired: { readonly jwk: JWK; readonly until: number }[] = []

  private constructor(first: Key) {
    this.#current = first
  }

  static async create(): Promise<KeyRing> {
    return new KeyRing(await generate())
  }

  /** From now on a new key signs; the old one stays published until its last token has expired. `now`: Unix seconds. */
  async rotate(now: () => number): Promise<void> {
    const next = await generate()
    // The clock is read after the new key is made: the old one signed until this very moment.
    this.#retired.push({ jwk: this.#current.jwk, until: now() + LIFETIME + LEEWAY })
    this.#current = next
  }

  published(now: number): JWK[] {
    this.#retired = this.#retired.filter(({ until }) => now < until)
    return [this.#current.jwk, ...this.#retired.map(({ jwk }) => jwk)]
  }

  sign(payload: JWTPayload): Promise<string> {
    const { kid, sign } = this.#current
    return new SignJWT(payload).setProtectedHeader({ alg: 'RS256', typ: 'JWT', kid }).sign(sign)
  }
}

async function generate(): Promise<Key> {
  const { privateKey, publicKey } = await generateKeyPair('RS256', { modulusLength: 2048, extractable: false })
  const jwk = await exportJWK(publicKey)
  const kid = await calculateJwkThumbprint(jwk)
  return { kid, jwk: { ...jwk, use: 'sig', alg: 'RS256', kid }, sign: privateKey }
}
