// What the documents say must be so.

import { readdirSync, readFileSync } from 'node:fs'
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

const root = new URL('../', import.meta.url)
const read = (path: string): string => readFileSync(new URL(path, root), 'utf8')

test('docs/threat-model.md: every proof is a test that exists', async (t) => {
  const tests = readdirSync(new URL('test/', root), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.test.ts'))
    .map((path) => read(`test/${path}`))
    .join('\n')
  const rows = [...read('docs/threat-model.md').matchAll(/^\| [A-Z].* \| .* \| (\*.+\*) \|$/gm)]
  const proofs = rows.flatMap(([, cell = '']) =>
    [...cell.matchAll(/\*([^*]+(?:\*[^*;]+)*?)\*(?:; |$)/g)].map(([, name = '']) => name),
  )
  t.ok(rows.length >= 15 && proofs.length >= rows.length, `${rows.length} claims, ${proofs.length} proofs`)
  for (const proof of proofs) t.ok(tests.includes(proof) || tests.includes(proof.replace(/^\d+/, '${REQUESTS}')), proof)
})

test('docs/threat-model.md: what to read, in order, is all of the trusted code, with its real number of lines', async (t) => {
  const rows = [...read('docs/threat-model.md').matchAll(/^\| `(src\/[a-z/.-]+)` \| ([0-9]+) \|/gm)].map(
    ([, path = '', lines]) => [path, Number(lines)],
  )
  const real = rows.map(([path]) => [path, read(String(path)).trimEnd().split('\n').length])
  t.same(rows, real)
  const trusted = readdirSync(new URL('src/proxy/', root)).map((name) => `src/proxy/${name}`)
  t.same(
    trusted.filter((path) => !rows.some(([listed]) => listed === path)),
    [],
    'none is left out',
  )
})

test('docs/recording.svg: one file without script, link or credential, small enough for a page', async (t) => {
  const svg = read('docs/recording.svg')
  t.ok(svg.length < 100_000, `${svg.length} characters`)
  t.notMatch(svg, /<script|href|url\(|@import|<foreignObject|\son[a-z]+=/i)
  t.notMatch(svg, /FlyV1|fm[12][ar]?_|\/(?:root|home|work)\//)
  // What was typed is in pieces, as it was typed.
  const text = svg.replaceAll(/<style>[^]*<\/style>|<[^>]*>|\s/g, '')
  for (const seen of ['npm start', 'dotfly token', 'dotfly doctor', 'dotfly canary --quick', 'nothing leaked'])
    t.ok(text.includes(seen.replaceAll(' ', '')), `shows ${seen}`)
})
