// What the documents say must be so.

import { readFileSync } from 'node:fs'
import { test } from 'tap'
import { STATUS } from '../src/proxy/event.ts'

test('docs/http.md lists every code with its status, and no other', async (t) => {
  const text = readFileSync(new URL('../docs/http.md', import.meta.url), 'utf8')
  const rows = [...text.matchAll(/^\| `([A-Z_]+)` \| ([0-9]{3}) \|/gm)].map(([, code, status]) => [
    code,
    Number(status),
  ])
  t.same(Object.fromEntries(rows), STATUS)
})
