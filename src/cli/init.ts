// dotfly init: the Machine's first process.

import { constants } from 'node:os'
import { Failure, UsageError } from '../errors.ts'
import type { TokenFile } from '../identity/cloud.ts'
import type { IdentityWords } from '../identity/options.ts'
import { LaunchError } from '../init/error.ts'
import type { Boot, InitOptions, Prepared } from '../init/init.ts'
import type { Log } from '../init/log.ts'
import type { SocketOptions } from '../init/options.ts'
import type { Event } from '../proxy/event.ts'
import { STEP_NAMES, STEPS, stepsWithout } from '../init/steps.ts'
import { parseMetricsAddress } from '../metrics/address.ts'
import { signalNumber } from '../os/signals.ts'
import { type Grammar, readArguments } from './arguments.ts'
import type { Environment } from './commands.ts'
import { shown } from './printable.ts'
import { declareProxy, logLevel, proxyOptions, type ProxyWords } from './settings.ts'

/** In lines that fit beside the names. */
function folded(text: string): string {
  return text.replace(/(.{1,58})(?: |$)/g, `$1\n${' '.repeat(22)}`).trimEnd()
}

const HELP = `Usage: dotfly init [OPTION…] --macaroon-file FILE -- COMMAND [ARGUMENT…]

Is a Machine's init: serves the socket as dotfly proxy does, runs COMMAND, forwards
signals to it, reaps every orphan, and ends with COMMAND's exit code.

    --user USER[:GROUP]       who runs COMMAND, by name or number; default: the
                              user that dotfly has           DOTFLY_USER
    --kill-signal SIGNAL      what asks COMMAND to end; default SIGINT
                                                         DOTFLY_KILL_SIGNAL
    --kill-timeout SECONDS    until it is made to: first TERM, then KILL; at most
                              300, default 5             DOTFLY_KILL_TIMEOUT
    --metrics ADDRESS         as in dotfly proxy --help, by a process of its own
                                                         DOTFLY_METRICS
    --on-exit HOW             exit, poweroff or reboot; default: exit in a
                              container, otherwise as the kernel's command line
                              has it                     DOTFLY_ON_EXIT
    --mount                   mount /proc, /sys, /dev, /run and so on, bring up
                              loopback                   DOTFLY_MOUNT=1
    --config FILE             what to run and where, in the form of run.json; read
                              and removed                DOTFLY_CONFIG
    --token-file PATH,aud=AUDIENCE[,SETTING…]
                              a token file that COMMAND finds, kept fresh, may be
                              given several times; SETTING is as in dotfly keep
                              --help                     DOTFLY_TOKEN_FILE
    --token-dir DIR           where those of AWS, GCP, Azure and Anthropic go, when
                              COMMAND's environment asks for them as in dotfly keep
                              --help; default /.fly      DOTFLY_TOKEN_DIR
    --wait-token TIME[,fail|continue]
                              how long COMMAND waits for its first tokens, such as
                              10s, 500ms or 2m, and then is not started, or is;
                              default 10s,fail           DOTFLY_WAIT_TOKEN
    --aws-principal-tags      ask for AWS session tags
                                              DOTFLY_AWS_PRINCIPAL_TAGS=1
    --macaroon-unlink         overwrite and remove the macaroon's file once read
                                                  DOTFLY_MACAROON_UNLINK=1
    --canary                  first prove that nothing leaks, as dotfly canary
                              --quick does; a leak ends it  DOTFLY_CANARY=1
    --no-harden NAME,…|all    leave out defences (below)  DOTFLY_NO_HARDEN
    -h, --help                this text

and --socket, --flyd, --flyd-ca, --macaroon-file, --macaroon-fd, --app, --machine
and --log-level as in dotfly proxy --help. The macaroon's FILE may be a character
device that the host writes one line to. COMMAND gets its environment without
DOTFLY_ variables. TERM, INT, HUP, QUIT, USR1, USR2, WINCH and real-time signals are
passed on; the one named by --kill-signal, and TERM, also start the clock of
--kill-timeout. On a kernel's command line, which has a -- of its own, COMMAND
comes after ---.

NAME is one of

${STEP_NAMES.map((name) => `    ${name.padEnd(16)}  ${folded(STEPS[name])}`).join('\n')}

Exit codes: 0 to 255 as COMMAND's, 128+N when signal N ended it, 127 not found,
126 not to be run, 1 failed, 2 wrong usage.

Example:

    dotfly init --macaroon-file /run/macaroon --user app -- node server.js
`

