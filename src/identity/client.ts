// A client of the socket like any other: asks for an ID token over it, and knows no credential.

import { stat } from 'node:fs/promises'
import { Client, type Dispatcher } from 'undici'
import type { Code } from '../proxy/event.ts'

export interface TokenRequest {
  /** Path of the Unix socket. */
  socket: string
  /** Whom the token is for; without one, flyd's default. */
  audience?: string
  /** Has the claim with AWS session tags added. */
  awsPrincipalTags?: boolean
  /** Gives up when aborted. */
  signal?: AbortSignal
  /** For the whole request, ms; 10,000 if left out. */
  timeout?: number
}

/** Why there is no token. */
export type Trouble =
  | 'NO_SOCKET'
  | 'SOCKET_FORBIDDEN'
  | 'SOCKET_PATH_INVALID'
  | 'NOT_A_SOCKET'
  | 'NOBODY_LISTENS'
  | 'CONNECTION_LOST'
  | 'TIMEOUT'
  | 'CANCELLED'
  | 'AUDIENCE_REFUSED'
  | 'NOT_ALLOWED'
  | 'NOT_SERVED'
  | 'RATE_LIMITED'
  | 'REQUEST_REFUSED'
  | 'FLYD_DOWN'
  | 'FLYD_SLOW'
  | 'UNEXPECTED_ANSWER'
  | 'NOT_A_TOKEN'

/** No waiting mends these: they stay the same however often one asks. */
export const HOPELESS: ReadonlySet<Trouble> = new Set<Trouble>([
  'AUDIENCE_REFUSED',
  'REQUEST_REFUSED',
  'SOCKET_PATH_INVALID',
  'NOT_A_SOCKET', // nor would dotfly proxy replace it
])

export class IdentityError extends Error {
  override name = 'IdentityError'
  readonly code: Trouble
  /** The answer's status; 0 where there was no answer. */
  readonly status: number
  /** ms that flyd asked to be left alone; 0 where it did not. */
  readonly retryAfter: number
  constructor(code: Trouble, message: string, status = 0, cause?: unknown, retryAfter = 0) {
    super(message, { cause })
    this.code = code
    this.status = status
    this.retryAfter = retryAfter
  }
}

/** The ID token as the issuer signed it. Throws an IdentityError, and nothing else. */
export async function requestToken(request: TokenRequest): Promise<string> {
  const { timeout = TIMEOUT } = request
  const late = AbortSignal.timeout(Math.ceil(timeout))
  const signal = request.signal === undefined ? late : AbortSignal.any([late, request.signal])
  // The socket is given by path, so the host is only a header that the proxy ignores.
  const client = new Client('http://localhost', { socketPath: request.socket, pipelining: 0 })
  let answer: Answer
  try {
    answer = await ask(client, request, signal)
  } catch (caught) {
    if (caught instanceof IdentityError) throw caught
    throw await withoutAnswer(caught, { ...request, timeout }, late)
  } finally {
    // Not close(): after a time-out it would wait for the very answer that was given up.
    await client.destroy()
  }
  if (answer.status !== 200) throw refused(answer, request)
  // Some answer with a newline behind the token; nothing else about it is mended.
  const token = answer.body.trim()
  if (!JWT.test(token))
    throw new IdentityError(
      'NOT_A_TOKEN',
      `${request.socket} answered with something that is not a token`,
      answer.status,
    )
  return token
}

/** What flyd has for minting. */
const TIMEOUT = 10_000

/** A request with a time-out of its own. */
export type Timed = TokenRequest & { timeout: number }

interface Answer {
  status: number
  body: string
  retryAfter: number
}

/** flyd's limits are of seconds; an answer that sends a Machine away for hours is not believed. */
const LONGEST_RETRY_AFTER = 300_000

/** Real tokens are 1 to 2 KB; more than this is not an answer to our question. */
const BODY_LIMIT = 64 * 1024

const JWT = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/

async function ask(client: Dispatcher, request: TokenRequest, signal: AbortSignal): Promise<Answer> {
  const { socket, audience, awsPrincipalTags } = request
  const {
    statusCode: status,
    headers,
    body,
  } = await client.request({
    method: 'POST',
    path: '/v1/tokens/oidc',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ aud: audience, aws_principal_tags: awsPrincipalTags === true ? true : undefined }),
    signal,
  })
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of body) {
    if (!Buffer.isBuffer(chunk)) throw new TypeError('undici reads bodies as buffers')
    length += chunk.length
    if (length > BODY_LIMIT)
      throw new IdentityError('UNEXPECTED_ANSWER', `${socket} answered with more than ${BODY_LIMIT} bytes`, status)
    chunks.push(chunk)
  }
  const after = /^[0-9]{1,9}$/.exec(String(headers['retry-after'] ?? ''))?.[0] ?? '0'
  return {
    status,
    body: Buffer.concat(chunks).toString('utf8'),
    retryAfter: Math.min(Number(after) * 1000, LONGEST_RETRY_AFTER),
  }
}

