// dotfly mock: a whole small Fly on loopback: flyd and issuer.

import { join, resolve } from 'node:path'
import type { MockFile } from '../mock/start.ts'
import { Failure, reason, UsageError } from '../errors.ts'
import { type Grammar, readArguments } from './arguments.ts'
import type { Environment } from './commands.ts'
import { printable } from './printable.ts'
import { askedToEnd } from './signals.ts'
import { patiently } from './terminal.ts'

const HELP = `Usage: dotfly mock --dir DIR

Runs a mock flyd, a mock issuer and mock relying parties (AWS STS and S3, GCP,
Azure, a generic one, Anthropic) on loopback, until Ctrl-C.

    --dir DIR       where macaroons, sockets and mock.json go; made if missing, and
                    then removed at the end              DOTFLY_DIR
    --parties FILE  JSON {"iam", "gcp", "azure"}: roles, providers and applications
                    beside those that are there already  DOTFLY_PARTIES
    --json          print what mock.json holds, on one line, instead of the text
    -h, --help      this text

DIR/mock.json is there when everything answers: the URLs, and for each Machine
its org, app, name, id, region, macaroon_file and flyd_url. flyd knows its caller
by the door: each Machine's macaroon is good at its own flyd_url alone.

Exit codes: 0 ended as asked, 1 failed, 2 wrong usage, 128+N ended by signal N.

Example:

    dotfly mock --dir /tmp/fly
`

export const grammar: Grammar = {
  name: 'mock',
  help: HELP,
  declare: (command) => command.option('--dir <dir>').option('--parties <file>').option('--json'),
}

export async function mock(words: readonly string[], env: Environment): Promise<number> {
  const asked = await readArguments(grammar, words, (command) => {
    const typed = command.opts<{ dir?: string; parties?: string; json?: true }>()
    const word = typed.dir ?? env['DOTFLY_DIR'] ?? ''
    if (word === '') throw new UsageError('no directory: name one with --dir')
    const file = typed.parties ?? env['DOTFLY_PARTIES'] ?? ''
    return { dir: resolve(word), parties: file === '' ? {} : { file }, json: typed.json === true }
  })
  if (asked === undefined) return 0
  const { dir, parties, json } = asked
  const { startMock } = await import('../mock/start.ts')
  const end = askedToEnd()
  try {
    const running = await patiently('starting', () => startMock({ dir, parties })).catch((caught: unknown) => {
      throw new Failure(`the mock cannot start in ${printable(dir)}: ${printable(reason(caught))}`, { cause: caught })
    })
    if (json) process.stdout.write(`${JSON.stringify(running.file)}\n`)
    else tell(running.file, dir)
    await end.signal
    await running.stop()
    return 0
  } finally {
    end.ignore()
  }
}

function tell({ machines }: MockFile, dir: string): void {
  for (const { org, app, name, id, region, macaroon_file, flyd_url } of machines) {
    say(`Machine ${org}:${app}:${name} (${id}, ${region}) macaroon ${macaroon_file} flyd ${flyd_url}`)
  }
  say(`ready: ${join(dir, 'mock.json')}`)
}

const say = (line: string): boolean => process.stdout.write(`${printable(line)}\n`)