export const grammar: Grammar = {
  name: 'init',
  help: HELP,
  excess: 'too many words before --: give the command after --',
  declare: (command) =>
    declareProxy(command)
      .option('--macaroon-unlink')
      .option('--user <user>')
      .choice('--kill-signal <signal>', Object.keys(constants.signals))
      .option('--kill-timeout <seconds>')
      .choice('--on-exit <how>', ON_EXIT)
      .option('--metrics <address>')
      .option('--mount')
      .option('--config <file>')
      .several('--token-file <file>')
      .option('--token-dir <dir>')
      .option('--wait-token <time>')
      .option('--aws-principal-tags')
      .option('--canary')
      .choice('--no-harden <names>', [...STEP_NAMES, 'all']),
}

const ON_EXIT = ['exit', 'poweroff', 'reboot'] as const

interface InitWords extends ProxyWords, IdentityWords {
  user?: string
  killSignal?: string
  killTimeout?: string
  onExit?: string
  metrics?: string
  mount?: true
  config?: string
  macaroonUnlink?: true
  noHarden?: string
  canary?: true
}

export async function init(words: readonly string[], env: Environment): Promise<number> {
  // The kernel hands nothing to init from the second -- of its command line on, so there it is one dash more.
  const dashes = words.findIndex((word) => word === '--' || word === '---')
  const [before, command] = dashes < 0 ? [words, []] : [words.slice(0, dashes), words.slice(dashes + 1)]
  const asked = await readArguments(grammar, before, (command) => command.opts<InitWords>())
  if (asked === undefined) return 0
  const settings = initSettings(asked, command, env)
  // A mistake in what was typed ends it here, before anything is started.
  if (mentionsTokens(asked, env)) (await import('../identity/options.ts')).identityOptions(asked, env, '')
  // Only now: a mistyped option needs neither libc nor a child process.
  const [{ init }, { openLog }] = await Promise.all([import('../init/init.ts'), import('../init/log.ts')])
  const level = logLevel(asked, env)
  const log = openLog(level)
  const proxy = { ...settings.proxy, tellsAll: level === 'debug' || settings.metrics !== undefined }
  if (asked.canary === true || env['DOTFLY_CANARY'] === '1') await proveNoLeak(log)
  const prepare = (boot: Boot): Promise<Prepared> => tokens(asked, settings.proxy.sockets, boot, log)
  return init({ ...settings, proxy, prepare }, log, (event) => {
    if (event.kind === 'listening')
      log.line('info', `[fly api proxy] listening at ${settings.proxy.sockets[event.socket]?.path ?? ''}`)
    else {
      void tell(event, settings.proxy.sockets, log)
    }
  })
}

/** With a credential and a proxy of its own, before the real one serves anybody. */
async function proveNoLeak(log: Log): Promise<void> {
  const [{ runCanary }, { randomBytes }] = await Promise.all([import('../canary/canary.ts'), import('node:crypto')])
  const { leaks, rows } = await runCanary({ seed: randomBytes(6).toString('hex'), quick: true })
  const [first] = leaks
  if (first !== undefined) {
    throw new Failure(`the canary found a leak in ${first.position}: nothing is served, see dotfly canary`)
  }
  const tried = rows.reduce((sum, row) => sum + row.tried, 0)
  log.line('info', `Canary: ${tried} hostile answers, nothing leaked`)
}

/** What the proxy says, in the words of dotfly proxy; an exchange that went well is worth a line only to who asks. */
async function tell(event: Event, sockets: readonly SocketOptions[], log: Log): Promise<void> {
  const { describe } = await import('./describe.ts')
  const { level, message } = describe(event, sockets)
  log.line(event.kind === 'exchange' && level === 'info' ? 'debug' : level, message)
}

/** Any of these asks for a token file; without them nothing that keeps one is loaded. */
export const ASKING = [
  'DOTFLY_TOKEN_FILE',
  'AWS_ROLE_ARN',
  'GOOGLE_WORKLOAD_IDENTITY_PROVIDER',
  'AZURE_CLIENT_ID',
  'ANTHROPIC_FEDERATION_RULE_ID',
] as const

const mentionsTokens = (words: IdentityWords, env: Environment): boolean =>
  [words.tokenFile, words.tokenDir, words.waitToken, words.awsPrincipalTags].some((word) => word !== undefined) ||
  ['FILE', 'DIR'].some((name) => env[`DOTFLY_TOKEN_${name}`] !== undefined) ||
  env['DOTFLY_WAIT_TOKEN'] !== undefined

/** Token files are there before the entrypoint starts, and its variables say where. What it asks for is in its own
 * environment, which on a Machine is the configuration file's: so that one is read for options too. */
