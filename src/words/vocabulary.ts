// All words of the command line, for whoever makes something of them: completion, the manual page, and the test that
// holds them together. What a command takes is what it declares; what that means stands in its help text.

import { type Declared, Declarations, nameOf } from '../cli/arguments.ts'
import { COMMANDS, HELP } from '../cli/commands.ts'

/** How a value can be completed. */
export type Value =
  | { kind: 'text' | 'file' | 'directory' }
  /** One of them, or several with commas between. */
  | { kind: 'one' | 'several'; of: readonly string[] }

export interface OptionWords {
  /** `-h`, where there is one. */
  short?: string
  /** `--help` */
  long: string
  /** Undefined for a flag. */
  value?: Value
  /** What stands for the value: `FILE`, or `PATH,aud=AUDIENCE[,SETTING…]`; empty for a flag. */
  shape: string
  repeatable: boolean
  /** From the help text, in one line. */
  says: string
  /** `DOTFLY_SOCKET`, where there is one. */
  variable?: string
}

export interface CommandWords {
  name: string
  says: string
  help: string
  options: OptionWords[]
  /** The values of its only argument, where that is one of few. */
  argument?: readonly string[]
}

export interface Vocabulary {
  help: string
  /** Those of `dotfly` itself. */
  options: OptionWords[]
  commands: CommandWords[]
}

export async function vocabulary(): Promise<Vocabulary> {
  const grammars = await Promise.all(Object.values(COMMANDS).map(async (load) => (await load()).grammar))
  const texts = new Map(grammars.map(({ name, help }) => [name, help]))
  const summaries = new Map(
    [...HELP.matchAll(/^ {4}dotfly ([a-z]+) {2,}(.+)$/gm)].map(([, name = '', says = '']) => [name, says]),
  )
  return {
    help: HELP,
    options: described(HELP).map(({ flags, says }) => ({
      ...(flags.length > 1 ? { short: flags[0] ?? '' } : {}),
      long: flags.at(-1) ?? '',
      shape: '',
      repeatable: false,
      says,
    })),
    commands: grammars.map(({ name, help, declare }) => {
      const { options, argument } = declare(new Declarations())
      return {
        name,
        help,
        says: summaries.get(name) ?? '',
        options: [
          ...options.map((option) => optionWords(option, help, texts)),
          { short: '-h', ...optionWords({ flags: '--help' }, help, texts) },
        ],
        ...(argument === undefined ? {} : { argument }),
      }
    }),
  }
}

function optionWords(option: Declared, help: string, texts: ReadonlyMap<string, string>): OptionWords {
  const long = `--${nameOf(option.flags)}`
  // Where a help text only says that an option is as in another command's, that one has its words.
  const elsewhere = texts.get(mentioned(help).get(long) ?? '')
  const entry = [help, elsewhere ?? ''].flatMap(described).find(({ flags }) => flags.includes(long))
  const value = option.flags.includes('<') ? valueOf(option) : undefined
  return {
    long,
    ...(value === undefined ? {} : { value }),
    shape: entry?.shape ?? '',
    repeatable: option.repeatable === true,
    says: entry?.says ?? '',
    ...(entry?.variable === undefined ? {} : { variable: entry.variable }),
  }
}

/** By the choices, or else by what the declaration calls the value: `<file>`, `<dir>`. */
function valueOf({ flags, choices: of }: Declared): Value {
  const name = /<([a-z]+)>/.exec(flags)?.[1] ?? ''
  if (of !== undefined) return { kind: name === 'names' ? 'several' : 'one', of }
  if (name === 'dir') return { kind: 'directory' }
  return { kind: name === 'file' || name === 'path' ? 'file' : 'text' }
}

interface Described {
  flags: string[]
  shape: string
  says: string
  variable?: string
}

/** The options that a help text explains: four blanks, flags, what stands for a value, and after two blanks or on
 * further lines, set in deeper, what it does; at the end its variable. */
export function described(help: string): Described[] {
  const found: Described[] = []
  const entry = /^ {4}((?:-[a-zA-Z], )?--[a-z-]+)(?: ([A-Z]\S*))?(?: {2,}(.*))?\n((?: {8,}.*\n)*)/gm
  for (const [, flags = '', shape = '', first = '', more = ''] of help.matchAll(entry)) {
    const text = `${first} ${more}`.replace(/\s+/g, ' ').trim()
    const variable = /\s?\b(DOTFLY_[A-Z_]+)(?:=1)?(?= |$)/.exec(text)
    found.push({
      flags: flags.split(', '),
      shape,
      says: variable === null ? text : text.replace(variable[0], '').trim(),
      ...(variable?.[1] === undefined ? {} : { variable: variable[1] }),
    })
  }
  return found
}

/** The options of which a help text says that they are as in another command's: option -> that command. */
export function mentioned(help: string): Map<string, string> {
  const list = /((?:--[a-z-]+(?:,? and |, | ))+)as in dotfly ([a-z]+) --help/g
  return new Map(
    [...help.replace(/\s+/g, ' ').matchAll(list)].flatMap(([, options = '', command = '']) =>
      [...options.matchAll(/--[a-z-]+/g)].map(([option]): [string, string] => [option, command]),
    ),
  )
}

/** What fits beside a candidate: without defaults and second thoughts. */
export const brief = (says: string): string => says.replace(/(?:; |, default| \(below\)|: for ).*$/, '')
