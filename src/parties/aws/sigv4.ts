// Signature Version 4, verified from the request as it was on the wire: IAM User Guide, "Create a signed AWS API
// request". Both places where a signature may stand: the Authorization header, and the query of a presigned URL.

import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import type { Call } from '../serve.ts'
import type { Session, Sessions } from './sessions.ts'

export type SignatureTrouble =
  | 'NOT_SIGNED'
  | 'INCOMPLETE'
  | 'WRONG_SCOPE'
  | 'UNKNOWN_KEY'
  | 'WRONG_SESSION_TOKEN'
  | 'SESSION_EXPIRED'
  | 'SKEWED'
  | 'PRESIGN_EXPIRED'
  | 'HEADER_NOT_SIGNED'
  | 'BODY_DIFFERS'
  | 'MISMATCH'

export class SignatureError extends Error {
  override name = 'SignatureError'
  readonly code: SignatureTrouble
  constructor(code: SignatureTrouble) {
    super(`the signature is not good: ${code}`)
    this.code = code
  }
}

export interface Verifier {
  readonly service: 'sts' | 's3'
  readonly sessions: Sessions
  /** Unix ms. */
  readonly now: () => number
}

/** Whose request this is. */
export function authenticate(call: Call, { service, sessions, now }: Verifier): Session {
  const query = pairs(call.query)
  const signed = fromHeader(call) ?? fromQuery(query)
  if (signed === undefined) throw new SignatureError('NOT_SIGNED')
  const { accessKeyId, scope, stamp, token, presigned } = signed
  // Any region: this one endpoint stands for those of all of them.
  const [day, region, scopeService, end] = scope.split('/')
  if (day !== stamp.slice(0, 8) || region === undefined || !/^[a-z0-9-]+$/.test(region))
    throw new SignatureError('WRONG_SCOPE')
  if (scopeService !== service || end !== 'aws4_request' || scope.split('/').length !== 4)
    throw new SignatureError('WRONG_SCOPE')

  const session = sessions.find(accessKeyId)
  if (session === undefined) throw new SignatureError('UNKNOWN_KEY')
  if (token === undefined || !same(token, session.sessionToken)) throw new SignatureError('WRONG_SESSION_TOKEN')
  if (session.expires <= now()) throw new SignatureError('SESSION_EXPIRED')
  inTime(stamp, presigned, now(), SKEW[service])

  const key = ['aws4_request', service, region, day].reduceRight<Buffer | string>(
    (secret, part) => hmac(secret, part),
    `AWS4${session.secretAccessKey}`,
  )
  const text = ['AWS4-HMAC-SHA256', stamp, scope, sha256(canonical(call, query, signed, service))].join('\n')
  if (!same(hmac(key, text).toString('hex'), signed.signature)) throw new SignatureError('MISMATCH')
  return session
}

interface Signed {
  readonly accessKeyId: string
  /** `20261123/us-east-1/sts/aws4_request` */
  readonly scope: string
  readonly headers: readonly string[]
  readonly signature: string
  /** `20261123T194842Z` */
  readonly stamp: string
  readonly token: string | undefined
  /** Seconds that a presigned URL is good for. */
  readonly presigned: number | undefined
}

type Pairs = readonly (readonly [name: string, value: string])[]

function fromHeader({ headers }: Call): Signed | undefined {
  const text = headers.get('authorization')
  if (text === undefined) return undefined
  if (!text.startsWith('AWS4-HMAC-SHA256 ')) throw new SignatureError('INCOMPLETE')
  const fields = new Map(
    text
      .slice('AWS4-HMAC-SHA256 '.length)
      .split(',')
      .map((field) => [field.trim().split('=', 1)[0] ?? '', field.slice(field.indexOf('=') + 1).trim()]),
  )
  return assemble(fields.get('Credential'), fields.get('SignedHeaders'), fields.get('Signature'), {
    stamp: headers.get('x-amz-date'),
    token: headers.get('x-amz-security-token'),
    presigned: undefined,
  })
}

function fromQuery(query: Pairs): Signed | undefined {
  const one = (name: string): string | undefined => query.find(([key]) => key === name)?.[1]
  if (one('X-Amz-Algorithm') === undefined) return undefined
  if (one('X-Amz-Algorithm') !== 'AWS4-HMAC-SHA256') throw new SignatureError('INCOMPLETE')
  const seconds = Number(one('X-Amz-Expires') ?? Number.NaN)
  // One week at most.
  if (!Number.isInteger(seconds) || seconds < 1 || seconds > 604_800) throw new SignatureError('INCOMPLETE')
  return assemble(one('X-Amz-Credential'), one('X-Amz-SignedHeaders'), one('X-Amz-Signature'), {
    stamp: one('X-Amz-Date'),
    token: one('X-Amz-Security-Token'),
    presigned: seconds,
  })
}

