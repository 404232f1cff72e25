// The canary is a check, so it must be able to fail.

import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'tap'
import { dotfly } from '../cli/dotfly.ts'

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
