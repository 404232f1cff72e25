// How a party gets at an issuer's documents. A real one asks the public internet; a mock asks loopback, and nothing
// else: whatever a hostile discovery document names as its `jwks_uri`, no byte leaves this machine.

import { Agent, request } from 'undici'
import { IssuerError } from './issuer-error.ts'

export interface Reach {
  /** Public base to loopback base: `{'https://oidc.fly.io': 'http://127.0.0.1:4001'}`. */
  readonly via?: Readonly<Record<string, string>>
  /** For discovery and keys together, ms. */
  readonly patience?: number
}

/** AWS gives an identity provider about five seconds: actions/runner#1466. The others: a guess. */
export const PATIENCE = 5_000

/** A guess: no cloud publishes its own limit. 100 keys of 4096 bits are about 80 KiB. */
const DOCUMENT_LIMIT = 128 * 1024

/** The JSON at `url`, fetched as the clouds do: no redirect, no other status than 200, no more than so many bytes. */
export async function fetchDocument(url: string, reach: Reach, late: AbortSignal): Promise<unknown> {
  // No kept connection: a party that is closed must not leave one behind.
  const agent = new Agent({ pipelining: 0 })
  try {
    const answer = await request(place(url, reach), {
      dispatcher: agent,
      signal: late,
      headers: { accept: 'application/json' },
    })
    if (answer.statusCode >= 300 && answer.statusCode < 400) throw new IssuerError('REDIRECT')
    if (answer.statusCode !== 200) throw new IssuerError('STATUS')
    const chunks: Uint8Array[] = []
    let length = 0
    for await (const chunk of answer.body) {
      if (!(chunk instanceof Uint8Array)) throw new TypeError('undici reads bodies as bytes')
      length += chunk.byteLength
      if (length > DOCUMENT_LIMIT) throw new IssuerError('TOO_LARGE')
      chunks.push(chunk)
    }
    return parse(Buffer.concat(chunks).toString('utf8'))
  } catch (caught) {
    if (caught instanceof IssuerError) throw caught
    throw new IssuerError(late.aborted ? 'SLOW' : 'UNREACHABLE', caught)
  } finally {
    await agent.destroy()
  }
}

/** http and a port are for an issuer on this machine; the internet's are https, and reached through `via`. */
export const isLoopback = (url: URL): boolean => ['127.0.0.1', '[::1]', 'localhost'].includes(url.hostname)

function place(url: string, { via }: Reach): URL {
  for (const [base, local] of Object.entries(via ?? {})) {
    // At a path boundary: `https://oidc.fly.io.evil.example` is not below `https://oidc.fly.io`.
    if (url === base || url.startsWith(`${base}/`)) return loopback(`${local}${url.slice(base.length)}`)
  }
  return loopback(url)
}

function loopback(text: string): URL {
  if (!URL.canParse(text)) throw new IssuerError('UNREACHABLE')
  const url = new URL(text)
  if (!isLoopback(url) || (url.protocol !== 'http:' && url.protocol !== 'https:')) throw new IssuerError('UNREACHABLE')
  return url
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (caught) {
    throw new IssuerError('NOT_JSON', caught)
  }
}
