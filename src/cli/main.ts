// The command line: finds the command, loads it and nothing else, and turns how it ended into an exit code.

import { Failure, UsageError } from '../errors.ts'
import { COMMANDS, type Environment, HELP } from './commands.ts'
import { guardOutput } from './output.ts'
import { shown } from './printable.ts'

export async function main(argv: readonly string[], env: Environment): Promise<number> {
  // To make the streams takes 2 ms. Init writes to neither but what readArguments explains, its log has a descriptor; and
  // the proxy does when its process is on its way.
  if (argv[0] !== 'init' && argv[0] !== 'proxy') guardOutput()
  try {
    return await dispatch(argv, env)
  } catch (caught) {
    if (!(caught instanceof UsageError || caught instanceof Failure)) throw caught
    guardOutput()
    process.stderr.write(`dotfly: ${caught.message}\n`)
    return caught instanceof UsageError ? 2 : 1
  }
}

async function dispatch(argv: readonly string[], env: Environment): Promise<number> {
  const [first = '--help', ...rest] = argv
  if (first === '--version' || first === '-V') {
    const { version } = await import('./version.ts')
    return print(`${version()}\n`)
  }
  const help = first === 'help' || first === '--help' || first === '-h'
  const [name, words] = help ? [rest[0], ['--help']] : [first, rest]
  if (name === undefined || (help && (name === 'help' || name.startsWith('-')))) {
    print(HELP)
    return argv.length === 0 ? 2 : 0
  }
  const load = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined
  if (load === undefined) throw await unknown(name)
  refuseCredentials(env)
  const { run } = await load()
  return run(words, env)
}

async function unknown(word: string): Promise<UsageError> {
  const { Command, CommanderError } = await import('commander')
  const program = new Command().exitOverride().configureOutput({ writeErr: () => undefined })
  for (const name of [...Object.keys(COMMANDS), 'help']) program.command(name)
  let guess
  try {
    // An option among the commands is not one of theirs: `dotfly --verison`.
    program.option('--version').parse([word], { from: 'user' })
  } catch (caught) {
    if (!(caught instanceof CommanderError)) throw caught
    guess = /Did you mean (?:one of )?([a-z-]+)/.exec(caught.message)?.[1]
    if (word === 'version') guess = '--version'
    if (word === '-v') guess = '-V or --version'
  }
  const what = word.startsWith('-') ? 'option' : 'command'
  if (guess !== undefined)
    return new UsageError(`unknown ${what} ${shown(word)}, did you mean ${guess}: see dotfly --help`)
  return new UsageError(
    what === 'option'
      ? `unknown option ${shown(word)}: options come after a command, see dotfly --help`
      : `unknown command ${shown(word)}: use one of ${Object.keys(COMMANDS).join(', ')}, or see dotfly --help`,
  )
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
