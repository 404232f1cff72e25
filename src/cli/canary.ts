// dotfly canary: proves on this machine that nothing leaks.

import { randomBytes } from 'node:crypto'
import { runCanary } from '../canary/canary.ts'
import type { CanaryReport } from '../canary/canary.ts'
import { Failure, UsageError } from '../errors.ts'
import { LaunchError } from '../init/error.ts'
import { type Grammar, readArguments } from './arguments.ts'
import { askedToEnd } from './signals.ts'
import { coloured, patiently } from './terminal.ts'

const HELP = `Usage: dotfly canary [OPTION…]

Makes random credentials, runs the real proxy before a hostile flyd that puts every
spelling of them into every position of an answer, whole and in pieces, and searches
every byte that the guest receives. Prints a table. Takes a minute or two.

    --quick        a sample of it, in a few seconds
    --seed TEXT    repeat a run exactly; default random, and printed
    --json         the result as JSON
    -h, --help     this text

No credential of yours is used, and no socket but its own.

Exit codes: 0 nothing leaked, 1 something did or it could not run, 2 wrong usage,
128+N interrupted by signal N.

Example:

    dotfly canary --quick
`

export const grammar: Grammar = {
  name: 'canary',
  help: HELP,
  declare: (command) => command.option('--quick').option('--seed <text>').option('--json'),
}

export async function canary(words: readonly string[]): Promise<number> {
  const asked = await readArguments(grammar, words, (command) => {
    const { quick, seed, json } = command.opts<{ quick?: boolean; seed?: string; json?: boolean }>()
    if (seed === '') throw new UsageError('the seed is empty')
    return { quick: quick === true, seed: seed ?? randomBytes(6).toString('hex'), json: json === true }
  })
  if (asked === undefined) return 0
  const { quick, seed, json } = asked
  // It takes minutes, so people interrupt it: what it made must not stay, a file that looks like a macaroon among it.
  const wish = askedToEnd()
  const stop = new AbortController()
  void wish.signal.then(() => stop.abort())
  const report = await patiently('searching answers', (how) => {
    let percent = 0
    const progress = (done: number, of: number): void => {
      const now = Math.floor((100 * done) / of)
      if (now > percent) how(`${now} %`)
      percent = now
    }
    return runCanary({ seed, quick, progress, stop: stop.signal })
  }).catch((caught: unknown) => {
    if (caught instanceof LaunchError) throw new Failure(caught.message, { cause: caught })
    throw caught
  })
  if (wish.asked) return wish.code
  wish.ignore()
  process.stdout.write(json ? `${JSON.stringify({ seed, ...report })}\n` : table(seed, report))
  return report.leaks.length === 0 ? 0 : 1
}

function table(seed: string, { formats, spellings, rows, leaks }: CanaryReport): string {
  const width = Math.max(...rows.map(({ position }) => position.length))
  const lines = rows.map(
    (row) => `${row.position.padEnd(width)}  ${String(row.tried).padStart(7)}  ${String(row.leaks).padStart(5)}`,
  )
  const tried = rows.reduce((sum, row) => sum + row.tried, 0)
  return [
    `${'position'.padEnd(width)}    tried  leaks`,
    ...lines,
    '',
    ...leaks
      .slice(0, 20)
      .map(({ position, format, spelling }) => `${coloured('red', 'LEAK')} in ${position}: ${format}, ${spelling}`),
    `${tried} answers, ${formats} credential formats, up to ${spellings} spellings: ${leaks.length === 0 ? coloured('green', 'nothing leaked') : coloured('red', `${leaks.length} leaked`)} (seed ${seed})`,
    '',
  ].join('\n')
}
