// The completion script for fish.

import { brief, type CommandWords, type OptionWords, type Vocabulary } from './vocabulary.ts'

export function fishScript({ commands, options }: Vocabulary): string {
  return `# dotfly completion fish

# Is this the command that was typed? None is after --, for what follows is another program's.
function __dotfly_at
    set -l words (commandline -opc)
    contains -- -- $words; and return 1
    test "$words[2]" = "$argv[1]"
end

function __dotfly_rest
    set -l words (commandline -opc)
    set -l at (contains -i -- -- $words); or return
    complete -C (string join ' ' -- $words[(math $at + 1)..-1] (commandline -ct))
end

complete -c dotfly -f
complete -c dotfly -n 'contains -- -- (commandline -opc)' -a '(__dotfly_rest)'
${options.map((option) => line(NONE, option)).join('\n')}
${[...commands, { name: 'help', says: 'explain a command' }].map(({ name, says }) => `complete -c dotfly -n ${quoted(NONE)} -a ${name} -d ${quoted(says)}`).join('\n')}
complete -c dotfly -n '__dotfly_at help' -a '${commands.map(({ name }) => name).join(' ')}'
${commands.map(commandLines).join('\n')}
`
}

/** The condition that no command has been typed. */
const NONE = `__dotfly_at ''`

function commandLines({ name, options, argument }: CommandWords): string {
  const condition = `__dotfly_at ${name}`
  const first =
    argument === undefined ? [] : [`complete -c dotfly -n ${quoted(condition)} -a ${quoted(argument.join(' '))}`]
  return [...options.map((option) => line(condition, option)), ...first].join('\n')
}

function line(condition: string, { short, long, value, says }: OptionWords): string {
  return [
    `complete -c dotfly -n ${quoted(condition)}`,
    ...(short === undefined ? [] : [`-s ${short.slice(1)}`]),
    `-l ${long.slice(2)}`,
    ...(value === undefined ? [] : [VALUE[value.kind]('of' in value ? value.of : [])]),
    `-d ${quoted(brief(says))}`,
  ].join(' ')
}

const VALUE: Record<NonNullable<OptionWords['value']>['kind'], (of: readonly string[]) => string> = {
  text: () => '-x',
  file: () => '-r -F',
  directory: () => `-x -a '(__fish_complete_directories)'`,
  one: (of) => `-x -a '${of.join(' ')}'`,
  several: (of) => `-x -a '(__fish_append , ${of.join(' ')})'`,
}

/** Inside single quotes fish knows two escapes. */
const quoted = (text: string): string => `'${text.replaceAll(/['\\]/g, String.raw`\$&`)}'`
