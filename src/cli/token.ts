// dotfly token: one ID token, from the socket to standard output.

import type { JWTPayload } from 'jose'
import { decodeJwt } from 'jose/jwt/decode'
import { Failure, UsageError } from '../errors.ts'
import { IdentityError, requestToken } from '../identity/client.ts'
import { readArguments } from './arguments.ts'
import type { Environment } from './main.ts'
import { printable, printableJson, shown } from './printable.ts'
import { socketPath, socketWords } from './sockets.ts'

const HELP = `Usage: dotfly token [OPTION…]

Asks the socket for an ID token of this Machine, and prints it.

    --aud AUDIENCE      whom the token is for, such as sts.amazonaws.com;
                        default: flyd's own              DOTFLY_AUD
    --claims            print what the token says, in JSON; the signature is
                        not checked, that is the relying party's work
    --json              print {"token", "claims", "expires_at"}
    --socket PATH       default /.fly/api                DOTFLY_SOCKET
    --timeout SECONDS   for the whole request, default 10
                                                         DOTFLY_TIMEOUT
    -h, --help          this text

The token is followed by a newline, on a terminal or not; $(…) in a shell takes
it away again.

Exit codes: 0 printed, 1 no token, 2 wrong usage, 128+N ended by signal N.

Example:

    dotfly token --aud sts.amazonaws.com
`

interface Words {
  aud?: string
  claims?: true
  json?: true
  socket?: string
  timeout?: string
}

interface Asked {
  socket: string
  audience?: string
  timeout: number
  form: 'token' | 'claims' | 'json'
}

export async function token(words: readonly string[], env: Environment): Promise<number> {
  const asked = readArguments(
    'token',
    HELP,
    words,
    (command) =>
      command
        .option('--aud <audience>')
        .option('--claims')
        .option('--json')
        .option('--socket <path>')
        .option('--timeout <seconds>'),
    (command) => judge(command.opts<Words>(), env),
  )
  if (asked === undefined) return 0
  const { form, ...request } = asked
  let jwt: string
  try {
    jwt = await requestToken(request)
  } catch (caught) {
    if (caught instanceof IdentityError) throw new Failure(printable(caught.message), { cause: caught })
    throw caught
  }
  process.stdout.write(`${form === 'token' ? jwt : inJson(form, jwt)}\n`)
  return 0
}

function judge(typed: Words, env: Environment): Asked {
  if (typed.claims === true && typed.json === true)
    throw new UsageError('--claims and --json exclude each other: --json has the claims in it')
  const audience = typed.aud ?? env['DOTFLY_AUD'] ?? ''
  if (typed.aud === '') throw new UsageError('--aud is empty: leave it out for the default audience')
  // The variable may hold all that --socket of the proxy takes; the first path in it is meant.
  const [first = ''] = (typed.socket ?? socketWords(env)[0] ?? '').split(',')
  return {
    socket: socketPath(first),
    ...(audience === '' ? {} : { audience }),
    timeout: seconds(typed.timeout ?? (env['DOTFLY_TIMEOUT'] || '10')),
    form: typed.json === true ? 'json' : typed.claims === true ? 'claims' : 'token',
  }
}

/** Milliseconds. Longer than ten minutes, the token would be older than it may become. */
function seconds(word: string): number {
  const value = /^[0-9]{1,3}(\.[0-9]{1,3})?$/.test(word) ? Number(word) : 0
  if (value <= 0 || value > 600) throw new UsageError(`time-out ${shown(word)} is not a number of seconds up to 600`)
  return value * 1000
}

function inJson(form: 'claims' | 'json', jwt: string): string {
  const claims = claimsOf(jwt)
  if (form === 'claims') return printableJson(claims)
  const expires = claims.exp === undefined ? null : new Date(claims.exp * 1000).toISOString()
  return printableJson({ token: jwt, claims, expires_at: expires })
}

function claimsOf(jwt: string): JWTPayload {
  try {
    return decodeJwt(jwt)
  } catch (caught) {
    throw new Failure('the answer has the shape of a token, but its claims cannot be read', { cause: caught })
  }
}
