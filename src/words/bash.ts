// The completion script for bash, which needs no bash-completion package.

import type { OptionWords, Vocabulary } from './vocabulary.ts'

export function bashScript({ commands, options }: Vocabulary): string {
  const names = commands.map(({ name }) => name)
  const cases = commands.map(({ name, options: own, argument }) => {
    const values = own.flatMap(valueCase)
    return `    ${name})
      words='${[...own.map(({ long }) => long), ...(argument ?? [])].join(' ')}'
${values.length === 0 ? '' : `      case $option in\n${values.join('\n')}\n      esac\n`}      ;;`
  })
  return `# dotfly completion bash: source it, or put it into /etc/bash_completion.d

_dotfly() {
  local word=\${COMP_WORDS[COMP_CWORD]} option=\${COMP_WORDS[COMP_CWORD - 1]} command=\${COMP_WORDS[1]}
  local words= values= kind= before= i
  # bash takes --option=value apart.
  if [[ $word == = ]]; then word=
  elif [[ $option == = ]]; then option=\${COMP_WORDS[COMP_CWORD - 2]}
  fi
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    COMPREPLY=($(compgen -W '${[...names, 'help', ...options.map(({ long }) => long)].join(' ')}' -- "$word"))
    return
  fi
  # What follows -- is another program's.
  for ((i = 2; i < COMP_CWORD; i++)); do
    [[ \${COMP_WORDS[i]} == -- ]] || continue
    if ((i + 1 == COMP_CWORD)); then mapfile -t COMPREPLY < <(compgen -c -- "$word")
    else compopt -o default
    fi
    return
  done
  case $command in
    help) words='${names.join(' ')}' ;;
${cases.join('\n')}
  esac
  case $kind in
    '') values=$words ;;
    text) return ;;
    file) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    directory) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
    several) [[ $word == *,* ]] && before=\${word%,*}, word=\${word##*,}; compopt -o nospace ;;
  esac
  COMPREPLY=($(compgen -P "$before" -W "$values" -- "$word"))
}
complete -F _dotfly dotfly
`
}

function valueCase({ long, value }: OptionWords): string[] {
  if (value === undefined) return []
  const values = 'of' in value ? ` values='${value.of.join(' ')}'` : ''
  return [`        ${long}) kind=${value.kind}${values} ;;`]
}
