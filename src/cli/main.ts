// The command line: finds the command, loads it and nothing else, and turns how it ended into an exit code.

import { Failure, UsageError } from '../errors.ts'
import { version } from '../os/self.ts'
import { shown } from './printable.ts'

export type Environment = Readonly<Record<string, string | undefined>>

/** A command's own words and its environment in, its exit code out. */
export type Run = (words: readonly string[], env: Environment) => Promise<number>

// Each is loaded when asked for: the proxy must not carry an HTTP client, nor a token request the launcher.
const COMMANDS: Readonly<Record<string, () => Promise<Run>>> = {
  proxy: async () => (await import('./proxy.ts')).proxy,
  init: async () => (await import('./init.ts')).init,
  token: async () => (await import('./token.ts')).token,
  keep: async () => (await import('./keep.ts')).keep,
  doctor: async () => (await import('./doctor.ts')).doctor,
  mock: async () => (await import('./mock.ts')).mock,
  demo: async () => (await import('./demo.ts')).demo,
  strip: async () => (await import('./strip.ts')).strip,
  canary: async () => (await import('./canary.ts')).canary,
}

const HELP = `Usage: dotfly COMMAND [OPTION…]

    dotfly proxy    serve the socket, and never let the macaroon out
    dotfly init     be the Machine's init: supervise CMD and the proxy
    dotfly token    print an ID token for this Machine
    dotfly keep     keep token files fresh
    dotfly doctor   explain what is wrong with this Machine's set-up
    dotfly mock     run a mock flyd, issuer and clouds on this computer
    dotfly demo     mock and proxy together, ready for curl
    dotfly strip    blank the macaroon in a stream, and say where it was
    dotfly canary   prove that nothing leaks, against a hostile flyd

    -h, --help       this text; dotfly COMMAND --help explains a command
    --version        print the version

Exit codes: 0 done, 1 failed, 2 wrong usage, 128+N ended by signal N.

Example:

    dotfly token --aud sts.amazonaws.com
`

export async function main(argv: readonly string[], env: Environment): Promise<number> {
  // A reader that went away, as in `dotfly token | true`, is not our failure.
  process.stdout.on('error', tolerateClosed)
  process.stderr.on('error', tolerateClosed)
  try {
    return await dispatch(argv, env)
  } catch (caught) {
    if (!(caught instanceof UsageError || caught instanceof Failure)) throw caught
    process.stderr.write(`dotfly: ${caught.message}\n`)
    return caught instanceof UsageError ? 2 : 1
  }
}

async function dispatch(argv: readonly string[], env: Environment): Promise<number> {
  const [first = '--help', ...rest] = argv
  if (first === '--version') return print(`${version()}\n`)
  const help = first === 'help' || first === '--help' || first === '-h'
  const [name, words] = help ? [rest[0], ['--help']] : [first, rest]
  if (name === undefined) {
    print(HELP)
    return argv.length === 0 ? 2 : 0
  }
  const load = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined
  if (load === undefined) {
    throw new UsageError(
      `unknown command ${shown(name)}: use one of ${Object.keys(COMMANDS).join(', ')}, or see dotfly --help`,
    )
  }
  refuseCredentials(env)
  const run = await load()
  return run(words, env)
}

/** The environment of a process is readable to root, inherited by its children and printed by every crash reporter. */
function refuseCredentials(env: Environment): void {
  for (const [name, value] of Object.entries(env)) {
    if (value === '' || !/^DOTFLY_.*(MACAR|CREDENTIAL|SECRET)/i.test(name) || SOURCES.has(name)) continue
    throw new UsageError(
      `${shown(name)} is set, and a macaroon is never taken from the environment: unset it, put the macaroon in a file and name that with --macaroon-file`,
    )
  }
}

/** Variables that say where the macaroon is, not what it is. */
const SOURCES: ReadonlySet<string> = new Set(['DOTFLY_MACAROON_FILE', 'DOTFLY_MACAROON_FD', 'DOTFLY_MACAROON_UNLINK'])

function print(text: string): 0 {
  process.stdout.write(text)
  return 0
}

function tolerateClosed(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error
}
