// Whoever hands on the single executable hands on what others have written, and the texts that let him.

import { realpathSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { test } from 'tap'
import { notices, ofNode, ofPackages } from '../../build/licenses.ts'
import { bundles } from '../../build/modules.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

test('every package that is in the executable is in NOTICES, with its licence', async (t) => {
  const { inputs, modules } = await bundles('0')
  const found = ofPackages(inputs)
  const names = found.map(({ what }) => what.split(' ')[0] ?? '')
  for (const name of ['commander', 'undici', 'pino', 'jose', 'prom-client']) t.ok(names.includes(name), name)
  t.strictSame(names, [...new Set(names)].toSorted(), 'each once')
  // What the bundler says in its own output is in there is counted by another way: its comments.
  const told = [...modules.values()].flatMap((text) =>
    [...text.matchAll(/^ *\/\/ node_modules\/((?:@[^/]+\/)?[^/\n]+)\//gm)].map(([, name = '']) => name),
  )
  t.ok(told.length > 10)
  t.strictSame(
    [...new Set(told)].filter((name) => !names.includes(name)),
    [],
    'none is left out',
  )
  for (const { what, text } of found) t.match(text, /permission|license/i, what)
  t.match(notices(found), new RegExp(`\n={80}\nundici [0-9.]+ \\(MIT\\)\n={80}\n\n`))
})

test('Node comes with its own, which has those of V8 and OpenSSL in it', async (t) => {
  const { text } = ofNode(realpathSync(process.execPath))
  for (const part of ['V8', 'OpenSSL', 'libuv', 'ICU']) t.match(text, part)
})

test('a package without a text cannot be handed on', async (t) => {
  const directory = t.testdir({ node_modules: { bare: { 'package.json': '{"name":"bare","version":"1.0.0"}' } } })
  const file = `${directory.replace(root, '')}/node_modules/bare/index.js`
  t.throws(() => ofPackages([file]), { message: /^bare has no file with its licence/ })
})
