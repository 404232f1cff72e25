// dotfly init --canary, as a process: the proof comes before anything is served.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'tap'
import { dotfly } from '../cli/dotfly.ts'

test('init --canary proves that nothing leaks, and then runs the entrypoint', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'init-canary-'))
  t.teardown(() => rmSync(directory, { recursive: true }))
  const file = join(directory, 'macaroon')
  writeFileSync(file, `FlyV1 ${'x'.repeat(80)}`)
  const words = [
    '--no-harden=all',
    '--macaroon-file',
    file,
    '--socket',
    join(directory, 'api'),
    '--flyd',
    `unix:${join(directory, 'flyd')}`,
  ]
  const { code, stdout, stderr } = await dotfly([
    'init',
    '--canary',
    ...words,
    '--',
    '/bin/sh',
    '-c',
    'echo served; exit 7',
  ])
  t.equal(code, 7, stderr)
  t.equal(stdout, 'served\n')
  t.match(stderr, /Canary: \d+ hostile answers, nothing leaked[^]*Preparing to run/)
})
