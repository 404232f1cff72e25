// What one socket may ask for. Paths are compared in the bytes that are forwarded: a path is served only when it
// equals, byte for byte, one that this file made itself from the table and our own app and Machine. So nothing has
// to be normalised, and `..`, `//`, `%2e`, `;x` or another Machine's id simply are not on the list.

import { isUtf8 } from 'node:buffer'
import type { Code } from './event.ts'
import { toFlyd } from './headers.ts'
import type { Request } from './request.ts'
import { EMPTY } from './seen.ts'

export interface Policy {
  readonly preset: 'self' | 'token' | 'all'
  /** Extra routes, `METHOD /path`: `*` stands for one segment, a final `?` lets a query pass. */
  readonly allow: readonly string[]
  /** Audiences that tokens may be asked for; empty: any. */
  readonly audiences: readonly string[]
  readonly app: string | undefined
  readonly machine: string | undefined
}

interface Route {
  readonly method: string
  readonly pattern: string
  readonly preset: 'token' | 'self' | 'none'
  readonly query?: readonly string[]
  /** Repeating it does no harm, so it may be sent again when a reused connection turns out dead. */
  readonly again?: boolean
}

/** A request as it goes to flyd: every byte made here or judged here. */
export interface Ask {
  readonly route: string
  readonly method: string
  readonly target: string
  readonly fields: string
  readonly body: string
  readonly again: boolean
  /** flyd may be silent for a minute by contract. */
  readonly waits: boolean
  /** A token is being minted: the answer is held until it is whole and has the shape of a JWT. */
  readonly mints: boolean
  readonly audience?: string
  /** What upstream.ts writes before and behind the credential, kept for whoever asks the same again. */
  wire?: readonly [before: Buffer, after: Buffer]
  /** What tell.ts says of each such exchange, whoever asks. */
  told?: Buffer
}

const MACHINE = '/v1/apps/:app/machines/:machine'
const read = (pattern: string, ...query: string[]): Route => ({
  method: 'GET',
  pattern,
  preset: 'self',
  query,
  again: true,
})
const act = (method: string, pattern: string): Route => ({ method, pattern, preset: 'self' })
const known = (method: string, pattern: string): Route => ({ method, pattern, preset: 'none' })

const ROUTES: readonly Route[] = [
  { method: 'POST', pattern: '/v1/tokens/oidc', preset: 'token', again: true },
  read('/v1/tokens/current'),
  read('/v1/apps/:app'),
  read('/v1/apps/:app/machines', 'include_deleted', 'region', 'state', 'summary'),
  read(MACHINE),
  read(`${MACHINE}/wait`, 'instance_id', 'version', 'timeout', 'state', 'from_event_id'),
  read(`${MACHINE}/events`, 'limit'),
  read(`${MACHINE}/ps`),
  read(`${MACHINE}/versions`),
  read(`${MACHINE}/metadata`),
  read(`${MACHINE}/metadata/:key`),
  read(`${MACHINE}/lease`),
  act('POST', `${MACHINE}/metadata/:key`),
  act('DELETE', `${MACHINE}/metadata/:key`),
  act('PUT', `${MACHINE}/metadata`),
  act('PATCH', `${MACHINE}/metadata`),
  ...['suspend', 'stop', 'start', 'restart', 'cordon', 'uncordon', 'signal', 'lease'].map((verb) =>
    act('POST', `${MACHINE}/${verb}`),
  ),
  act('DELETE', `${MACHINE}/lease`),
  // Served only where a socket's policy says so: named here so that the refusal is a 403 and tells what to do.
  known('GET', '/v1/apps'),
  known('POST', '/v1/tokens/kms'),
  known('POST', '/v1/apps/:app/machines'),
  known('POST', MACHINE),
  known('DELETE', MACHINE),
  known('POST', `${MACHINE}/exec`),
  known('GET', '/v1/apps/:app/secrets'),
  known('GET', '/v1/apps/:app/secrets/:key'),
  ...['encrypt', 'decrypt', 'sign', 'verify'].map((verb) => known('POST', `/v1/apps/:app/secretkeys/:key/${verb}`)),
  known('GET', '/v1/apps/:app/volumes'),
]

