// Help texts, declarations, completion and the manual page list the same words, and real shells complete them.

import { execFile, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify, stripVTControlCharacters } from 'node:util'
import { test, type Test } from 'tap'
import { described, mentioned, type Vocabulary, vocabulary } from '../../src/words/vocabulary.ts'
import { dotfly, plain } from './dotfly.ts'

const run = promisify(execFile)
const all = await vocabulary()
const SHELLS = ['bash', 'zsh', 'fish'] as const
const [bash, zsh, fish, man] = await Promise.all([
  ...SHELLS.map(async (shell) => (await dotfly(['completion', shell])).stdout),
  dotfly(['man']).then(({ stdout }) => stdout),
])
const texts: Texts = { bash: bash ?? '', zsh: zsh ?? '', fish: fish ?? '', man: man ?? '' }

interface Texts {
  bash: string
  zsh: string
  fish: string
  man: string
}

/** The options that each text lists for a command. */
const LISTED: Record<keyof Texts | 'help', (texts: Texts, name: string, help: string) => string[]> = {
  help: (_, __, help) => optionsOf(help),
  man: ({ man: page }, name) => {
    const section = page.split(/^(?=\.S[SH] )/m).find((text) => text.startsWith(`.SS dotfly ${name}\n`)) ?? ''
    const text = section.replaceAll(String.raw`\-`, '-')
    const own = [...text.matchAll(/^\.B (-.+)$/gm)].flatMap(([, line = '']) => line.match(/--[a-z-]+/g) ?? [])
    return [...own, ...mentioned(text).keys()]
  },
  bash: ({ bash: script }, name) =>
    /words='([^']*)'/
      .exec(script.split(/^ {4}(?=[a-z]+\)$)/m).find((text) => text.startsWith(`${name})`)) ?? '')?.[1]
      ?.split(' ')
      .filter((word) => word.startsWith('--')) ?? [],
  zsh: ({ zsh: script }, name) =>
    [
      ...(script.split(/^ {8}(?=[a-z]+\)$)/m).find((text) => text.startsWith(`${name})`)) ?? '').matchAll(
        /^ {12}'(?:\(- \*\)'\{-h,|\*?)(--[a-z-]+)/gm,
      ),
    ].map(([, option = '']) => option),
  fish: ({ fish: script }, name) =>
    [...script.matchAll(new RegExp(`-n '__dotfly_at ${name}' .*-l ([a-z-]+)`, 'g'))].map(
      ([, option]) => `--${option ?? ''}`,
    ),
}

const optionsOf = (help: string): string[] => [
  ...described(help).flatMap(({ flags }) => flags.filter((flag) => flag.startsWith('--'))),
  ...mentioned(help).keys(),
]

/** Where a text and the declarations differ. */
function differences({ commands }: Vocabulary, made: Texts): string[] {
  return commands.flatMap(({ name, help, options }) => {
    const declared = options.map(({ long }) => long).toSorted()
    return Object.entries(LISTED)
      .map(([where, read]): [string, string[]] => [where, [...new Set(read(made, name, help))].toSorted()])
      .filter(([, listed]) => listed.join(' ') !== declared.join(' '))
      .map(([where, listed]) => `${name} declares ${declared.join(' ')}, and ${where} has ${listed.join(' ')}`)
  })
}

test('help, declaration, completion and manual page of each command list the same options', async (t) => {
  t.strictSame(differences(all, texts), [])
  t.ok(all.commands.length >= 10)
  // Each text is broken once: a check that cannot fail keeps nothing.
  const token = all.commands.find(({ name }) => name === 'token')
  const broken: [string, Vocabulary, Texts][] = [
    ['help', { ...all, commands: [{ ...token!, help: token!.help.replace(/^ {4}--wait .*$/m, '') }] }, texts],
    ['declared', { ...all, commands: [{ ...token!, options: token!.options.slice(1) }] }, texts],
    ['man', all, { ...texts, man: texts.man.replace('.B \\-\\-wait TIME', '') }],
    ['bash', all, { ...texts, bash: texts.bash.replace('--wait ', '') }],
    ['zsh', all, { ...texts, zsh: texts.zsh.replace(`'--wait=`, `'`) }],
    ['fish', all, { ...texts, fish: texts.fish.replace(' -l wait ', ' ') }],
  ]
  for (const [what, words, made] of broken) t.ok(differences(words, made).length > 0, `found when broken: ${what}`)
})

