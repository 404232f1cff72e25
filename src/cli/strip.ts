// dotfly strip: the filter alone, in a process of its own as the proxy is: this one never sees the macaroon.

import { closeSync } from 'node:fs'
import { Failure, UsageError } from '../errors.ts'
import { loadMacaroon } from '../init/credential.ts'
import { LaunchError } from '../init/error.ts'
import { readLines } from '../init/lines.ts'
import { executable } from '../os/self.ts'
import { listen, send } from '../os/signals.ts'
import { pipe, spawn } from '../os/spawn.ts'
import { Children, exitCode } from '../os/wait.ts'
import { type Grammar, readArguments } from './arguments.ts'
import type { Environment } from './commands.ts'

const HELP = `Usage: dotfly strip --macaroon-file FILE < IN > OUT

Copies standard input to standard output with every run of the macaroon blanked,
in whatever spelling, as the proxy does with answers: byte for byte as long.
On standard error a line for each run: its offset and length in bytes, and the
spelling.

    --macaroon-file FILE   what to look for           DOTFLY_MACAROON_FILE
    --json                 those lines as JSON: {"offset", "length", "spelling"}
    -h, --help             this text

Exit codes: 0 done, whatever was found, 1 failed, 2 wrong usage.

Example: does a log hold this Machine's macaroon?

    dotfly strip --macaroon-file /run/macaroon < app.log > /dev/null
`

export const grammar: Grammar = {
  name: 'strip',
  help: HELP,
  declare: (command) => command.option('--macaroon-file <file>').option('--json'),
}

export async function strip(words: readonly string[], env: Environment): Promise<number> {
  const asked = await readArguments(grammar, words, (command) => {
    const typed = command.opts<{ macaroonFile?: string; json?: true }>()
    const word = typed.macaroonFile ?? env['DOTFLY_MACAROON_FILE'] ?? ''
    if (word === '') throw new UsageError('no macaroon: name its file with --macaroon-file')
    return { file: word, json: typed.json === true }
  })
  return asked === undefined ? 0 : filter(asked.file, asked.json)
}

async function filter(file: string, json: boolean): Promise<number> {
  const page = load(file)
  const self = executable('filter')
  const children = new Children()
  const said = json ? pipe() : undefined
  const started = spawn({
    file: self.file,
    argv: ['dotfly', ...self.args(['--disable-warning=ExperimentalWarning'], [])],
    env: [],
    files: [0, 1, said?.write ?? 2, page],
  })
  closeSync(page)
  if (said !== undefined) closeSync(said.write)
  if ('refused' in started) throw new Failure(`the filter cannot be started (${started.refused})`)
  // It has a session of its own, which no Ctrl-C of the terminal reaches.
  listen([HUP, INT, TERM], (signal) => send(started.pid, signal))
  const lines = said === undefined ? undefined : readLines(said.read, tellInJson, () => undefined)
  const ending = await children.ending(started.pid)
  children.close()
  lines?.finish()
  await lines?.ended
  return 'signal' in ending ? exitCode(ending) : ending.code === 0 ? 0 : 1
}

const HUP = 1
const INT = 2
const TERM = 15

/** The filter says `offset 12, 40 bytes: hex of …`; what else it might say passes as it is. */
function tellInJson(line: string): true {
  const [, offset, length, spelling] = /^offset ([0-9]+), ([0-9]+) bytes: (.*)$/.exec(line) ?? []
  const run = { offset: Number(offset), length: Number(length), spelling }
  process.stderr.write(`${offset === undefined ? line : JSON.stringify(run)}\n`)
  return true
}

function load(file: string): number {
  try {
    return loadMacaroon({ file }).fd
  } catch (caught) {
    if (caught instanceof LaunchError) throw new Failure(caught.message, { cause: caught })
    throw caught
  }
}