type Rest = Pick<Signed, 'token' | 'presigned'> & { readonly stamp: string | undefined }

function assemble(
  credential: string | undefined,
  headers: string | undefined,
  signature: string | undefined,
  { stamp, token, presigned }: Rest,
): Signed {
  if (credential === undefined || headers === undefined || signature === undefined || stamp === undefined)
    throw new SignatureError('INCOMPLETE')
  if (!/^\d{8}T\d{6}Z$/.test(stamp) || !credential.includes('/')) throw new SignatureError('INCOMPLETE')
  const slash = credential.indexOf('/')
  return {
    accessKeyId: credential.slice(0, slash),
    scope: credential.slice(slash + 1),
    headers: headers.split(';'),
    signature,
    stamp,
    token,
    presigned,
  }
}

/** A presigned URL says itself how long it is good for. `skew`: ms, each way. */
function inTime(stamp: string, presigned: number | undefined, now: number, skew: number): void {
  const [, year, month, day, hour, minute, second] = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(stamp) ?? []
  const at = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`)
  if (Number.isNaN(at) || at - now > skew) throw new SignatureError('SKEWED')
  if (presigned === undefined) {
    if (now - at > skew) throw new SignatureError('SKEWED')
  } else if (now >= at + presigned * 1000) throw new SignatureError('PRESIGN_EXPIRED')
}

/** S3: "RequestTimeTooSkewed"; the others: IAM User Guide, "within five minutes of the time stamp". */
const SKEW = { s3: 15 * 60_000, sts: 5 * 60_000 }

function canonical(call: Call, query: Pairs, { headers, presigned }: Signed, service: Verifier['service']): string {
  // What is not signed could be changed on the way: the host, and every header that AWS itself reads.
  const must = [...call.headers.keys()].filter((name) => name === 'host' || name.startsWith('x-amz-'))
  if (!headers.includes('host') || must.some((name) => !headers.includes(name)))
    throw new SignatureError('HEADER_NOT_SIGNED')
  const lines = headers.map((name) => `${name}:${(call.headers.get(name) ?? '').trim().replace(/ +/g, ' ')}\n`)
  const sorted = query
    .filter(([name]) => name !== 'X-Amz-Signature')
    .map(([name, value]) => [encode(name), encode(value)] as const)
    .sort(([a, v], [b, w]) => (a < b ? -1 : a > b ? 1 : v < w ? -1 : v > w ? 1 : 0))
  return [
    call.method,
    path(call.path, service),
    sorted.map(([name, value]) => `${name}=${value}`).join('&'),
    lines.join(''),
    headers.join(';'),
    payload(call, service, presigned !== undefined),
  ].join('\n')
}

/** S3 encodes a path once, as keys may hold anything; every other service encodes what was sent once more. */
function path(sent: string, service: Verifier['service']): string {
  return sent
    .split('/')
    .map((part) => encode(service === 's3' ? decode(part) : part))
    .join('/')
}

function payload({ headers, body }: Call, service: Verifier['service'], presigned: boolean): string {
  const actual = sha256(body)
  const stated = headers.get('x-amz-content-sha256')
  if (stated === undefined) return service === 's3' && presigned ? 'UNSIGNED-PAYLOAD' : actual
  if (stated === 'UNSIGNED-PAYLOAD' && service === 's3') return stated
  if (stated !== actual) throw new SignatureError('BODY_DIFFERS')
  return stated
}

function pairs(query: string): Pairs {
  if (query === '') return []
  return query.split('&').map((pair) => {
    const mark = pair.indexOf('=')
    return mark === -1 ? [decode(pair), ''] : [decode(pair.slice(0, mark)), decode(pair.slice(mark + 1))]
  })
}

/** RFC 3986 as AWS reads it: everything but the unreserved, in upper-case hex. */
const encode = (text: string): string =>
  encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`)

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    // Not UTF-8: no client of ours signs such a path, so its signature cannot be right.
    throw new SignatureError('MISMATCH')
  }
}

const hmac = (key: Buffer | string, text: string): Buffer => createHmac('sha256', key).update(text).digest()
const sha256 = (content: string | Buffer): string => createHash('sha256').update(content).digest('hex')

function same(one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)]
  return a.length === b.length && timingSafeEqual(a, b)
}