test('every option has words, what it takes, and of few values all of them in its help or error', async (t) => {
  for (const { name, says, help, options, argument } of all.commands) {
    t.ok(says.length > 0, `dotfly --help has words for ${name}`)
    for (const option of options) {
      const { long, value, shape } = option
      t.ok(option.says.length > 0, `${name} ${long} is explained`)
      t.equal(shape !== '', value !== undefined && !mentioned(help).has(long) ? true : shape !== '', `${name} ${long}`)
      if (value === undefined || !('of' in value) || name === 'keep') continue
      // The one who reads the option takes each of them, and refuses another by naming them, or as no signal.
      const macaroon = name === 'token' ? [] : ['--macaroon-file', '/none']
      const { code, stderr } = await dotfly([
        name,
        ...macaroon,
        `${long}=nonsense`,
        ...(name === 'init' ? ['--', 'x'] : []),
      ])
      t.equal(code, 2, `${name} ${long} refuses nonsense`)
      if (long !== '--kill-signal') for (const word of value.of) t.match(stderr, word)
    }
    for (const word of argument ?? []) t.match(help, word)
  }
})

test('dotfly --help, completion and the registry have the same commands', async (t) => {
  const names = all.commands.map(({ name }) => name)
  t.strictSame(
    [...all.help.matchAll(/^ {4}dotfly ([a-z]+) {2,}/gm)].map(([, name]) => name),
    names,
  )
  for (const name of names) {
    t.match(texts.fish, `-n '__dotfly_at \\'\\'' -a ${name} `)
    t.match(texts.zsh, `    '${name}:`)
    t.match(texts.man, `.SS dotfly ${name}\n`)
  }
  t.match(texts.bash, `compgen -W '${names.join(' ')} help `)
})

const has = (program: string): boolean => spawnSync('sh', ['-c', `command -v ${program}`]).status === 0
const unless = (...programs: string[]): { skip: string | false } => {
  const missing = programs.filter((program) => !has(program))
  return { skip: missing.length === 0 ? false : `${missing.join(' and ')} not installed` }
}

function directory(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'words-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  for (const shell of SHELLS) writeFileSync(join(dir, shell), texts[shell])
  mkdirSync(join(dir, 'in it'))
  writeFileSync(join(dir, 'in it', 'macaroon one'), '')
  return dir
}

/** A command line up to the Tab, the candidates that must come, and the ones that must not. */
const TABS: [line: string, some: string[], not: string[]][] = [
  ['dotfly to', ['token'], ['proxy']],
  ['dotfly help ca', ['canary'], ['token']],
  ['dotfly token --', ['--aud', '--format', '--help', '--wait'], ['--flyd', '--once']],
  ['dotfly token --format ', ['raw', 'json', 'aws-credential-process', 'gcp-executable', 'k8s-exec'], ['--aud']],
  ['dotfly proxy --log-level ', ['debug', 'info', 'warn', 'error', 'silent'], ['--socket']],
  ['dotfly init --on-exit ', ['exit', 'poweroff', 'reboot'], []],
  ['dotfly init --kill-signal SIGU', ['SIGUSR1', 'SIGUSR2'], ['SIGTERM']],
  ['dotfly init --no-harden core,se', ['core,secret-page'], ['core,sysctl']],
  ['dotfly completion ', ['bash', 'zsh', 'fish'], ['token']],
]

test('bash completes commands, options, values, files, and what follows --', unless('bash'), async (t) => {
  const dir = directory(t)
  /** As bash calls it: the line taken apart at blanks and =. */
  const complete = async (line: string): Promise<string[]> => {
    const words = line.replaceAll('=', ' = ').split(/ +/)
    const { stdout } = await run(
      'bash',
      [
        '--norc',
        '-c',
        `compopt() { :; }; source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _dotfly; printf '%s\\n' "\${COMPREPLY[@]}"`,
        join(dir, 'bash'),
        ...words,
      ],
      { cwd: dir },
    )
    return stdout.split('\n').filter((word) => word !== '')
  }
  for (const [line, some, not] of TABS) {
    const found = await complete(line)
    for (const word of some) t.ok(found.includes(word), `${line} -> ${word}`)
    for (const word of not) t.notOk(found.includes(word), `${line} does not give ${word}`)
  }
  t.strictSame(await complete('dotfly proxy --log-level=de'), ['debug'])
  t.strictSame(await complete('dotfly proxy --app '), [])
  t.strictSame(await complete('dotfly strip --macaroon-file in'), ['in it'])
  t.ok((await complete('dotfly init -- bas')).includes('bash'))
})

test('fish completes commands, options, values, files, and what follows --', unless('fish'), async (t) => {
  const dir = directory(t)
  const complete = async (line: string): Promise<string[]> => {
    const { stdout } = await run(
      'fish',
      ['--no-config', '-c', 'source $argv[1]; complete -C $argv[2]', join(dir, 'fish'), line],
      {
        cwd: dir,
        env: { ...plain(), HOME: dir },
      },
    )
    return stdout.split('\n').map((found) => found.replace(/\t.*$/, ''))
  }
  for (const [line, some, not] of TABS) {
    const found = await complete(line)
    for (const word of some) t.ok(found.includes(word), `${line} -> ${word}`)
    for (const word of not) t.notOk(found.includes(word), `${line} does not give ${word}`)
  }
  t.ok((await complete('dotfly proxy --log-level=de')).includes('--log-level=debug'))
  t.match((await complete('dotfly strip --macaroon-file in')).join(), /in it|in\\ it/)
  t.ok((await complete('dotfly init -- env')).includes('env'))
})