export const METHODS: ReadonlySet<string> = new Set(['GET', 'POST', 'PUT', 'PATCH', 'DELETE'])
const TOKEN_BODY_LIMIT = 8 * 1024 // an audience and a flag
const AUDIENCE_LIMIT = 512
const SEGMENT = "[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9._~!$&'()*+,=:@-]*" // never `.`, `..`, empty, `;` or `%`
const PLAIN_PATH = new RegExp(`^/v1(?:/${SEGMENT})+$`)
const PLAIN_QUERY = /^(?:[A-Za-z0-9._~,:@/=&+-]|%[0-9A-F]{2}){0,2048}$/
const QUERY_VALUE = /^[A-Za-z0-9._~:-]{0,128}$/
// What no honest client sends: controls, non-ASCII, backslash, fragment, a dot segment, an authority, an escaped
// delimiter or an escaped `%`. 400 and not 404, so that whoever sends it stands out.
const HOSTILE =
  /[^\x21-\x7e]|[\\#"<>^`{|}]|^\/\/|\/\.\.(?:\/|$)|%(?![0-9A-Fa-f]{2})|%(?:[01][0-9A-Fa-f]|2[0-9A-Fa-f]|3[A-Fa-f]|5[CcBbDd]|7[Ff]|[89A-Fa-f][0-9A-Fa-f])/

/** What a request may ask of flyd, or why nothing. `brief`: any reason will do where no route is served. */
export type Judge = (request: Request, brief?: boolean) => Ask | Code

/** Judges requests for one socket; made once, at start. */
export function compile(policy: Policy): Judge {
  const exact = new Map<string, Route>() // `METHOD /path` -> route
  const keyed = new Map<string, Route>() // `METHOD /path/` of a route that ends in a user's key
  const mine = (pattern: string): string | undefined => {
    if (pattern.includes(':app') && policy.app === undefined) return undefined
    if (pattern.includes(':machine') && policy.machine === undefined) return undefined
    return pattern.replace(':app', () => policy.app ?? '').replace(':machine', () => policy.machine ?? '')
  }
  for (const route of ROUTES) {
    if (route.preset === 'none' || (policy.preset === 'token' && route.preset !== 'token')) continue
    const path = mine(route.pattern)
    if (path === undefined) continue
    if (path.endsWith('/:key')) keyed.set(`${route.method} ${path.slice(0, -4)}`, route)
    else exact.set(`${route.method} ${path}`, route)
  }
  const patterns = policy.allow.map((entry) => {
    const [method = '', pattern = ''] = entry.split(' ')
    const query = pattern.endsWith('?')
    const path = pattern
      .slice(0, pattern.length - (query ? 1 : 0))
      .split('/')
      .map((s) => (s === '*' ? SEGMENT : RegExp.escape(s)))
    return { pattern, method, query, matches: new RegExp(`^${path.join('/')}$`) }
  })

  /** Undefined where none is served: `whyNot` says why. */
  function routeOf(
    method: string,
    path: string,
    query: string | undefined,
  ): { route: Route; path: string } | Code | undefined {
    const listed = exact.get(`${method} ${path}`)
    if (listed !== undefined) return queryFits(listed, query) ? { route: listed, path } : 'QUERY_NOT_SERVED'
    const slash = path.lastIndexOf('/') + 1
    const key = keyed.get(`${method} ${path.slice(0, slash)}`)
    if (key !== undefined) {
      const encoded = encodedOnce(path.slice(slash))
      if (encoded === undefined) return 'TARGET_MALFORMED'
      return query === undefined ? { route: key, path: path.slice(0, slash) + encoded } : 'QUERY_NOT_SERVED'
    }
    if (HOSTILE.test(path)) return 'TARGET_MALFORMED'
    // Minting is judged by its body: no other method, and no path that a lax router could take for it, goes around that.
    const mints = path.toLowerCase() === '/v1/tokens/oidc'
    const plain = !mints && PLAIN_PATH.test(path) && (query === undefined || PLAIN_QUERY.test(query))
    if (plain) {
      for (const { pattern, method: allowed, query: open, matches } of patterns) {
        if (allowed !== method || !matches.test(path)) continue
        return open || query === undefined ? { route: { method, pattern, preset: 'none' }, path } : 'QUERY_NOT_SERVED'
      }
      if (policy.preset === 'all')
        return { route: { method, pattern: '/v1/…', preset: 'none', again: method === 'GET' }, path }
    }
    return undefined
  }

  return (request, brief = false) => {
    if (!METHODS.has(request.method)) return 'METHOD_NOT_ALLOWED'
    const mark = request.target.indexOf('?')
    const path = mark < 0 ? request.target : request.target.slice(0, mark)
    const query = mark < 0 ? undefined : request.target.slice(mark + 1)
    if (!path.startsWith('/')) return 'TARGET_MALFORMED'
    const found = routeOf(request.method, path, query)
    if (found === undefined) return brief ? 'ROUTE_NOT_SERVED' : whyNot(request.method, path, policy.preset !== 'token')
    if (typeof found === 'string') return found
    const { route } = found
    const mints = found.path === '/v1/tokens/oidc'
    const judged = mints ? tokenBody(request.body, policy.audiences) : jsonBody(request.body)
    if (typeof judged === 'string') return judged
    return {
      route: route.pattern,
      method: request.method,
      target: query === undefined ? found.path : `${found.path}?${query}`,
      fields: toFlyd(request.fields),
      again: route.again === true,
      waits: found.path.endsWith('/wait'),
      mints,
      ...judged,
    }
  }
}

/** Names listed and each at most once, values that need no escape: so the query can be forwarded as it is. */
function queryFits(route: Route, query: string | undefined): boolean {
  if (query === undefined) return true
  const names = new Set(route.query)
  return query.split('&').every((pair) => {
    const equals = pair.indexOf('=')
    return equals > 0 && names.delete(pair.slice(0, equals)) && QUERY_VALUE.test(pair.slice(equals + 1))
  })
}

/** A user's key, decoded once and encoded again in the one canonical way; undefined when it could become a path. */
function encodedOnce(segment: string): string | undefined {
  if (!/^(?:[A-Za-z0-9._~!$&'()*+,=:@-]|%[0-9A-Fa-f]{2}){1,512}$/.test(segment)) return undefined
  let key: string
  try {
    key = decodeURIComponent(segment)
  } catch {
    return undefined // not UTF-8
  }
  if (key === '.' || key === '..' || /[\x00-\x1f\x7f/\\%]/.test(key)) return undefined
  return encodeURIComponent(key)
}

/** The methods that a target has, as RFC 9110 section 15.5.6 wants them in the Allow of a 405; '' for what has none. */
export function methodsOf(request: Request, judge: Judge): string {
  const verdictOf = (method: string): Ask | Code => judge({ ...request, method, body: EMPTY }, true)
  return [...METHODS].filter((method) => !isElsewhere(verdictOf(method))).join(', ')
}
/** Refused for method and path, whatever the body. */
const isElsewhere = (verdict: Ask | Code): boolean =>
  typeof verdict === 'string' && /^(?:METHOD|ROUTE|TARGET|NOT_THIS)_/.test(verdict)

/** Made when it is first asked why. */
let SHAPES: readonly (readonly [Route, RegExp])[] | undefined

/** The most helpful true reason: wrong method, somebody else's Machine (our `own` is served), not here, or no route. */
function whyNot(method: string, path: string, own: boolean): Code {
  let code: Code = 'ROUTE_NOT_SERVED'
  SHAPES ??= ROUTES.map((route) => [route, new RegExp(`^${route.pattern.replace(/:[a-z]+/g, '[^/]+')}$`)])
  for (const [route, shape] of SHAPES) {
    if (!shape.test(path)) continue
    if (route.method !== method) code = code === 'ROUTE_NOT_SERVED' ? 'METHOD_NOT_ALLOWED' : code
    else return own && route.preset === 'self' && route.pattern.includes(':') ? 'NOT_THIS_MACHINE' : 'ROUTE_NOT_ALLOWED'
  }
  return code
}

type Judged = { readonly body: string; readonly audience?: string } | Code

/** `{"aud"?: string, "aws_principal_tags"?: boolean}` or nothing; anything else could be read differently by flyd. */
function tokenBody(bytes: Buffer, audiences: readonly string[]): Judged {
  if (bytes.length > TOKEN_BODY_LIMIT) return 'REQUEST_BODY_TOO_LARGE'
  const parsed = bytes.length === 0 ? {} : parseObject(bytes)
  if (parsed === undefined) return 'BODY_MALFORMED'
  if (Object.keys(parsed).some((key) => key !== 'aud' && key !== 'aws_principal_tags')) return 'BODY_MALFORMED'
  const { aud, aws_principal_tags: tags } = parsed
  if (tags !== undefined && typeof tags !== 'boolean') return 'BODY_MALFORMED'
  if (aud !== undefined && (typeof aud !== 'string' || aud.length > AUDIENCE_LIMIT || !aud.isWellFormed()))
    return 'BODY_MALFORMED'
  if (audiences.length > 0 && (aud === undefined || !audiences.includes(aud))) return 'AUDIENCE_NOT_ALLOWED'
  const body = JSON.stringify({ aud, aws_principal_tags: tags })
  return aud === undefined ? { body } : { body, audience: aud }
}

/** Any JSON object, written anew, or nothing. */
function jsonBody(bytes: Buffer): Judged {
  if (bytes.length === 0) return { body: '' }
  const parsed = parseObject(bytes, exactly)
  if (parsed === undefined) return 'BODY_MALFORMED'
  try {
    return { body: JSON.stringify(parsed) }
  } catch {
    return 'BODY_MALFORMED' // nested beyond the stack
  }
}

function parseObject(
  bytes: Buffer,
  revive?: (key: string, part: unknown) => unknown,
): Readonly<Record<string, unknown>> | undefined {
  if (!isUtf8(bytes)) return undefined
  try {
    const value: unknown = JSON.parse(bytes.toString(), revive)
    return isObject(value) ? value : undefined
  } catch {
    return undefined // not JSON, or nested beyond the stack: all the guest's fault, all one code
  }
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** 1e999 or twenty digits would reach flyd as another number: refused. */
function exactly(_: string, part: unknown): unknown {
  if (typeof part === 'number' && Math.abs(part) > Number.MAX_SAFE_INTEGER) throw new RangeError()
  return part
}
