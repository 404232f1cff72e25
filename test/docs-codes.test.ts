// docs/codes.md has every code that the command line prints, in the words of the source.

import { readFileSync } from 'node:fs'
import { test } from 'tap'
import { FILE, NO_TOKEN, NOTICE, PROBLEM } from '../src/cli/keep.ts'
import { type Finding, FINDINGS } from '../src/doctor/finding.ts'

const text = readFileSync(new URL('../docs/codes.md', import.meta.url), 'utf8')

/** Rows of the table below a heading, cell by cell. */
const rows = (heading: string): string[][] =>
  [...(text.split(`\n## ${heading}\n`)[1] ?? '').split('\n## ')[0]!.matchAll(/^\| `([A-Z_]+)` \| (.*) \|$/gm)].map(
    ([, code = '', cells = '']) => [code, ...cells.split(' | ')],
  )

const TABLES = {
  'No token': NO_TOKEN,
  'A file that cannot be written': FILE,
  'A variable that is wrong': PROBLEM,
  'A variable that is left as it is': NOTICE,
}

for (const [heading, codes] of Object.entries(TABLES))
  test(`${heading}: each code, and what is said of it`, async (t) => {
    t.same(rows(heading), Object.entries(codes))
  })

test('doctor: each finding, how bad it is, and the fix', async (t) => {
  const expected = Object.entries(FINDINGS).map(([code, { level, what, fix }]) => {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the keys of a const
    const finding: Finding = { code: code as Finding['code'], about: 'PLACE', seen: 'FOUND', wanted: 'WANTED' }
    return [code, level, what(finding), fix(finding)]
  })
  t.ok(expected.length > 20)
  t.same(rows('What dotfly doctor finds'), expected)
})
