// dotfly keep: token files without init, and the text for all that their keeper says.

import { Failure } from '../errors.ts'
import type { Trouble } from '../identity/client.ts'
import type { IdentityEvent, Notice, NoToken, Problem } from '../identity/event.ts'
import type { FileTrouble } from '../identity/file.ts'
import { type IdentityOptions, identityOptions, type IdentityWords } from '../identity/options.ts'
import { type Grammar, readArguments } from './arguments.ts'
import { LEVELS, type Level } from '../init/log.ts'
import type { Line } from './describe.ts'
import type { Environment } from './commands.ts'
import { printable } from './printable.ts'
import { logLevel } from './settings.ts'
import { askedToEnd } from './signals.ts'
import { socketPath, socketWords } from './sockets.ts'

const HELP = `Usage: dotfly keep [OPTION…]

Keeps token files fresh through the socket, as dotfly init does for its command:
replaced whole, in time, and taken away before a token expires in them.

    --token-file PATH,aud=AUDIENCE[,SETTING…]
                      a file to keep, may be given several times
                                                         DOTFLY_TOKEN_FILE
    --token-dir DIR   where the files of clouds go; default /.fly
                                                         DOTFLY_TOKEN_DIR
    --wait-token TIME[,fail|continue]
                      how long to try for the first tokens, such as 10s, 500ms or
                      2m, and what to do then; default 10s,fail
                                                         DOTFLY_WAIT_TOKEN
    --once            end when all are written: for ExecStartPre=
    --aws-principal-tags
                      ask for AWS session tags    DOTFLY_AWS_PRINCIPAL_TAGS=1
    --socket PATH     the socket to ask; default /.fly/api
                                                         DOTFLY_SOCKET
    --log-level LEVEL
                      debug, info, warn, error or silent;
                      default info                       DOTFLY_LOG_LEVEL
    -h, --help        this text

SETTING is one of

    uid=N, gid=N    owner and group; default dotfly's, or COMMAND's in dotfly init
    mode=0600       file mode (default)
    format=raw      the token alone (default), or json: {"token", "audience",
                    "expires_at"}

Several files in DOTFLY_TOKEN_FILE are set apart by a semicolon. Variables in the
environment ask for more files, each with the audience of its cloud:

    AWS_ROLE_ARN                                DIR/oidc_token
    GOOGLE_WORKLOAD_IDENTITY_PROVIDER           DIR/gcp_token, gcp_credentials.json
    AZURE_CLIENT_ID and AZURE_TENANT_ID         DIR/azure_token
    ANTHROPIC_FEDERATION_RULE_ID and
    ANTHROPIC_ORGANIZATION_ID                   DIR/anthropic_token

A token is replaced after about two thirds of its life, Azure's after a third. What
happens is told on standard output, in JSON, or plainly on a terminal.

Exit codes: 0 ended as asked, 1 failed, 2 wrong usage, 128+N ended by signal N.

Example: a token for Vault that user 1000 may read

    dotfly keep --token-file /run/app/token,aud=https://vault.example,uid=1000
`

export const grammar: Grammar = {
  name: 'keep',
  help: HELP,
  declare: (command) =>
    command
      .several('--token-file <file>')
      .option('--token-dir <dir>')
      .option('--wait-token <time>')
      .option('--once')
      .option('--aws-principal-tags')
      .option('--socket <path>')
      .choice('--log-level <level>', LEVELS),
}

interface KeepWords extends IdentityWords {
  once?: true
  socket?: string
  logLevel?: string
}

export async function keep(words: readonly string[], env: Environment): Promise<number> {
  const asked = await readArguments(grammar, words, (command) => {
    const typed = command.opts<KeepWords>()
    const [socket = ''] = (typed.socket ?? socketWords(env)[0] ?? '').split(',')
    return {
      options: identityOptions(typed, env, socketPath(socket)),
      once: typed.once === true,
      level: logLevel(typed.logLevel === undefined ? {} : { logLevel: typed.logLevel }, env),
    }
  })
  return asked === undefined ? 0 : run(asked.options, asked.once, asked.level, env)
}

