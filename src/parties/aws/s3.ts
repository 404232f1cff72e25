// Just enough of S3 to read an object with the credentials that STS gave: GetObject and HeadObject, path-style.

import { createHash, randomUUID } from 'node:crypto'
import { serve } from '../serve.ts'
import type { Call, Party, Reply } from '../serve.ts'
import { permits } from './sessions.ts'
import type { Sessions } from './sessions.ts'
import { SignatureError, authenticate } from './sigv4.ts'
import type { SignatureTrouble } from './sigv4.ts'
import { element } from './xml.ts'

export interface S3Options {
  readonly port?: number
  readonly sessions: Sessions
  /** `bucket/key` to content. */
  readonly objects: Readonly<Record<string, string>>
  /** Unix ms. */
  readonly now?: () => number
}

/** What the role of the seed may read. */
export const SEED_OBJECTS = { 'weather-cat/forecast.txt': 'meow, with a chance of rain\n' }

export function startS3({ port, sessions, objects, now = Date.now }: S3Options): Promise<Party> {
  const content = new Map(Object.entries(objects))
  return serve({ port }, async (call) => {
    const id = randomUUID().replaceAll('-', '').slice(0, 16).toUpperCase()
    const headers = { 'x-amz-request-id': id, server: 'AmazonS3' }
    try {
      const reply = read(call, sessions, content, now)
      return { ...reply, headers: { ...reply.headers, ...headers } }
    } catch (caught) {
      const code =
        caught instanceof SignatureError ? SIGNATURE[caught.code] : caught instanceof S3Error ? caught.code : undefined
      if (code === undefined) throw caught
      const { status, message } = ERRORS[code]
      const body = element('Error', [
        ['Code', code],
        ['Message', message],
        ['RequestId', id],
        ['HostId', 'dotfly'],
      ])
      return {
        status,
        headers: { 'content-type': 'application/xml', ...headers },
        body: `<?xml version="1.0" encoding="UTF-8"?>\n${body}`,
      }
    }
  })
}

function read(call: Call, sessions: Sessions, content: ReadonlyMap<string, string>, now: () => number): Reply {
  const session = authenticate(call, { service: 's3', sessions, now })
  if (call.method !== 'GET' && call.method !== 'HEAD') throw new S3Error('MethodNotAllowed')
  const name = decodeURIComponent(call.path.slice(1))
  const [bucket = ''] = name.split('/', 1)
  if (name.length <= bucket.length + 1) throw new S3Error('MethodNotAllowed') // listing is not modelled
  if (!permits(session, 's3:GetObject', `arn:aws:s3:::${name}`)) throw new S3Error('AccessDenied')
  const body = content.get(name)
  if (body === undefined) {
    // Whoever may not list a bucket must not learn which keys are in it: GetObject, "404 or 403".
    if (!permits(session, 's3:ListBucket', `arn:aws:s3:::${bucket}`)) throw new S3Error('AccessDenied')
    throw new S3Error([...content.keys()].some((key) => key.startsWith(`${bucket}/`)) ? 'NoSuchKey' : 'NoSuchBucket')
  }
  const etag = createHash('md5').update(body).digest('hex')
  return {
    status: 200,
    headers: {
      'content-type': 'text/plain',
      etag: `"${etag}"`,
      'last-modified': new Date(0).toUTCString(),
      'accept-ranges': 'bytes',
    },
    body,
  }
}

type S3Code = keyof typeof ERRORS

class S3Error extends Error {
  readonly code: S3Code
  constructor(code: S3Code) {
    super(code)
    this.code = code
  }
}

/** Amazon S3 API Reference, "Error responses". */
const ERRORS = {
  AccessDenied: { status: 403, message: 'Access Denied' },
  AuthorizationHeaderMalformed: { status: 400, message: 'The authorization header that you provided is not valid.' },
  ExpiredToken: { status: 400, message: 'The provided token has expired.' },
  InvalidAccessKeyId: { status: 403, message: 'The AWS Access Key Id you provided does not exist in our records.' },
  InvalidToken: { status: 400, message: 'The provided token is malformed or otherwise invalid.' },
  MethodNotAllowed: { status: 405, message: 'The specified method is not allowed against this resource.' },
  NoSuchBucket: { status: 404, message: 'The specified bucket does not exist' },
  NoSuchKey: { status: 404, message: 'The specified key does not exist.' },
  RequestTimeTooSkewed: {
    status: 403,
    message: 'The difference between the request time and the current time is too large.',
  },
  SignatureDoesNotMatch: {
    status: 403,
    message:
      'The request signature we calculated does not match the signature you provided. Check your key and signing method.',
  },
  XAmzContentSHA256Mismatch: {
    status: 400,
    message: "The provided 'x-amz-content-sha256' header does not match what was computed.",
  },
} as const

const SIGNATURE: Record<SignatureTrouble, S3Code> = {
  // No bucket here is public, so nobody in particular may read nothing.
  NOT_SIGNED: 'AccessDenied',
  INCOMPLETE: 'AuthorizationHeaderMalformed',
  WRONG_SCOPE: 'AuthorizationHeaderMalformed',
  UNKNOWN_KEY: 'InvalidAccessKeyId',
  WRONG_SESSION_TOKEN: 'InvalidToken',
  SESSION_EXPIRED: 'ExpiredToken',
  SKEWED: 'RequestTimeTooSkewed',
  PRESIGN_EXPIRED: 'AccessDenied',
  HEADER_NOT_SIGNED: 'AccessDenied',
  BODY_DIFFERS: 'XAmzContentSHA256Mismatch',
  MISMATCH: 'SignatureDoesNotMatch',
}
