// The words after a command's name, read by commander and refused in the house's own messages: commander would repeat
// the whole word, and a word may be a credential that was pasted in the wrong place.

import { Command, CommanderError } from 'commander'
import { UsageError } from '../errors.ts'
import { shown } from './printable.ts'

/** The options that `declare` names, as `read` types them; undefined when help was asked for and has been printed. */
export function readArguments<T>(
  name: string,
  help: string,
  words: readonly string[],
  declare: (command: Command) => Command,
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
    throw new UsageError(`${problem(caught, words)}: see dotfly ${name} --help`, { cause: caught })
  }
  return read(command)
}

/** For an option that may be given several times. */
export const each = (word: string, before: string[] | undefined): string[] => [...(before ?? []), word]

function problem({ code, message }: CommanderError, words: readonly string[]): string {
  if (code === 'commander.optionMissingArgument') {
    const flag = /--[a-z-]+/.exec(message)?.[0] ?? 'an option'
    return `${flag} has no value`
  }
  if (code === 'commander.unknownOption') {
    const word = words.find((candidate) => message.includes(`'${candidate}'`)) ?? 'an option'
    if (/^--macaroon(=|$)/.test(word))
      return 'the macaroon is never given on the command line, name its file with --macaroon-file'
    const guess = /Did you mean (--[a-z-]+)/.exec(message)?.[1]
    return `unknown option ${shown(word.replace(/=.*$/s, ''))}${guess === undefined ? '' : `, did you mean ${guess}`}`
  }
  if (code === 'commander.excessArguments') return 'too many words on the command line'
  return 'the command line cannot be read'
}