async function run(options: IdentityOptions, once: boolean, level: Level, env: Environment): Promise<number> {
  // Only now: init takes its words for events from here, and neither HTTP nor a logger of its own.
  const [{ tokenKeeper }, { openLog }, { serviceOf }] = await Promise.all([
    import('../identity/keeper.ts'),
    import('./log.ts'),
    import('../init/service.ts'),
  ])
  const log = openLog(process.stdout.isTTY ? 'human' : 'json', level, [])
  const end = askedToEnd()
  const keeper = tokenKeeper(env, options, (event) => log.line(describeIdentity(event)))
  try {
    const first = keeper.start()
    await Promise.race([first, end.signal])
    // After start(), for it says what is wrong with a variable that was meant to ask for one.
    if (keeper.files.length === 0)
      throw new Failure(
        'there is no file to keep: name one with --token-file, or set AWS_ROLE_ARN, GOOGLE_WORKLOAD_IDENTITY_PROVIDER, AZURE_CLIENT_ID and AZURE_TENANT_ID, or ANTHROPIC_FEDERATION_RULE_ID and ANTHROPIC_ORGANIZATION_ID',
      )
    if (once || end.asked) return 0
    const service = serviceOf(env)
    service.ready(`keeping ${keeper.files.map(({ path }) => printable(path)).join(', ')}`)
    service.watch(() => Promise.resolve(true)) // this process does the work: that its timers run is what matters
    await end.signal
    service.stopping('files stay as they are')
    return 0
  } finally {
    await keeper.stop()
    end.ignore()
    await log.close()
  }
}

/** What to say of an event, and how loud. */
export function describeIdentity(event: IdentityEvent): Line {
  const { kind } = event
  switch (kind) {
    case 'problem': {
      const { code, cloud, variable } = event.problem
      return line('error', { event: kind, code, cloud, variable }, `${printable(variable)} ${PROBLEM[code]}`)
    }
    case 'notice': {
      const { code, cloud, variable } = event.notice
      return line('warn', { event: kind, code, cloud, variable }, `${printable(variable)} ${NOTICE[code]}`)
    }
    case 'written': {
      const { path, audience, life, skew, ms } = event
      const off =
        Math.abs(skew) > 5000 ? `, this clock is ${seconds(Math.abs(skew))} ${skew > 0 ? 'ahead' : 'behind'}` : ''
      return line(
        off === '' ? 'info' : 'warn',
        {
          ...safe({ event: kind, path, audience }),
          life: Math.round(life),
          skew: Math.round(skew),
          ms: Math.round(ms),
        },
        `${printable(path)} is fresh for ${seconds(life)}${off}`,
      )
    }
    case 'refused': {
      const { path, audience, code, status, again } = event
      return line(
        'warn',
        { ...safe({ event: kind, path, audience }), code, status, again: Math.round(again) },
        `no new token for ${printable(path)}: ${NO_TOKEN[code]}, again in ${seconds(again)}`,
      )
    }
    case 'unwritten': {
      const { path, code, errno, again } = event
      return line(
        'error',
        { ...safe({ event: kind, path }), code, errno },
        `${printable(path)} cannot be written: ${FILE[code]}${errno === '' ? '' : ` (${errno})`}${again > 0 ? `, again in ${seconds(again)}` : ''}`,
      )
    }
    case 'removed':
      return line(
        'error',
        safe({ event: kind, path: event.path }),
        `${printable(event.path)} is removed: its token expires, and no new one came`,
      )
    case 'stuck': {
      const { path, code, errno } = event
      return line(
        'error',
        { ...safe({ event: kind, path }), code, errno },
        `${printable(path)} holds a token that expires, and cannot be removed: ${FILE[code]}`,
      )
    }
    case 'woken':
      return line(
        'info',
        { event: kind, how: event.how, ms: Math.round(event.ms) },
        event.how === 'suspended'
          ? `the Machine was suspended for ${seconds(event.ms)}: asking for new tokens`
          : `the clock was set by ${seconds(event.ms)}: asking for new tokens`,
      )
    case 'ready':
      return line(
        'info',
        { event: kind, files: event.files, ms: Math.round(event.ms) },
        `${event.files} ${event.files === 1 ? 'file is' : 'files are'} ready after ${seconds(event.ms)}`,
      )
    case 'late':
      return line(
        'error',
        { event: kind, missing: event.missing.map(printable) },
        `going on without ${event.missing.map(printable).join(', ') || 'what cannot be set up'}`,
      )
    case 'fault':
      return line(
        'error',
        { event: kind },
        'a token file could not be kept for a reason that is ours: please report it',
      )
    default:
      return kind satisfies never
  }
}

