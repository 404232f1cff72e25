// What only a terminal gets: colours, and a line that says what is waited for. On a real one, through script(1).

import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import { test, type Test } from 'tap'
import { BIN, dotfly, type Env, NODE, plain } from './dotfly.ts'

const skip = spawnSync('script', ['--version']).status === 0 ? false : 'script not installed'

interface Shown {
  code: number | null
  /** Standard output and error, with every control character. */
  text: string
}

/** `press` is given what was shown so far, and answers with keys; each answer once. */
async function onTerminal(words: readonly string[], env: Env = {}, press?: (shown: string) => string): Promise<Shown> {
  const command = [NODE, '--disable-warning=ExperimentalWarning', BIN, ...words].map((word) => `'${word}'`).join(' ')
  const variables = Object.entries(plain({ TERM: 'xterm-256color', ...env })).map(([name, value]) => `${name}=${value}`)
  const child = spawn('env', ['-i', ...variables, 'script', '-qefc', `stty cols 80; exec ${command}`, '/dev/null'])
  let text = ''
  let keys = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk
    if (keys !== '') return
    keys = press?.(text) ?? ''
    if (keys !== '') child.stdin.write(keys)
  })
  const code = await new Promise<number | null>((done) => child.on('close', done))
  return { code, text }
}

/** A socket that takes connections and never answers. */
async function silence(t: Test): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), 'terminal-'))
  const server = createServer(() => undefined)
  await new Promise<void>((done) => server.listen(join(dir, 'api'), done))
  t.teardown(() => {
    server.close()
    rmSync(dir, { recursive: true, force: true })
  })
  return join(dir, 'api')
}

// oxlint-disable-next-line no-control-regex -- the escape that starts a colour is what is looked for
const COLOUR = /\u001b\[[0-9;]*m/

test(
  'doctor, canary and logs have colours on a terminal only, never with NO_COLOR or TERM=dumb',
  { skip },
  async (t) => {
    const words = ['doctor', '--socket', '/none/api']
    t.match(await onTerminal(words), { code: 1, text: '\u001b[31mwrong  \u001b[39m there is no socket' })
    const without: [string, Env][] = [
      ['NO_COLOR', { NO_COLOR: '1' }],
      ['NO_COLOR against FORCE_COLOR', { NO_COLOR: '1', FORCE_COLOR: '1' }],
      ['TERM=dumb', { TERM: 'dumb' }],
    ]
    for (const [what, env] of without) t.notMatch((await onTerminal(words, env)).text, COLOUR, what)
    t.match((await onTerminal(words, { NO_COLOR: '' })).text, COLOUR, 'an empty NO_COLOR is none')
    const piped = await dotfly(words, { FORCE_COLOR: '1', TERM: 'xterm-256color' })
    t.notMatch(piped.stdout, COLOUR, 'a pipe')
    t.match(piped.stdout, /^wrong {3}there is no socket/m)
    t.notMatch((await onTerminal(['token', '--socket', '/none/api'])).text, COLOUR, 'errors are plain')
  },
)

test('doctor breaks its lines between words on a terminal, and leaves them whole in a pipe', { skip }, async (t) => {
  const words = ['doctor', '--socket', `/none/${'long/'.repeat(10)}api`]
  // Of its own socket alone: what else this computer has to be told may change meanwhile.
  const found = (text: string): string => /^wrong [^]*?\[SOCKET_MISSING\][^]*?--socket\r?$/m.exec(text)?.[0] ?? ''
  const shown = found(stripVTControlCharacters((await onTerminal(words)).text)).split('\r\n')
  t.ok(shown.length > 3, shown.join('|'))
  for (const line of shown) t.ok(line.trimEnd().length <= 80 || /^ {8}\S+$/.test(line), `${line.length}: ${line}`)
  const whole = found((await dotfly(words)).stdout)
  t.ok(whole.split('\n').some((line) => line.length > 80))
  t.equal(shown.join(' ').replaceAll(/\s+/g, ' ').trim(), whole.replaceAll(/\s+/g, ' ').trim())
})

test('a wait of over a second is told on a terminal, and erased', { skip }, async (t) => {
  const socket = await silence(t)
  const words = ['token', '--socket', socket, '--timeout', '2.5']
  const { code, text } = await onTerminal(words)
  t.equal(code, 1)
  t.match(text, /\r\u001b\[Kwaiting for a token, [0-9]+ s/)
  t.match(text, /\r\u001b\[Kdotfly: [^\r\n]+\r\n$/, 'gone before the error')
  t.notMatch((await onTerminal(words, { TERM: 'dumb' })).text, 'waiting')
  t.match(await dotfly(words), { code: 1, stdout: '', stderr: /^dotfly: [^\n]+\n$/ }, 'a pipe')
})

test('Ctrl-C while waiting: the line is erased, and the shell sees an interrupt', { skip }, async (t) => {
  const words = ['token', '--socket', await silence(t), '--timeout', '60']
  const { code, text } = await onTerminal(words, {}, (shown) => (shown.includes('2 s') ? '\u0003' : ''))
  t.equal(code, 130)
  t.match(text, /, [0-9]+ s\^C\r\u001b\[K$/)
})

test('canary on a terminal says how far it is, and ends in green', { skip }, async (t) => {
  // The sample takes less than the second before a line on a fast computer; all of it takes minutes, so it is cut.
  const told = /\r\u001b\[Ksearching answers: [0-9]+ %, [0-9]+ s/
  const cut = await onTerminal(['canary', '--seed', 'a'], {}, (shown) => (told.test(shown) ? '\u0003' : ''))
  t.equal(cut.code, 130)
  t.match(cut.text, told)
  const whole = await onTerminal(['canary', '--quick', '--seed', 'a'])
  t.equal(whole.code, 0)
  t.match(whole.text, '\u001b[32mnothing leaked\u001b[39m')
})