interface Terminal {
  type: (keys: string) => void
  /** All that was shown since the last sign, without its colours and cursor moves. */
  see: (sign: RegExp) => Promise<string>
  /** Drops the line that is being typed, and waits for a prompt that is not an earlier one. */
  fresh: () => Promise<string>
}

/** A shell on a terminal of its own, through script(1). */
function terminal(t: Test, command: string, cwd: string): Terminal {
  const child = spawn('script', ['-qefc', `stty rows 60 cols 120; exec ${command}`, '/dev/null'], {
    cwd,
    // No home, so that no shell leaves a history behind it.
    env: { ...plain(), HOME: '/nonexistent', TERM: 'xterm', LC_ALL: 'C.UTF-8' },
  })
  t.teardown(() => child.kill('SIGKILL'))
  let seen = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (seen += chunk))
  const type = (keys: string): boolean => child.stdin.write(keys)
  const see = (sign: RegExp): Promise<string> =>
    new Promise((found, fail) => {
      const look = (): void => {
        const shown = stripVTControlCharacters(seen).replaceAll(/.\x08/g, '')
        if (!sign.test(shown)) return
        child.stdout.off('data', look)
        seen = ''
        found(shown)
      }
      child.stdout.on('data', look)
      child.on('close', () => fail(new Error(`ended before ${sign}: ${seen}`)))
      look()
    })
  let count = 0
  const fresh = (): Promise<string> => {
    type(`\u0015echo fre''sh${++count}\n`)
    return see(new RegExp(`fresh${count}\\s[^]*ready> `))
  }
  return { type, see, fresh }
}

test('bash on a terminal: Tab writes the rest of the word', unless('bash', 'script'), async (t) => {
  const { type, see, fresh } = terminal(t, 'bash --norc --noprofile -i', directory(t))
  type(`source ./bash; PS1='rea''dy> '\n`)
  await fresh()
  type('dotfly tok\t--for\traw --wa\t')
  t.match(await see(/--wait/), /dotfly token --format raw --wait/)
  await fresh()
  type('dotfly strip --macaroon-file in\tmac\t')
  t.match(await see(/one/), /--macaroon-file in\\ it\/macaroon\\ one/)
})

test(
  'zsh on a terminal: Tab lists commands, options and values with what they do',
  unless('zsh', 'script'),
  async (t) => {
    const { type, see, fresh } = terminal(t, 'zsh -f -i', directory(t))
    type(`PS1='rea''dy> '; unsetopt prompt_sp; autoload -Uz compinit; compinit -u -D; LISTMAX=0; source ./zsh\n`)
    await fresh()
    for (const [line, some, not] of TABS) {
      // A line that more than one word completes is followed by their list, and one word by the rest of it.
      type(`${line}\t${some.length > 1 ? '\t' : ''}`)
      const last = some.at(-1) ?? ''
      const seen = await see(new RegExp(some.length > 1 ? String.raw`\n[^]*${last}` : last.replace(/^.*,/, '')))
      if (some.length > 1) for (const word of some) t.ok(seen.includes(word), `${line} -> ${word}`)
      for (const word of not) t.notOk(seen.includes(word), `${line} does not give ${word}`)
      await fresh()
    }
    type('dotfly strip --macaroon-file in\tmac\t')
    t.match(await see(/one/), /in\\ it\/macaroon\\ one/)
  },
)

test('the manual page: mandoc and groff have nothing to say', unless('mandoc', 'groff'), async (t) => {
  const page = join(directory(t), 'dotfly.1')
  writeFileSync(page, texts.man)
  const lint = await run('mandoc', ['-T', 'lint', '-W', 'warning', page]).catch((caught: { stdout: string }) => caught)
  // It has no date, so that two builds of one version are the same.
  t.strictSame(
    lint.stdout.split('\n').filter((line) => line !== '' && !line.includes('missing date')),
    [],
  )
  t.match(await run('groff', ['-man', '-ww', '-z', '-Tutf8', page]), { stderr: '' })
  const { stdout } = await run('groff', ['-man', '-Tascii', '-P-cbou', page])
  t.match(stdout, /--token-file PATH,aud=AUDIENCE/)
  t.match(stdout, /DOTFLY_SOCKET\s+--socket of proxy, init, token, keep, doctor/)
})
