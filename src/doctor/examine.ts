// Looks at a Machine from where a program in it stands: socket, flyd, token, clock, names, files, variables, defences.
// It changes nothing, and asks for one token for each audience.

import { accessSync, constants, statSync } from 'node:fs'
import { decodeJwt } from 'jose/jwt/decode'
import { IdentityError, requestToken, type Trouble } from '../identity/client.ts'
import { valueOf, type Variables } from '../identity/cloud.ts'
import { arrange } from '../identity/keeper.ts'
import { lifeOf } from '../identity/life.ts'
import type { IdentityOptions } from '../identity/options.ts'
import { reviewFile } from './files.ts'
import type { Code, Finding } from './finding.ts'
import { issuerFinding } from './issuer.ts'
import { reviewPolicy, type Seen } from './policy.ts'

export interface Examination {
  readonly env: Variables
  readonly identity: IdentityOptions
  /** Asked for besides those of the token files. */
  readonly audience?: string
  /** The issuer as it was registered with a cloud. */
  readonly issuer?: string
  readonly policy?: { readonly name: string; readonly text: string }
  /** Text for a variable that cannot be used, by its code. */
  readonly problems: Readonly<Record<string, string>>
  /** The defences of the running Machine; init knows how to look. */
  readonly hardening?: () => readonly Defence[]
  readonly now?: () => number
  readonly request?: typeof requestToken
}

/** As anybody in the Machine can see it. */
interface Defence {
  readonly step: string
  readonly state: 'on' | 'off' | 'unknown'
  /** What was seen, or why it cannot be. */
  readonly because: string
}

export interface Diagnosis {
  readonly findings: readonly Finding[]
  /** What a token of this Machine says. */
  readonly token: (Seen & { readonly aud: string }) | undefined
  /** All of them, as they are. */
  readonly hardening: readonly Defence[]
}

export async function examine(examination: Examination): Promise<Diagnosis> {
  const { env, identity, issuer, policy, hardening } = examination
  const { socket } = identity
  const plan = arrange(env, identity)
  const findings: Finding[] = [...reviewSocket(socket)]
  let token: Diagnosis['token']
  if (findings.length === 0) {
    // Of every cloud that is asked for, whoever keeps its file.
    const unnamed = { ...env, ...Object.fromEntries(TOKEN_VARIABLES.map((name) => [name, undefined])) }
    const { files } = arrange(unnamed, identity)
    const audiences = new Set([...files.map(({ audience }) => audience), examination.audience].filter(isText))
    for (const audience of audiences.size === 0 ? [undefined] : audiences) {
      const asked = await ask(examination, socket, audience)
      findings.push(...asked.findings.filter(({ code }) => !findings.some((one) => one.code === code)))
      token ??= asked.token
    }
  }
  if (issuer !== undefined) findings.push(...issuerFinding('what you registered', issuer, token?.iss))
  if (policy !== undefined) {
    const audience = examination.audience ?? 'sts.amazonaws.com'
    findings.push(...reviewPolicy({ ...policy, audience, awsPrincipalTags: identity.awsPrincipalTags, token }))
  }
  const named = TOKEN_VARIABLES.map((name) => valueOf(env, name)).filter(isText)
  const others = named.filter((path) => path.startsWith('/') && !plan.files.some((file) => file.path === path))
  const now = (examination.now ?? Date.now)()
  const files = [...plan.files, ...others.map((path) => ({ path }))].map((file) => reviewFile(file, now))
  // A variable that names a good token is as it should be: dotfly init has set it, whose --token-dir is not known here.
  const good = new Set(others.filter((_, i) => files[plan.files.length + i]?.length === 0))
  const notices = plan.notices.filter(
    ({ code, variable }) => code !== 'VARIABLE_KEPT' || !good.has(valueOf(env, variable) ?? ''),
  )
  findings.push(...reviewVariables(env, { ...plan, notices }, examination.problems), ...reviewClouds(plan, token))
  findings.push(...files.flat())
  const defences = hardening?.() ?? []
  for (const { step, state, because } of defences)
    if (state === 'off') findings.push(finding('HARDENING_OFF', step, because))
  return { findings, token, hardening: defences }
}

const finding = (code: Code, about: string, seen = '', wanted = ''): Finding => ({ code, about, seen, wanted })
const isText = (value: string | undefined): value is string => value !== undefined

/** Where SDKs look for the path of a token. */
const TOKEN_VARIABLES = ['AWS_WEB_IDENTITY_TOKEN_FILE', 'AZURE_FEDERATED_TOKEN_FILE', 'ANTHROPIC_IDENTITY_TOKEN_FILE']

