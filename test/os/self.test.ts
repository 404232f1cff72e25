// Where the parts of this program lie.

import { statSync } from 'node:fs'
import { test } from 'tap'
import { executable } from '../../src/os/self.ts'
import type { Part } from '../../src/os/self.ts'

const PARTS: readonly Part[] = ['proxy', 'filter', 'identity', 'metrics', 'issuer']

for (const part of PARTS) {
  test(`${part}: flags come before the entry, words behind it, and both exist`, async (t) => {
    const { file, args, readable } = executable(part)
    t.equal(file, process.execPath)
    const [flag, entry = '', ...words] = args(['--flag'], ['one', 'two'])
    t.equal(flag, '--flag')
    t.ok(statSync(entry).isFile())
    t.strictSame(words, ['one', 'two'])
    t.ok(
      readable.some((path) => entry.startsWith(path)),
      'who may read what is readable can read the entry',
    )
  })
}