async function tokens(
  words: IdentityWords,
  sockets: readonly SocketOptions[],
  { env, owner, children, outside, unwanted }: Boot,
  log: Log,
): Promise<Prepared> {
  if (words.tokenFile === undefined && ASKING.every((name) => (env[name] ?? '') === '')) return { variables: {} }
  const [{ identityOptions }, { arrange }, { keepTokens }, { describeIdentity }] = await Promise.all([
    import('../identity/options.ts'),
    import('../identity/arrange.ts'),
    import('../init/tokens.ts'),
    import('./keep.ts'),
  ])
  const report = (event: Parameters<typeof describeIdentity>[0]): void => {
    const { level, message } = describeIdentity(event)
    log.line(level, message)
  }
  let options
  try {
    options = identityOptions(words, env, '', owner)
  } catch (error) {
    // Not of the command line: that was looked at before.
    throw error instanceof UsageError ? new Failure(error.message, { cause: error }) : error
  }
  const plan = arrange(env, options)
  const { env: variables, files, settings, problems, notices } = plan
  if (files.length === 0 && settings.length === 0 && problems.length === 0) {
    for (const notice of notices) report({ kind: 'notice', notice })
    return { variables }
  }
  const companion = await keepTokens(
    { plan, socket: socketFor(files, sockets), wait: options.wait },
    {
      children,
      outside,
      signal: unwanted(),
      report,
      restarting: (why, pause) =>
        log.line('warn', `[token files] their keeper ${why}, starting it again in ${Math.round(pause)} ms`),
    },
  )
  return { variables, companion }
}

/** The first that gives all of them to us; where there is none, the first, which says which audience it refuses. */
function socketFor(files: readonly TokenFile[], sockets: readonly SocketOptions[]): string {
  const us = process.geteuid?.() ?? 0
  const serves = ({ audiences, uid }: SocketOptions): boolean =>
    (us === 0 || uid === undefined || uid === us) &&
    (audiences.length === 0 || files.every(({ audience }) => audience !== undefined && audiences.includes(audience)))
  return (sockets.find(serves) ?? sockets[0])?.path ?? ''
}

/** Words to typed options, or a UsageError. */
function initSettings(words: InitWords, command: readonly string[], env: Environment): InitOptions {
  const word = (typed: string | undefined, variable: string): string | undefined =>
    typed ?? (env[variable] === '' ? undefined : env[variable])
  const flag = (typed: true | undefined, variable: string): boolean => typed ?? word(undefined, variable) !== undefined
  const proxy = proxyOptions(words, env)
  if ('file' in proxy.macaroon && flag(words.macaroonUnlink, 'DOTFLY_MACAROON_UNLINK')) proxy.macaroon.unlink = true
  const killWord = word(words.killSignal, 'DOTFLY_KILL_SIGNAL') ?? 'SIGINT'
  const killSignal = signalNumber(killWord)
  if (killSignal === undefined) throw new UsageError(`kill signal ${shown(killWord)} is not a signal, such as SIGTERM`)
  const timeout = word(words.killTimeout, 'DOTFLY_KILL_TIMEOUT') ?? '5'
  if (!/^[0-9]{1,3}(\.[0-9]{1,3})?$/.test(timeout) || Number(timeout) > 300) {
    throw new UsageError(`kill timeout ${shown(timeout)} is not a number of seconds, at most 300`)
  }
  const exitWord = word(words.onExit, 'DOTFLY_ON_EXIT')
  const onExit = ON_EXIT.find((name) => name === exitWord)
  if (exitWord !== undefined && onExit === undefined)
    throw new UsageError(`on exit ${shown(exitWord)} is not one of ${ON_EXIT.join(', ')}`)
  const user = word(words.user, 'DOTFLY_USER')
  const metrics = word(words.metrics, 'DOTFLY_METRICS')
  const config = word(words.config, 'DOTFLY_CONFIG')
  if (command.length === 0 && config === undefined)
    throw new UsageError('there is nothing to run: give a command after --')
  const without = word(words.noHarden, 'DOTFLY_NO_HARDEN')?.split(',') ?? []
  return {
    proxy,
    command,
    env,
    killSignal,
    killTimeout: Number(timeout) * 1000,
    mount: flag(words.mount, 'DOTFLY_MOUNT'),
    steps: steps(without),
    ...(user === undefined ? {} : { user }),
    ...(metrics === undefined ? {} : { metrics: parseMetricsAddress(metrics) }),
    ...(config === undefined ? {} : { config }),
    ...(onExit === undefined ? {} : { onExit }),
  }
}

function steps(without: readonly string[]): ReturnType<typeof stepsWithout> {
  try {
    return stepsWithout(without)
  } catch (caught) {
    if (caught instanceof LaunchError) throw new UsageError(caught.message, { cause: caught })
    throw caught
  }
}
