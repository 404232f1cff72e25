// dotfly strip: the filter alone, in a process of its own as the proxy is: this one never sees the macaroon.

import { spawn } from 'node:child_process'
import { closeSync } from 'node:fs'
import { Failure, UsageError } from '../errors.ts'
import { loadMacaroon } from '../init/credential.ts'
import { LaunchError } from '../init/error.ts'
import { executable } from '../os/self.ts'
import { type Grammar, readArguments } from './arguments.ts'
import type { Environment } from './commands.ts'

const HELP = `Usage: dotfly strip --macaroon-file FILE < IN > OUT

Copies standard input to standard output with every run of the macaroon blanked,
in whatever spelling, as the proxy does with answers: byte for byte as long.
On standard error a line for each run: its offset, its length and the spelling.

    --macaroon-file FILE   what to look for           DOTFLY_MACAROON_FILE
    -h, --help             this text

Exit codes: 0 done, whatever was found, 1 failed, 2 wrong usage.

Example: does a log hold this Machine's macaroon?

    dotfly strip --macaroon-file /run/macaroon < app.log > /dev/null
`

export const grammar: Grammar = {
  name: 'strip',
  help: HELP,
  declare: (command) => command.option('--macaroon-file <file>'),
}

export async function strip(words: readonly string[], env: Environment): Promise<number> {
  const file = readArguments(grammar, words, (command) => {
    const word = command.opts<{ macaroonFile?: string }>().macaroonFile ?? env['DOTFLY_MACAROON_FILE'] ?? ''
    if (word === '') throw new UsageError('no macaroon: name its file with --macaroon-file')
    return word
  })
  return file === undefined ? 0 : filter(file)
}

async function filter(file: string): Promise<number> {
  const page = load(file)
  const self = executable('filter')
  const child = spawn(self.file, self.args(['--disable-warning=ExperimentalWarning'], []), {
    env: {},
    stdio: ['inherit', 'inherit', 'inherit', page],
  })
  const ended = await new Promise<number | null>((done, fail) => {
    child.on('error', (caught) => fail(new Failure('the filter cannot be started', { cause: caught })))
    child.on('close', done)
  })
  closeSync(page)
  return ended === 0 ? 0 : 1
}

function load(file: string): number {
  try {
    return loadMacaroon({ file }).fd
  } catch (caught) {
    if (caught instanceof LaunchError) throw new Failure(caught.message, { cause: caught })
    throw caught
  }
}
