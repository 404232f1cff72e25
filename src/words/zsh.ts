// The completion script for zsh: a file named _dotfly in a directory of $fpath.

import { brief, type CommandWords, type OptionWords, type Vocabulary } from './vocabulary.ts'

export function zshScript({ commands, options }: Vocabulary): string {
  return `#compdef dotfly
# dotfly completion zsh

_dotfly() {
  local curcontext=$curcontext state line
  local -a commands
  commands=(
${commands.map(({ name, says }) => `    ${quoted(`${name}:${says}`)}`).join('\n')}
    'help:explain a command'
  )
  _arguments -C \\
${options.map((option) => `    ${specification(option)} \\`).join('\n')}
    '1: :->command' \\
    '*:: :->words'
  case $state in
    command) _describe -t commands 'dotfly command' commands ;;
    words)
      case $words[1] in
        help) ((CURRENT == 2)) && _describe -t commands 'dotfly command' commands ;;
${commands.map(commandCase).join('\n')}
      esac
      ;;
  esac
}

# Sourced, or loaded from $fpath at the first Tab.
if [[ $funcstack[1] == _dotfly ]]; then _dotfly "$@"; else compdef _dotfly dotfly; fi
`
}

function commandCase({ name, options, argument, help }: CommandWords): string {
  // What follows -- is another program's.
  const rest = /^Usage: .* -- COMMAND/.test(help) ? [`'*::: :_normal'`] : []
  const first = argument === undefined ? [] : [`'1: :(${argument.join(' ')})'`]
  return `        ${name})
          _arguments \\
${[...options.map(specification), ...first, ...rest].map((line) => `            ${line}`).join(' \\\n')}
          ;;`
}

/** `'*--socket=[a socket to serve]:PATH:_files'`: a form that takes both `--socket X` and `--socket=X`. */
function specification({ short, long, value, shape, repeatable, says }: OptionWords): string {
  const what = `[${brief(says).replaceAll(/[\\[\]]/g, String.raw`\$&`)}]`
  if (value === undefined)
    return short === undefined ? quoted(`${long}${what}`) : `'(- *)'{${short},${long}}${quoted(what)}`
  const name = /^[A-Z]*/.exec(shape)?.[0] ?? ''
  return quoted(`${repeatable ? '*' : ''}${long}=${what}:${name}:${ACTION[value.kind]('of' in value ? value.of : [])}`)
}

const ACTION: Record<NonNullable<OptionWords['value']>['kind'], (of: readonly string[]) => string> = {
  text: () => ' ',
  file: () => '_files',
  directory: () => '_files -/',
  one: (of) => `(${of.join(' ')})`,
  several: (of) => `_sequence compadd - ${of.join(' ')}`,
}

const quoted = (text: string): string => `'${text.replaceAll("'", String.raw`'\''`)}'`
