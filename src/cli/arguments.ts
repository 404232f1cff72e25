// The words after a command's name. What is written plainly is read here, for init waits for it: Node's own parser would take
// a tenth of what a start of init takes, and commander a third. What is not, and --help, go to commander, which knows what was
// meant, in the house's own messages: it would repeat the whole word, and a word may be a credential that was pasted in the
// wrong place.

import { parseArgs, type ParseArgsConfig } from 'node:util'
import type { Command, CommanderError } from 'commander'
import { UsageError } from '../errors.ts'
import { guardOutput } from './output.ts'
import { shown } from './printable.ts'

/** One command: what people read of it, and what it takes. Completion and the manual page are made from both, and
 * test/cli/words.test.ts holds that they list the same options. */
export interface Grammar {
  readonly name: string
  /** As `--help` prints it. */
  readonly help: string
  readonly declare: (words: Declarations) => Declarations
  /** What is wrong with a word that is no option. */
  readonly excess?: string
}

/** An option as it is declared: `--seed <text>`, or `--json` for a flag. */
export interface Declared {
  readonly flags: string
  /** What its value is one of. Whoever reads it refuses the others, in words of its own; this is for completion. */
  readonly choices?: readonly string[]
  readonly repeatable?: true
}

/** What a command takes besides `-h, --help`. */
export class Declarations {
  readonly options: Declared[] = []
  /** Of the only argument, where there is one: it is one of these. */
  argument: readonly string[] | undefined

  option(flags: string): this {
    this.options.push({ flags })
    return this
  }

  /** May be given several times. */
  several(flags: string): this {
    this.options.push({ flags, repeatable: true })
    return this
  }

  choice(flags: string, choices: readonly string[]): this {
    this.options.push({ flags, choices })
    return this
  }

  takes(argument: readonly string[]): this {
    this.argument = argument
    return this
  }
}

/** What was typed. */
export class Typed {
  readonly #values: unknown
  readonly args: readonly string[]

  constructor(values: unknown, args: readonly string[]) {
    this.#values = values
    this.args = args
  }

  /** By camel-cased name: text, true for a flag, a list where an option may be given several times. */
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- the command knows what it declared
  opts<T>(): T {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the same
    return this.#values as T
  }
}

/** What `grammar` declares, as `read` types it; undefined when help was asked for and has been printed. */
export async function readArguments<T>(
  grammar: Grammar,
  words: readonly string[],
  read: (typed: Typed) => T,
): Promise<T | undefined> {
  const declared = grammar.declare(new Declarations())
  const typed = parse(declared, words) ?? (await explain(grammar, declared, words))
  return typed === undefined ? undefined : read(typed)
}

/** What is written plainly: options that are declared, each with a value that is none, and arguments. Undefined for all
 * else, which is explained. */
function parse({ options, argument }: Declarations, words: readonly string[]): Typed | undefined {
  const values: Record<string, string | true | string[]> = {}
  const args: string[] = []
  for (let i = 0; i < words.length; i++) {
    const word = words[i] ?? ''
    if (!word.startsWith('-')) {
      args.push(word)
      continue
    }
    const [, name, inline] = /^--([a-z-]+)(?:=(.*))?$/s.exec(word) ?? []
    const option = options.find(({ flags }) => nameOf(flags) === name)
    if (name === undefined || option === undefined) return undefined
    const takesOne = option.flags.includes('<')
    const value = inline ?? (takesOne ? words[++i] : undefined)
    if (takesOne !== (value !== undefined) || (inline === undefined && value?.startsWith('-') === true))
      return undefined
    const key = name.replaceAll(/-[a-z]/g, ([, c = '']) => c.toUpperCase())
    const before = values[key]
    if (option.repeatable === true && value !== undefined)
      values[key] = Array.isArray(before) ? [...before, value] : [value]
    else values[key] = value ?? true
  }
  return args.length > (argument === undefined ? 0 : 1) ? undefined : new Typed(values, args)
}

function asNodeHasIt({ options }: Declarations): NonNullable<ParseArgsConfig['options']> {
  const config: NonNullable<ParseArgsConfig['options']> = { help: { type: 'boolean', short: 'h' } }
  for (const { flags, repeatable } of options)
    config[nameOf(flags)] = { type: flags.includes('<') ? 'string' : 'boolean', multiple: repeatable === true }
  return config
}

/** `--macaroon-file --flyd X`: what is wrong where an option's value was forgotten, and the option behind it would be taken
 * for one. A value that does begin so is written behind a `=`. */
function forgotten(declared: Declarations, words: readonly string[]): string | undefined {
  const { tokens } = parseArgs({ args: [...words], options: asNodeHasIt(declared), strict: false, tokens: true })
  for (const token of tokens) {
    if (token.kind !== 'option' || token.inlineValue !== false) continue
    // By its shape: what is pasted in the wrong place, such as a key in PEM, begins with dashes too, and is never shown.
    const [flag] = /^--[a-z][a-z-]*(?==|$)/.exec(token.value) ?? []
    if (flag !== undefined) return `${token.rawName} has no value, the option ${flag} follows it`
    if (token.value === '--') return `${token.rawName} has no value, only -- follows it`
  }
  return undefined
}

/** `seed` of `--seed <text>`. */
export const nameOf = (flags: string): string => /^--([a-z-]+)/.exec(flags)?.[1] ?? ''

/** Help, or a UsageError; undefined once help has been printed. What commander takes all the same, it reads, but no option
 * for the value of another. */
async function explain(
  { name, help, excess }: Grammar,
  declared: Declarations,
  words: readonly string[],
): Promise<Typed | undefined> {
  guardOutput()
  const { Command, CommanderError, Option } = await import('commander')
  const command = new Command(name)
  command.helpInformation = () => help
  for (const { flags, repeatable } of declared.options) {
    const option = new Option(flags)
    // commander takes every --no-x for the negation of --x.
    option.negate = false
    if (repeatable === true)
      option.argParser((word: string, before: string[] | undefined): string[] => [...(before ?? []), word])
    command.addOption(option)
  }
  if (declared.argument !== undefined) command.argument('[word]')
  command
    .exitOverride()
    .configureOutput({ writeErr: () => undefined })
    .allowExcessArguments(false)
  let what = forgotten(declared, words)
  let cause: unknown
  try {
    const { args } = command.parse(words, { from: 'user' })
    if (what === undefined) return new Typed(command.opts(), args)
  } catch (caught) {
    if (!(caught instanceof CommanderError)) throw caught
    if (caught.code === 'commander.helpDisplayed') return undefined
    cause = caught
    what ??=
      caught.code === 'commander.excessArguments'
        ? (excess ?? 'too many words on the command line')
        : problem(caught, words, command)
  }
  throw new UsageError(`${what}: see dotfly ${name} --help`, { cause })
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
  return 'the command line cannot be read'
}
