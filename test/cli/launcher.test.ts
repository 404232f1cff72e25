// `dotfly proxy` holds the credential's page for the next start of the trusted process. Whoever runs it often runs the
// guest programs too, as the same user: what such a program can try on the launcher is tried here.

import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, chownSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { test } from 'tap'
import { CREDENTIAL } from '../support/corpus.ts'
import { BIN, ended, NODE, until } from './dotfly.ts'

const NOBODY = 54_321 // no user of this computer, so that what it owns is ours
const skip = process.geteuid?.() === 0 ? false : 'needs root, to be two processes of a third user'
const ATTACK = fileURLToPath(new URL('../init/attack.py', import.meta.url))
const NEEDLE = Buffer.from(CREDENTIAL.slice(-40)).toString('hex')
const as = { uid: NOBODY, gid: NOBODY }
const PATH = process.env['PATH'] ?? ''

/** The launcher of that user, when it serves. */
async function launched(t: {
  teardown(end: () => Promise<void> | void): void
}): Promise<{ pid: number; said(): string }> {
  const directory = mkdtempSync(join(tmpdir(), 'dotfly-launcher-'))
  const file = join(directory, 'macaroon')
  writeFileSync(file, CREDENTIAL, { mode: 0o600 })
  chmodSync(directory, 0o755)
  for (const path of [directory, file]) chownSync(path, NOBODY, NOBODY)
  const words = ['--socket', join(directory, 'api'), '--flyd', 'http://127.0.0.1:9', '--macaroon-file', file]
  const child = spawn(NODE, ['--disable-warning=ExperimentalWarning', BIN, 'proxy', ...words], {
    ...as,
    env: { PATH },
    cwd: '/',
  })
  let said = ''
  child.stderr.on('data', (bytes: Buffer) => (said += bytes.toString()))
  const end = ended(child)
  t.teardown(async () => {
    child.kill('SIGKILL')
    await end
    rmSync(directory, { recursive: true, force: true })
  })
  await until(child, /listening at/)
  return { pid: child.pid ?? 0, said: () => said }
}

async function attack(pid: number): Promise<Map<string, string>> {
  const attacker = spawn('python3', [ATTACK, String(pid), NEEDLE], { ...as, env: { PATH }, cwd: '/' })
  const out = await text(attacker.stdout)
  return new Map([...out.matchAll(/^(\w+) (\w+)$/gm)].map(([, name = '', result = '']) => [name, result]))
}

const PYTHON = spawnSync('python3', ['--version']).status === 0 ? false : 'needs python3, the attacker'

test('a process of the same user has nothing of the launcher', { skip: skip === false ? PYTHON : skip }, async (t) => {
  const { pid } = await launched(t)
  const results = await attack(pid)
  t.equal(results.size, 6, 'six attacks')
  t.notOk([...results.values()].includes('leak'), JSON.stringify([...results]))
  t.equal(results.get('descriptors'), 'EPERM', 'the page is one of its descriptors')

  // The same attacker on an ordinary process of that user: where the system itself forbids tracing, nothing is shown.
  const other = spawn('sleep', ['100'], as)
  t.teardown(() => other.kill('SIGKILL'))
  t.equal((await attack(other.pid ?? 0)).get('ptrace'), 'leak', 'negative control')
})

test(
  'too little locked memory for what is derived from the macaroon is named, and what to raise',
  { skip },
  async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'dotfly-launcher-'))
    t.teardown(() => rmSync(directory, { recursive: true, force: true }))
    const file = join(directory, 'macaroon')
    writeFileSync(file, CREDENTIAL, { mode: 0o600 })
    for (const path of [directory, file]) chownSync(path, NOBODY, NOBODY)
    const words = ['--socket', join(directory, 'api'), '--flyd', 'http://127.0.0.1:9', '--macaroon-file', file]
    const child = spawn(
      'bash',
      [
        '-c',
        // Without what tap adds, whose hook wants to write where this user may not.
        'unset NODE_OPTIONS; ulimit -l 256 && exec "$@"',
        'bash',
        NODE,
        '--disable-warning=ExperimentalWarning',
        BIN,
        'proxy',
        ...words,
      ],
      { ...as, env: { PATH }, cwd: '/' },
    )
    const [stdout, stderr, { code }] = await Promise.all([text(child.stdout), text(child.stderr), ended(child)])
    t.match(stdout, '"code":"UNCAUGHT"')
    t.match(stderr, /^dotfly: the proxy process ended with code 70 at once: is RLIMIT_MEMLOCK too low\? raise it/m)
    t.equal(code, 1)
  },
)

test('SIGUSR1 opens no inspector in the launcher, whose port any user could dial', { skip }, async (t) => {
  const { pid, said } = await launched(t)
  process.kill(pid, 'SIGUSR1')
  // Time for an inspector to open: with one, this is where it would be dialled.
  await new Promise((later) => setTimeout(later, 500))
  const open = await new Promise<boolean>((answer) => {
    const socket = connect(9229, '127.0.0.1')
    socket.on('connect', () => answer(true)).on('error', () => answer(false))
    t.teardown(() => socket.destroy())
  })
  t.notMatch(said(), /Debugger/)
  t.equal(open, false)
  t.doesNotThrow(() => process.kill(pid, 0), 'it lives')
})

// With it V8 hashes strings as every Node of this build does: 5 ms less for whoever reads nothing that a guest chose. Who
// does must not have strings made for it that all collide.
test('the launcher alone hashes strings as everybody knows', async (t) => {
  const flag = '--no-rehash-snapshot'
  for (const name of ['dotfly.cjs', 'dotfly.js'])
    t.ok(
      readFileSync(new URL(`../../bin/${name}`, import.meta.url), 'utf8')
        .split('\n')[0]
        ?.includes(flag),
      name,
    )
  const directory = mkdtempSync(join(tmpdir(), 'dotfly-launcher-'))
  const file = join(directory, 'macaroon')
  writeFileSync(file, CREDENTIAL, { mode: 0o600 })
  const words = ['--socket', join(directory, 'api'), '--flyd', 'http://127.0.0.1:9', '--macaroon-file', file]
  const child = spawn(
    NODE,
    ['--disable-warning=ExperimentalWarning', flag, BIN, 'proxy', ...words, '--metrics', `unix:${directory}/metrics`],
    { env: { PATH }, cwd: '/' },
  )
  t.teardown(async () => {
    const end = ended(child)
    child.kill('SIGTERM')
    await end
    rmSync(directory, { recursive: true, force: true })
  })
  await until(child, /listening at/)
  const pid = child.pid ?? 0
  const commandOf = (of: number | string): string[] => readFileSync(`/proc/${of}/cmdline`, 'latin1').split('\0')
  t.ok(commandOf(pid).includes(flag), 'it is seen where it is')
  const started = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ').filter(Boolean)
  t.ok(started.length > 0)
  for (const other of started) t.notOk(commandOf(other).includes(flag), commandOf(other).slice(0, 3).join(' '))
})