const line = (level: Line['level'], fields: Line['fields'], text: string): Line => ({
  level,
  fields,
  message: `[token files] ${text}`,
})

/** What was given to us by a command line, made safe to look at. */
const safe = (fields: Record<string, string | undefined>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(fields).flatMap(([name, value]) => (value === undefined ? [] : [[name, printable(value)]])),
  )

const seconds = (ms: number): string => (Math.abs(ms) < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`)

/** Each goes on after the name of a variable. */
export const PROBLEM: Record<Problem['code'], string> = {
  ROLE_ARN_BLANKS: 'has a space or a newline around its ARN: take it away',
  ROLE_ARN_MALFORMED: 'is not the ARN of a role, such as arn:aws:iam::123456789012:role/name',
  PROVIDER_MALFORMED: 'is not such as projects/123/locations/global/workloadIdentityPools/POOL/providers/PROVIDER',
  SERVICE_ACCOUNT_MALFORMED: 'is not the e-mail address of a service account',
  CLIENT_ID_MALFORMED: 'is not the id of an application, a UUID',
  TENANT_ID_MALFORMED: 'is not the id or the domain of a tenant',
  ORGANIZATION_MISSING: 'is not set, and the rule in ANTHROPIC_FEDERATION_RULE_ID is no use without it',
  AUDIENCE_INVALID: 'is not an audience: plain text of at most 512 bytes',
  PATH_TWICE: 'is to hold two tokens: give each its own file',
}

export const NOTICE: Record<Notice['code'], string> = {
  STATIC_KEYS_WIN: 'is set, and SDKs take it before any token: unset it to use the token',
  VARIABLE_KEPT: 'is set already and stays as it is: unset it to have it set up',
  PROFILE_MAY_WIN: 'is set, and SDKs that find that profile take it before any token: unset it to use the token',
  SESSION_NAME_INVALID: 'is no session name that STS takes: 2 to 64 of letters, digits and _+=,.@-',
}

export const NO_TOKEN: Record<NoToken, string> = {
  NO_SOCKET: 'there is no socket',
  SOCKET_FORBIDDEN: 'this user may not use the socket',
  SOCKET_PATH_INVALID: "the socket's path is too long",
  NOT_A_SOCKET: 'what is there is not a socket',
  NOBODY_LISTENS: 'nobody listens at the socket',
  CONNECTION_LOST: 'the connection was lost',
  TIMEOUT: 'there was no answer in time',
  CANCELLED: 'it was given up',
  AUDIENCE_REFUSED: 'the socket does not allow this audience',
  NOT_ALLOWED: 'the socket or flyd does not allow it',
  NOT_SERVED: 'the socket serves no tokens',
  RATE_LIMITED: 'too many were asked for',
  REQUEST_REFUSED: 'flyd refuses the request',
  FLYD_DOWN: 'flyd is unreachable',
  FLYD_SLOW: 'flyd did not answer in time',
  UNEXPECTED_ANSWER: 'the answer is not one to this question',
  NOT_A_TOKEN: 'the answer is not a token',
  TIMELESS_TOKEN: 'the token does not say how long it is good for',
} satisfies Record<Trouble | NoToken, string>

export const FILE: Record<FileTrouble, string> = {
  DIRECTORY_MISSING: 'there is no such directory',
  DIRECTORY_IS_LINK: 'its directory is a symbolic link: name the real one',
  DIRECTORY_OPEN_TO_ALL: 'everybody may write to its directory or to one above: chmod o-w it',
  DIRECTORY_OF_OTHERS: 'its directory or one above belongs to another user: chown it, or choose another',
  IS_DIRECTORY: 'there is a directory of that name',
  DISK_FULL: 'the disk is full',
  READ_ONLY: 'the file system is read-only: choose a directory on a tmpfs with --token-dir',
  NOT_PERMITTED: 'this user may not write there',
  SYSTEM: 'the system refuses',
}
