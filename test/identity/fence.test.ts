// The walls around the keeper that dotfly init starts, tried from inside: without the fence each of these succeeds.

import { execFile, spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { test, type Test } from 'tap'
import type { Launch } from '../../src/identity/main.ts'
import { FLAGS } from '../../src/init/tokens.ts'
import { landlockVersion } from '../../src/os/landlock.ts'
import { executable } from '../../src/os/self.ts'
import { status } from '../init/support.ts'
import { directory, issuer, until } from './support.ts'

const run = promisify(execFile)
const skip = process.getuid?.() === 0 ? false : 'needs root, which is what is given up'
const KEEPER = executable('identity')
const INSIDE = fileURLToPath(new URL('fenced.ts', import.meta.url))

async function inside(t: Test, fenced: boolean, flags: readonly string[]): Promise<unknown> {
  const dir = directory(t)
  mkdirSync(join(dir, 'fly'))
  writeFileSync(join(dir, 'other'), 'secret', { mode: 0o600 })
  writeFileSync(join(dir, 'program'), '#!/bin/sh\n')
  chmodSync(join(dir, 'program'), 0o755)
  const server = createServer((socket) => socket.destroy())
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  t.teardown(() => server.close())
  const address = server.address()
  const port = typeof address === 'object' ? address?.port : 0
  const [token, other, program] = ['fly/token', 'other', 'program'].map((name) => join(dir, name))
  const task = JSON.stringify({ fenced, token, other, program, port })
  // Not by itself: tap puts modules of its own into every Node that is started.
  const { stdout } = await run('env', ['-i', process.execPath, ...flags, INSIDE, task])
  return JSON.parse(stdout)
}

const BY_LANDLOCK = {
  read: 'EACCES',
  write: 'EACCES',
  create: 'EACCES',
  below: 'EACCES',
  move: /^(EACCES|EXDEV)$/,
  remove: 'EACCES',
  run: 'EACCES',
  nodeRead: 'EACCES',
}
const KEPT = { keep: 'done', again: 'done', outgrown: false, look: 'done' }

const landlock = landlockVersion()

test('behind the fence there are the token files, and no more of the Machine', { skip }, async (t) => {
  t.match(await inside(t, true, FLAGS), {
    ...KEPT,
    root: 'EPERM',
    nodeOwn: 'ERR_ACCESS_DENIED',
    nodeRun: 'ERR_ACCESS_DENIED',
    ...(landlock === 0 ? {} : BY_LANDLOCK),
    ...(landlock < 4 ? {} : { tcp: 'EACCES' }),
    ...(landlock < 6 ? {} : { signal: 'EPERM' }),
  })
})

test('and without it all of that can be done, so that the test above can fail', { skip }, async (t) => {
  t.match(await inside(t, false, ['--disable-warning=ExperimentalWarning']), {
    ...KEPT,
    read: 'done',
    write: 'done',
    create: 'done',
    below: 'done',
    move: 'done',
    remove: 'done',
    run: 'done',
    signal: 'done',
    root: 'done',
    tcp: 'done',
    nodeRun: 'done',
  })
})

test('a keeper whose directory was removed or exchanged ends, for only another can write there', async (t) => {
  for (const exchange of [false, true]) {
    const { socket } = await issuer(t, 3)
    const dir = join(directory(t), 'fly')
    const path = join(dir, 'token')
    const file = { cloud: 'custom', path, mode: 0o600, audience: 'x', format: 'raw' } as const
    const plan = { env: {}, files: [file], settings: [], problems: [], notices: [] }
    const launch: Launch = { plan, socket, wait: { limit: 5000, otherwise: 'fail' } }
    const child = spawn('env', ['-i', KEEPER.file, ...KEEPER.args(FLAGS, [JSON.stringify(launch)])])
    t.teardown(() => child.kill('SIGKILL'))
    let said = ''
    child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()))
    const code = new Promise((resolve) => child.on('close', resolve))
    t.ok(await until(() => said.includes('"started"'), 20_000), said)
    // `env` has become it.
    if (skip === false) t.equal(status(child.pid ?? 0, 'CapPrm'), '0000000000000002', 'nobody else is given a file')
    rmSync(dir, { recursive: true })
    if (exchange) mkdirSync(dir)
    if (exchange && landlock === 0) {
      t.ok(await until(() => existsSync(path), 30_000), 'without Landlock one directory is as good as another')
      continue
    }
    t.equal(await code, 1, said)
    // An exchange takes two steps, and the keeper may have looked between them.
    t.match(said, exchange ? /"unwritten".*(NOT_PERMITTED|DIRECTORY_MISSING)/ : /"unwritten".*DIRECTORY_MISSING/)
  }
})
