// The words after a command's name, read by commander and refused in the house's own messages: commander would repeat
// the whole word, and a word may be a credential that was pasted in the wrong place.

import { Command, CommanderError, Option } from 'commander'
import { UsageError } from '../errors.ts'
import { shown } from './printable.ts'

/** One command: what people read of it, and what it takes. Completion and the manual page are made from both, and
 * test/cli/words.test.ts holds that they list the same options. */
export interface Grammar {
  readonly name: string
  /** As `--help` prints it. */
  readonly help: string
  readonly declare: (command: Command) => Command
}

/** What `grammar` declares, as `read` types it; undefined when help was asked for and has been printed. */
export function readArguments<T>(
  { name, help, declare }: Grammar,
  words: readonly string[],
  read: (command: Command) => T,
): T | undefined {
  const command = declare(new Command(name))
  command.helpInformation = () => help
  command
    .exitOverride()
    .configureOutput({ writeErr: () => undefined })
    .allowExcessArguments(false)
  try {
    command.parse(words, { from: 'user' })
  } catch (caught) {
    if (!(caught instanceof CommanderError)) throw caught
    if (caught.code === 'commander.helpDisplayed') return undefined
    throw new UsageError(`${problem(caught, words, command)}: see dotfly ${name} --help`, { cause: caught })
  }
  return read(command)
}

/** For an option that may be given several times. */
export const each = (word: string, before: string[] | undefined): string[] => [...(before ?? []), word]

/** An option whose value is one of `choices`. Whoever reads it refuses the others, in words of its own; this is for
 * completion. */
export function choice(flags: string, choices: readonly string[]): Option {
  const option = new Option(flags)
  option.argChoices = [...choices]
  // commander takes every --no-x for the negation of --x.
  option.negate = false
  return option
}

function problem({ code, message }: CommanderError, words: readonly string[], command: Command): string {
  if (code === 'commander.optionMissingArgument') {
    const flag = /--[a-z-]+/.exec(message)?.[0] ?? 'an option'
    return `${flag} has no value`
  }
  if (code === 'commander.unknownOption') {
    const word = words.find((candidate) => message.includes(`'${candidate}'`)) ?? 'an option'
    if (/^--macaroon(=|$)/.test(word))
      return 'the macaroon is never given on the command line, name its file with --macaroon-file'
    const flag = word.replace(/=.*$/s, '')
    if (
      flag !== word &&
      command
        .createHelp()
        .visibleOptions(command)
        .some(({ long }) => long === flag)
    )
      return `${flag} takes no value`
    const guess = /Did you mean (--[a-z-]+)/.exec(message)?.[1]
    return `unknown option ${shown(flag)}${guess === undefined ? '' : `, did you mean ${guess}`}`
  }
  if (code === 'commander.excessArguments') return 'too many words on the command line'
  return 'the command line cannot be read'
}
