// Two parsers read one grammar: our own, for what is plain, and commander, which is loaded for the rest. What both take they
// must take alike, and what the first takes wrongly nobody would see.

import { Command, CommanderError, Option } from 'commander'
import * as fc from 'fast-check'
import { test } from 'tap'
import {
  type Declarations,
  Declarations as Declare,
  type Grammar,
  nameOf,
  readArguments,
} from '../../src/cli/arguments.ts'
import { COMMANDS } from '../../src/cli/commands.ts'
import { UsageError } from '../../src/errors.ts'

type Read = { values: Record<string, unknown>; args: readonly string[] } | 'help' | 'refused'

/** As commander alone would read it. */
function byCommander(declared: Declarations, words: readonly string[]): Read {
  const command = new Command('x')
    .exitOverride()
    .configureOutput({ writeOut: () => undefined, writeErr: () => undefined })
  command.allowExcessArguments(false)
  for (const { flags, repeatable } of declared.options) {
    const option = new Option(flags)
    option.negate = false
    if (repeatable === true)
      option.argParser((word: string, before: string[] | undefined): string[] => [...(before ?? []), word])
    command.addOption(option)
  }
  if (declared.argument !== undefined) command.argument('[word]')
  try {
    const { args } = command.parse([...words], { from: 'user' })
    return { values: { ...command.opts() }, args: [...args] }
  } catch (caught) {
    if (!(caught instanceof CommanderError)) throw caught
    return caught.code === 'commander.helpDisplayed' ? 'help' : 'refused'
  }
}

/** Where commander would take an option for the value of the one before it, and dotfly does not: `--aud --claims`. */
function swallows({ options }: Declarations, words: readonly string[]): boolean {
  const takes = new Set(options.filter(({ flags }) => flags.includes('<')).map(({ flags }) => `--${nameOf(flags)}`))
  for (let i = 0; i < words.length && words[i] !== '--'; i++)
    if (takes.has(words[i] ?? '') && /^--($|[a-z][a-z-]*(=|$))/.test(words[++i] ?? '')) return true
  return false
}

/** As dotfly reads it. */
async function byDotfly(grammar: Grammar, words: readonly string[]): Promise<Read> {
  const write = process.stdout.write.bind(process.stdout)
  let told = ''
  process.stdout.write = (text: unknown): boolean => {
    told += String(text)
    return true
  }
  try {
    const read = await readArguments(grammar, words, (typed) => ({
      values: { ...typed.opts<Record<string, unknown>>() },
      args: [...typed.args],
    }))
    return read ?? (told === grammar.help ? 'help' : 'refused')
  } catch (caught) {
    if (!(caught instanceof UsageError)) throw caught
    return 'refused'
  } finally {
    process.stdout.write = write
  }
}

const VALUES = ['', '-', '--', '-h', '-x', '--help', 'x', 'a=b', '=', '-1', 'é', ' ', '--no-x', '/a,b=c']

/** Words that come near those of a grammar. */
function wordsOf({ options }: Declarations): fc.Arbitrary<string[]> {
  const flags = options.map(({ flags: word }) => `--${nameOf(word)}`)
  const flag = fc.constantFrom(...flags, '--help', '-h', '-', '--', '---', '-x', '--unknown', '--no-help')
  const value = fc.constantFrom(...VALUES)
  const cut = fc.tuple(flag, fc.nat(12)).map(([word, at]) => word.slice(0, at + 1))
  const joined = fc.tuple(flag, value).map(([word, more]) => `${word}=${more}`)
  const pair = fc.tuple(flag, value).map(([word, more]) => [word, more])
  const one = fc.oneof(flag, value, cut, joined, fc.string({ maxLength: 6 })).map((word) => [word])
  return fc.array(fc.oneof({ weight: 2, arbitrary: pair }, one), { maxLength: 6 }).map((lists) => lists.flat())
}

for (const [name, load] of Object.entries(COMMANDS)) {
  test(`${name}: whatever is typed, both parsers read the same, and neither an option for a value`, async (t) => {
    const { grammar } = await load()
    const declared = grammar.declare(new Declare())
    const seen = { help: 0, refused: 0, taken: 0 }
    await fc.assert(
      fc.asyncProperty(wordsOf(declared), async (words) => {
        const ours = await byDotfly(grammar, words)
        const commander = byCommander(declared, words)
        const theirs = commander !== 'help' && swallows(declared, words) ? 'refused' : commander
        seen[typeof ours === 'string' ? ours : 'taken']++
        t.strictSame(ours, theirs, JSON.stringify(words))
        return t.passing()
      }),
      { numRuns: 400 },
    )
    t.ok(seen.help > 0 && seen.refused > 0 && seen.taken > 0, JSON.stringify(seen))
  })
}
