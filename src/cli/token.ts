// dotfly token: one ID token, from the socket to standard output, as it is or in the form that another tool reads.

import type { JWTPayload } from 'jose'
import { decodeJwt } from 'jose/jwt/decode'
import { Failure, UsageError } from '../errors.ts'
import { roleProblem, sessionName } from '../identity/aws.ts'
import { IdentityError, requestToken, type Timed } from '../identity/client.ts'
import { parseDuration } from '../identity/options.ts'
import { untilToken } from '../identity/wait.ts'
import { type Grammar, readArguments } from './arguments.ts'
import type { Environment } from './commands.ts'
import { printable, printableJson, shown } from './printable.ts'
import { socketPath, socketWords } from './sockets.ts'
import { patiently } from './terminal.ts'

const HELP = `Usage: dotfly token [OPTION…]

Asks the socket for an ID token of this Machine, and prints it.

    --aud AUDIENCE      whom the token is for, such as sts.amazonaws.com;
                        default: flyd's own              DOTFLY_AUD
    --claims            print what the token says, in JSON; the signature is
                        not checked, that is the relying party's work
    --json              print {"token", "claims", "expires_at"}
    --format FORMAT     raw (default), json, or what tools that run a command
                        want (below)
    --wait TIME         try again for so long until there is a token, such as
                        30s, 500ms or 2m; default 0, one try
                                                         DOTFLY_WAIT
    --socket PATH       the socket to ask; default /.fly/api
                                                         DOTFLY_SOCKET
    --timeout SECONDS   for each request; at most 600, default 10
                                                         DOTFLY_TIMEOUT
    -h, --help          this text

The token is followed by a newline, on a terminal or not; $(…) in a shell takes
it away again. FORMAT may also be

    aws-credential-process
                    keys for the role in AWS_ROLE_ARN, from AWS STS: for
                    credential_process in ~/.aws/config
    gcp-executable  for credential_source.executable of an external_account;
                    the audience is the one that Google's library names
    k8s-exec        an ExecCredential for kubectl

Exit codes: 0 printed, 1 no token, 2 wrong usage, 128+N ended by signal N.

Example:

    dotfly token --aud sts.amazonaws.com
`

export const grammar: Grammar = {
  name: 'token',
  help: HELP,
  declare: (command) =>
    command
      .option('--aud <audience>')
      .option('--claims')
      .option('--json')
      .choice('--format <format>', FORMATS)
      .option('--wait <time>')
      .option('--socket <path>')
      .option('--timeout <seconds>'),
}

interface Words {
  aud?: string
  claims?: true
  json?: true
  format?: string
  wait?: string
  socket?: string
  timeout?: string
}

const FORMATS = ['raw', 'json', 'aws-credential-process', 'gcp-executable', 'k8s-exec'] as const
type Form = (typeof FORMATS)[number] | 'claims'

interface Asked extends Timed {
  form: Form
  /** ms to go on trying. */
  wait: number
}

export async function token(words: readonly string[], env: Environment): Promise<number> {
  const asked = await readArguments(grammar, words, (command) => judge(command.opts<Words>(), env))
  if (asked === undefined) return 0
  const { form, wait, ...request } = asked
  try {
    const jwt = await patiently('waiting for a token', () =>
      wait > 0 ? untilToken(request, wait) : requestToken(request),
    )
    process.stdout.write(`${await SPELL[form](jwt, env, request.timeout)}\n`)
    return 0
  } catch (caught) {
    if (!(caught instanceof IdentityError)) throw caught
    const message = printable(caught.message)
    // Google's library reads why from standard output.
    if (form === 'gcp-executable') {
      const { code } = caught
      process.stdout.write(`${JSON.stringify({ version: 1, success: false, code, message })}\n`)
    }
    throw new Failure(message, { cause: caught })
  }
}

function judge(typed: Words, env: Environment): Asked {
  if (typed.claims === true && typed.json === true)
    throw new UsageError('--claims and --json exclude each other: --json has the claims in it')
  if (typed.format !== undefined && (typed.claims === true || typed.json === true))
    throw new UsageError('--format excludes --claims and --json')
  const form: Form =
    typed.claims === true ? 'claims' : typed.json === true ? 'json' : formatNamed(typed.format ?? 'raw')
  const audience = typed.aud ?? (env['DOTFLY_AUD'] || AUDIENCE[form]?.(env)) ?? ''
  if (typed.aud === '') throw new UsageError('--aud is empty: leave it out for the default audience')
  if (Buffer.byteLength(audience) > 512)
    throw new UsageError(`the audience is ${Buffer.byteLength(audience)} bytes long: 512 is the most`)
  if (form === 'aws-credential-process') roleIn(env)
  // The variable may hold all that --socket of the proxy takes; the first path in it is meant.
  const [first = ''] = (typed.socket ?? socketWords(env)[0] ?? '').split(',')
  const waitWord = typed.wait ?? (env['DOTFLY_WAIT'] || '0')
  const wait = parseDuration(waitWord)
  if (wait === undefined) throw new UsageError(`waiting time ${shown(waitWord)} is not such as 30s or 500ms`)
  return {
    socket: socketPath(first),
    ...(audience === '' ? {} : { audience }),
    timeout: seconds(typed.timeout ?? (env['DOTFLY_TIMEOUT'] || '10')),
    form,
    wait,
  }
}