function reviewSocket(path: string): Finding[] {
  try {
    const found = statSync(path, { throwIfNoEntry: false })
    if (found === undefined) return [finding('SOCKET_MISSING', path)]
    if (!found.isSocket()) return [finding('SOCKET_NOT_A_SOCKET', path)]
    accessSync(path, constants.W_OK)
    return []
  } catch {
    return [forbidden(path)] // it is there, or behind a directory that may not be entered
  }
}

const forbidden = (path: string): Finding =>
  finding('SOCKET_FORBIDDEN', path, `uid ${process.getuid?.() ?? '?'}`, `mode=0660,gid=${process.getgid?.() ?? 'N'}`)

/** What the client's trouble means for whoever sets a Machine up. */
const MEANS: Record<Trouble, Code> = {
  NO_SOCKET: 'SOCKET_MISSING',
  SOCKET_FORBIDDEN: 'SOCKET_FORBIDDEN',
  SOCKET_PATH_INVALID: 'SOCKET_NOT_A_SOCKET',
  NOT_A_SOCKET: 'SOCKET_NOT_A_SOCKET',
  NOBODY_LISTENS: 'SOCKET_DEAD',
  CONNECTION_LOST: 'SOCKET_DEAD',
  TIMEOUT: 'FLYD_SLOW',
  CANCELLED: 'FLYD_SLOW',
  AUDIENCE_REFUSED: 'AUDIENCE_NOT_ALLOWED',
  NOT_ALLOWED: 'TOKEN_NOT_ALLOWED',
  NOT_SERVED: 'TOKEN_NOT_SERVED',
  RATE_LIMITED: 'RATE_LIMITED',
  REQUEST_REFUSED: 'TOKEN_REFUSED',
  FLYD_DOWN: 'FLYD_UNREACHABLE',
  FLYD_SLOW: 'FLYD_SLOW',
  UNEXPECTED_ANSWER: 'TOKEN_REFUSED',
  NOT_A_TOKEN: 'TOKEN_REFUSED',
}

/** A clock this far off is noticed by those who check `nbf` and `exp` themselves. */
const SKEW = 5_000 // ms

async function ask(
  { request = requestToken, now = Date.now }: Examination,
  socket: string,
  audience: string | undefined,
): Promise<Omit<Diagnosis, 'hardening'>> {
  let jwt: string
  const before = now()
  try {
    jwt = await request({ socket, timeout: 5_000, ...(audience === undefined ? {} : { audience }) })
  } catch (error) {
    if (!(error instanceof IdentityError)) throw error
    const code = MEANS[error.code]
    if (code === 'SOCKET_FORBIDDEN') return { findings: [forbidden(socket)], token: undefined }
    const seen =
      code === 'AUDIENCE_NOT_ALLOWED'
        ? (audience ?? 'of flyd')
        : error.status > 0
          ? `status ${error.status}`
          : 'nothing'
    return { findings: [finding(code, socket, seen)], token: undefined }
  }
  const life = lifeOf(jwt)
  if (life === undefined)
    return { findings: [finding('TOKEN_REFUSED', socket, 'a token without times')], token: undefined }
  const { iss = '', sub = '', aud = '' } = decodeJwt(jwt)
  // Made somewhere between the two readings, and dated to the second.
  const ahead = before - (life.iat + 1) * 1000
  const behind = life.iat * 1000 - now()
  const findings =
    ahead > SKEW
      ? [finding('CLOCK_AHEAD', socket, `${Math.round(ahead / 1000)} s`)]
      : behind > SKEW
        ? [finding('CLOCK_BEHIND', socket, `${Math.round(behind / 1000)} s`)]
        : []
  return { findings, token: { iss, sub, aud: String(aud) } }
}

function reviewVariables(
  env: Variables,
  plan: ReturnType<typeof arrange>,
  problems: Examination['problems'],
): Finding[] {
  return [
    ...plan.problems.map(({ code, variable }) => finding('VARIABLE_MALFORMED', variable, problems[code] ?? code)),
    ...plan.notices.map(({ code, variable }) =>
      // The value of a variable that holds a key is nobody's business, that of a path is.
      finding(code, variable, code === 'VARIABLE_KEPT' ? (valueOf(env, variable) ?? '') : ''),
    ),
  ]
}

function reviewClouds(plan: ReturnType<typeof arrange>, token: Seen | undefined): Finding[] {
  const has = (cloud: string): boolean => plan.files.some((file) => file.cloud === cloud)
  if (token === undefined) return []
  const bytes = Buffer.byteLength(token.sub)
  return [
    ...(has('azure') ? [finding('AZURE_ONE_MACHINE_EACH', 'azure', token.sub)] : []),
    ...(has('gcp') && bytes > 127 ? [finding('GCP_SUBJECT_TOO_LONG', 'gcp', String(bytes))] : []),
  ]
}
