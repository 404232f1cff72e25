// The canary is a check, so it must be able to fail.

import { spawn } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'tap'
import { BIN, dotfly, ended, NODE, plain } from '../cli/dotfly.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))

test('canary: nothing leaks, and a proxy without its filter is found out', async (t) => {
  const good = await dotfly(['canary', '--quick', '--seed', 'a'])
  t.equal(good.code, 0, good.stdout + good.stderr)
  t.match(good.stdout, /nothing leaked \(seed a\)/)

  // A copy of the source in which strip releases what it is given.
  const copy = mkdtempSync(join(tmpdir(), 'dotfly-leaky-'))
  t.teardown(() => rmSync(copy, { recursive: true }))
  cpSync(join(root, 'src'), join(copy, 'src'), { recursive: true })
  cpSync(join(root, 'bin'), join(copy, 'bin'), { recursive: true })
  cpSync(join(root, 'package.json'), join(copy, 'package.json'))
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'))
  const exchange = join(copy, 'src/proxy/exchange.ts')
  const text = readFileSync(exchange, 'utf8')
  const leaky = text.replace('if (this.#isHeld) this.#hold(bytes)', 'if (bytes) this.#hold(bytes)')
  t.not(leaky, text, 'the line is there to be broken')
  writeFileSync(exchange, leaky)
  const bad = await dotfly(['canary', '--quick', '--json', '--seed', 'a'], {}, join(copy, 'bin/dotfly.ts'))
  t.equal(bad.code, 1)
  const { leaks } = JSON.parse(bad.stdout) as { leaks: { position: string }[] }
  t.ok(
    leaks.length > 0 && leaks.every(({ position }) => position.startsWith('body')),
    `${leaks.length} leaks, all in bodies`,
  )
})

test('canary: whoever interrupts it finds neither its directory nor its proxy afterwards', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'dotfly-interrupted-'))
  chmodSync(directory, 0o755) // the proxy is another user
  t.teardown(() => rmSync(directory, { recursive: true }))
  const child = spawn(NODE, ['--disable-warning=ExperimentalWarning', BIN, 'canary'], {
    env: { ...plain(), TMPDIR: directory },
    stdio: 'ignore',
  })
  const end = ended(child)
  const socket = (): boolean => readdirSync(directory).some((name) => existsSync(join(directory, name, 'api')))
  while (!socket() && child.exitCode === null) await new Promise((later) => setTimeout(later, 20))
  child.kill('SIGINT')
  t.strictSame(await end, { code: 130, signal: null })
  t.strictSame(readdirSync(directory), [])
})