async function withoutAnswer(
  caught: unknown,
  { socket, timeout, signal }: Timed,
  late: AbortSignal,
): Promise<IdentityError> {
  const trouble = (code: Trouble, message: string): IdentityError => new IdentityError(code, message, 0, caught)
  if (signal?.aborted === true) return trouble('CANCELLED', 'cancelled')
  if (late.aborted)
    return trouble('TIMEOUT', `no answer from ${socket} within ${timeout / 1000} s: flyd may be slow, try again`)
  switch (codeOf(caught)) {
    case 'ENOENT':
    case 'ENOTDIR':
      return trouble('NO_SOCKET', `no socket at ${socket}: is this a Machine? start it with dotfly proxy`)
    case 'EACCES':
    case 'EPERM':
      return trouble(
        'SOCKET_FORBIDDEN',
        `${socket} may not be used by uid ${process.getuid?.() ?? 'unknown'}: connecting needs its write bit, and x on its directories: serve it with --socket ${socket},mode=0660,gid=${process.getgid?.() ?? 'N'}`,
      )
    case 'ECONNREFUSED':
      if (await isSomethingElse(socket))
        return trouble('NOT_A_SOCKET', `${socket} is not a socket: name that of dotfly proxy with --socket`)
      return trouble('NOBODY_LISTENS', `nobody listens at ${socket}: start it with dotfly proxy`)
    case 'EINVAL':
    case 'ENAMETOOLONG':
      return trouble('SOCKET_PATH_INVALID', `${socket} is too long for a socket path: 107 bytes is the most`)
    default:
      return trouble('CONNECTION_LOST', `${socket} closed the connection without a whole answer: try again`)
  }
}

/** The kernel refuses a file or a directory as it does a socket that nobody listens at. */
const isSomethingElse = (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => !found.isSocket(),
    () => false, // gone since
  )

function refused({ status, body, retryAfter }: Answer, { socket, audience }: TokenRequest): IdentityError {
  const trouble = (code: Trouble, message: string): IdentityError =>
    new IdentityError(code, message, status, undefined, retryAfter)
  const code = codeInBody(body)
  if (code === 'AUDIENCE_NOT_ALLOWED') {
    const what =
      audience === undefined
        ? 'tokens without an audience: name one with --aud'
        : `the audience ${audience}: allow it with --socket ${socket},aud=…`
    return trouble('AUDIENCE_REFUSED', `${socket} refuses ${what}`)
  }
  if (code === 'CALLER_NOT_ALLOWED')
    return trouble('NOT_ALLOWED', `${socket} serves another user than uid ${process.getuid?.() ?? 'unknown'}`)
  if (code === 'TOO_MANY_CONNECTIONS')
    return trouble('RATE_LIMITED', `${socket} has too many connections (${status}): close idle ones, and try again`)
  if (code === 'FLYD_CLOSED') return trouble('FLYD_DOWN', `flyd hung up behind ${socket} (${status}): try again`)
  // A 502 as well, and trying again is no use: something answers, and not as flyd does.
  if (code !== undefined && NOT_FLYD.has(code))
    return trouble(
      'UNEXPECTED_ANSWER',
      `what answers behind ${socket} is not flyd, or faulty (${code}): check --flyd of dotfly proxy`,
    )
  switch (status) {
    case 400:
    case 422:
      return trouble(
        'REQUEST_REFUSED',
        audience === undefined
          ? `${socket} refused the request (400)`
          : `${socket} refused the request: is the audience right`,
      )
    case 401:
    case 403:
      return trouble(
        'NOT_ALLOWED',
        `${socket} does not allow this Machine or user to have a token (${status}): see dotfly doctor`,
      )
    case 404:
      return trouble('NOT_SERVED', `${socket} does not serve ID tokens (404): is it the socket of dotfly proxy`)
    case 429:
      return trouble('RATE_LIMITED', 'too many tokens asked for: try again in a second')
    case 502:
    case 503:
      return trouble(
        'FLYD_DOWN',
        `flyd is unreachable behind ${socket} (${status}): try again, or check --flyd of dotfly proxy`,
      )
    case 504:
      return trouble('FLYD_SLOW', `flyd did not answer in time behind ${socket} (504): try again`)
    default:
      return trouble('UNEXPECTED_ANSWER', `${socket} answered with status ${status}: see dotfly doctor`)
  }
}

/** What the proxy does not pass on of whoever stands at --flyd. */
const NOT_FLYD: ReadonlySet<string> = new Set<Code>([
  'FLYD_MALFORMED',
  'FLYD_ENCODED',
  'FLYD_REDIRECTED',
  'FLYD_UPGRADED',
  'FLYD_TOO_LARGE',
  'FLYD_NOT_A_TOKEN',
])

/** dotfly's own code in an error body, `{"error":"…","code":"…"}`; any other answer has none. */
function codeInBody(body: string): string | undefined {
  let parsed: unknown
  try {
    parsed = JSON.parse(body)
  } catch {
    return undefined // flyd answers some errors in plain text
  }
  return typeof parsed === 'object' && parsed !== null && 'code' in parsed && typeof parsed.code === 'string'
    ? parsed.code
    : undefined
}

const codeOf = (caught: unknown): unknown => (caught instanceof Error && 'code' in caught ? caught.code : undefined)
