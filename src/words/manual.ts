// The manual page, dotfly(1), in roff with the man macros: the help texts, set again.

import type { CommandWords, Vocabulary } from './vocabulary.ts'

export function manual({ help, commands }: Vocabulary, version: string): string {
  return `.\\" Made by dotfly man from the help texts: mend those.
.TH DOTFLY 1 "" "dotfly ${plain(version)}" "User Commands"
.SH NAME
dotfly \\- short\\-lived OIDC tokens for every program in a Machine
.SH SYNOPSIS
${commands.map(({ help: text }) => synopsis(text)).join('\n.br\n')}
.SH DESCRIPTION
Gives every program in a Machine short\\-lived OIDC tokens over a Unix socket, and never
lets out the macaroon that buys them.
${body(help)}
.SH COMMANDS
${commands.map(section).join('\n')}
.SH ENVIRONMENT
Each option that names a variable can be set by it; the option wins. An empty variable is
one that is not set.
${variables(commands)}
.TP
.B NO_COLOR
set, and not empty: no colours, on a terminal either
.SH FILES
.TP
.I /.fly/api
the socket, unless
.B \\-\\-socket
names another
.TP
.I /.fly
where token files of clouds go, unless
.B \\-\\-token\\-dir
names another
.SH SEE ALSO
.BR curl (1),
.BR systemd.exec (5)
`
}

function section({ name, help }: CommandWords): string {
  return `.SS dotfly ${name}\n${synopsis(help)}\n${body(help)}`
}

/** `.B dotfly token` with the rest as it stands. */
function synopsis(help: string): string {
  const [, name = '', rest = ''] = /^Usage: (dotfly(?: [a-z]+)?)(.*)$/m.exec(help) ?? []
  return `.B ${name}\n${plain(rest.trim())}`.trimEnd()
}

/** All paragraphs but the usage. Set in by four blanks are lists of words with their meaning, and examples. */
function body(help: string): string {
  let example = false
  return help
    .trimEnd()
    .split(/\n\n+/)
    .slice(1)
    .map((paragraph) => {
      if (!paragraph.startsWith('    ')) {
        example = paragraph.startsWith('Example')
        return `.PP\n${plain(paragraph)}`
      }
      return example ? code(paragraph) : list(paragraph)
    })
    .join('\n')
}

function code(paragraph: string): string {
  return `.RS 4\n.nf\n${plain(paragraph.replaceAll(/^ {4}/gm, ''))}\n.fi\n.RE`
}

/** Words at four blanks, their meaning after two more or on lines set in deeper. */
function list(paragraph: string): string {
  return paragraph
    .split(/\n(?= {4}\S)/)
    .map((item) => {
      const [, words = '', meaning = ''] = /^ {4}(\S+(?: \S+)*)(?:(?: {2,}|\n)([^]*))?$/.exec(item) ?? []
      const text = meaning.replaceAll(/\s+/g, ' ').trim()
      // In the right margin of a help text; here it needs a sign of what it is.
      const told = words.startsWith('-') ? text.replace(/\bDOTFLY_[A-Z_]+(?:=1)?/, '[$&]') : text
      return `.TP\n.B ${plain(words)}\n${plain(told)}`.trimEnd()
    })
    .join('\n')
}

function variables(commands: readonly CommandWords[]): string {
  const options = new Map<string, { long: string; commands: string[] }>()
  for (const { name, options: own } of commands) {
    for (const { long, variable } of own) {
      if (variable === undefined) continue
      const known = options.get(variable) ?? { long, commands: [] }
      known.commands.push(name)
      options.set(variable, known)
    }
  }
  return [...options]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([variable, { long, commands: of }]) => `.TP\n.B ${plain(variable)}\n${plain(`${long} of ${of.join(', ')}`)}`)
    .join('\n')
}

/** Text as roff shows it: nothing in it is a request, an escape, or a hyphen that is set as another character. */
const plain = (text: string): string =>
  text
    .replaceAll('\\', String.raw`\e`)
    .replaceAll('-', String.raw`\-`)
    .replaceAll('…', String.raw`\[u2026]`)
    .replaceAll('~', String.raw`\(ti`)
    .replaceAll('^', String.raw`\(ha`)
    .replaceAll('`', String.raw`\(ga`)
    .replaceAll("'", String.raw`\(aq`)
    .replaceAll(/^\./gm, String.raw`\&.`)
