// dotfly man: the manual page, made from the help texts, so that it says what they say.

import { type Grammar, readArguments } from './arguments.ts'
import { version } from './version.ts'

const HELP = `Usage: dotfly man

Prints the manual page of dotfly and all its commands, for man or a file of man's.

    -h, --help    this text

Exit codes: 0 printed, 2 wrong usage.

Example:

    dotfly man | man -l -
`

export const grammar: Grammar = { name: 'man', help: HELP, declare: (command) => command }

export async function man(words: readonly string[]): Promise<number> {
  const asked = await readArguments(grammar, words, () => true)
  if (asked === undefined) return 0
  const [{ manual }, { vocabulary }] = await Promise.all([
    import('../words/manual.ts'),
    import('../words/vocabulary.ts'),
  ])
  process.stdout.write(manual(await vocabulary(), version()))
  return 0
}