function formatNamed(word: string): (typeof FORMATS)[number] {
  const format = FORMATS.find((name) => name === word)
  if (format === undefined) throw new UsageError(`format ${shown(word)} is not one of ${FORMATS.join(', ')}`)
  return format
}

/** Milliseconds. Longer than ten minutes, the token would be older than it may become. */
function seconds(word: string): number {
  const value = /^[0-9]{1,3}(\.[0-9]{1,3})?$/.test(word) ? Number(word) : 0
  if (value <= 0 || value > 600) throw new UsageError(`time-out ${shown(word)} is not a number of seconds up to 600`)
  return value * 1000
}

/** Audiences that a format has by itself. */
const AUDIENCE: Partial<Record<Form, (env: Environment) => string | undefined>> = {
  'aws-credential-process': () => 'sts.amazonaws.com',
  'gcp-executable': (env) => env['GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE'],
}

const SPELL: Record<Form, (jwt: string, env: Environment, timeout: number) => string | Promise<string>> = {
  raw: (jwt) => jwt,
  claims: (jwt) => printableJson(claimsOf(jwt)),
  json: (jwt) => printableJson({ token: jwt, claims: claimsOf(jwt), expires_at: expiry(jwt)?.toISOString() ?? null }),

  // docs.aws.amazon.com sdkref/latest/guide/feature-process-credentials.html
  async 'aws-credential-process'(jwt, env, timeout) {
    const { assumeRole, stsEndpoint } = await import('../identity/sts.ts')
    const role = roleIn(env)
    const session = env['AWS_ROLE_SESSION_NAME'] || sessionName(env)
    const keys = await assumeRole({ endpoint: stsEndpoint(env, role), role, session, token: jwt, timeout })
    return JSON.stringify({
      Version: 1,
      AccessKeyId: keys.id,
      SecretAccessKey: keys.secret,
      SessionToken: keys.session,
      Expiration: keys.expires,
    })
  },

  // google.aip.dev/auth/4117, "Executable-sourced credentials"
  'gcp-executable': (jwt, env) =>
    JSON.stringify({
      version: 1,
      success: true,
      // The library compares it with the one it asked for.
      token_type: env['GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE'] || 'urn:ietf:params:oauth:token-type:id_token',
      id_token: jwt,
      expiration_time: Math.floor(needExpiry(jwt).getTime() / 1000),
    }),

  // kubernetes.io client-authentication.v1: the version must be the one that kubectl asked for
  'k8s-exec': (jwt, env) =>
    JSON.stringify({
      apiVersion: execVersion(env['KUBERNETES_EXEC_INFO']),
      kind: 'ExecCredential',
      status: {
        token: jwt,
        expirationTimestamp: needExpiry(jwt)
          .toISOString()
          .replace(/\.\d+Z$/, 'Z'),
      },
    }),
}

function roleIn(env: Environment): string {
  const role = env['AWS_ROLE_ARN'] ?? ''
  if (role === '') throw new UsageError('aws-credential-process needs the role: set AWS_ROLE_ARN')
  if (roleProblem(role) !== undefined)
    throw new UsageError('AWS_ROLE_ARN is not the ARN of a role, such as arn:aws:iam::123456789012:role/name')
  return role
}

const execVersion = (info: string | undefined): string =>
  /"apiVersion"\s*:\s*"(client\.authentication\.k8s\.io\/v1(?:beta1)?)"/.exec(info ?? '')?.[1] ??
  'client.authentication.k8s.io/v1'

function needExpiry(jwt: string): Date {
  const found = expiry(jwt)
  if (found === undefined) throw new Failure('the token does not say when it expires')
  return found
}

function expiry(jwt: string): Date | undefined {
  const { exp } = claimsOf(jwt)
  return exp === undefined ? undefined : new Date(exp * 1000)
}

function claimsOf(jwt: string): JWTPayload {
  try {
    return decodeJwt(jwt)
  } catch (caught) {
    throw new Failure('the answer has the shape of a token, but its claims cannot be read', { cause: caught })
  }
}
