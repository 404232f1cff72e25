// dotfly completion: the script that makes a shell complete our words. It holds all of them, so that the Tab key starts
// no Node.

import { UsageError } from '../errors.ts'
import { type Grammar, readArguments } from './arguments.ts'
import { shown } from './printable.ts'

const HELP = `Usage: dotfly completion SHELL

Prints a script that makes SHELL complete the commands of dotfly, their options, and
the values of options that take one of few.

    -h, --help    this text

SHELL is one of bash, zsh and fish. Where the script goes:

    bash    /etc/bash_completion.d/dotfly, or source it in ~/.bashrc
    zsh     a file named _dotfly in a directory of $fpath, before compinit
    fish    ~/.config/fish/completions/dotfly.fish

Exit codes: 0 printed, 2 wrong usage.

Example: for this shell, until it ends

    source <(dotfly completion bash)
`

const SHELLS = ['bash', 'zsh', 'fish'] as const

export const grammar: Grammar = {
  name: 'completion',
  help: HELP,
  declare: (command) => command.takes(SHELLS),
}

export async function completion(words: readonly string[]): Promise<number> {
  const shell = await readArguments(grammar, words, ({ args: [word = ''] }) => {
    const named = SHELLS.find((name) => name === word)
    if (word === '') throw new UsageError(`no shell: name one of ${SHELLS.join(', ')}`)
    if (named === undefined) throw new UsageError(`shell ${shown(word)} is not one of ${SHELLS.join(', ')}`)
    return named
  })
  if (shell === undefined) return 0
  const { vocabulary } = await import('../words/vocabulary.ts')
  process.stdout.write((await SCRIPT[shell]())(await vocabulary()))
  return 0
}

const SCRIPT = {
  bash: async () => (await import('../words/bash.ts')).bashScript,
  zsh: async () => (await import('../words/zsh.ts')).zshScript,
  fish: async () => (await import('../words/fish.ts')).fishScript,
}
