// dotfly strip, as a process: what comes out, and what it says of it.

import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer, text } from 'node:stream/consumers'
import { test } from 'tap'
import { dotfly, start } from './dotfly.ts'

test('strip: every run goes, nothing else does, and each is told without its bytes', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'strip-'))
  t.teardown(() => rmSync(directory, { recursive: true }))
  const file = join(directory, 'macaroon')
  const token = `tok.${randomBytes(60).toString('base64url')}`
  writeFileSync(file, `FlyV1 ${token}\n`)
  const hex = Buffer.from(token).toString('hex')
  const innocent = randomBytes(300_000).toString('base64')
  const child = start(['strip', '--macaroon-file', file])
  child.stdin!.end(`${innocent}<${token}> in between <${hex}>`)
  const [out, said] = await Promise.all([buffer(child.stdout!), text(child.stderr!)])
  const expected = `${innocent}<${'*'.repeat(token.length)}> in between <${'*'.repeat(hex.length)}>`
  t.ok(out.equals(Buffer.from(expected)), 'same length, blanked, all else as it was')
  const hits = said.trim().split('\n')
  t.equal(hits.length, 2)
  t.match(hits[0], new RegExp(`^offset ${innocent.length + 1}, ${token.length} bytes: `))
  t.match(hits[1], new RegExp(`^offset ${expected.length - hex.length - 1}, ${hex.length} bytes: hex of`))
  t.notOk(said.includes(token.slice(4, 12)))
})

test('strip --json: the same runs, a JSON object a line', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'strip-'))
  t.teardown(() => rmSync(directory, { recursive: true }))
  const file = join(directory, 'macaroon')
  const token = `tok.${randomBytes(60).toString('base64url')}`
  writeFileSync(file, `FlyV1 ${token}\n`)
  const input = `<${token}>`.repeat(300)
  const told = async (...more: string[]): Promise<string> => {
    const child = start(['strip', '--macaroon-file', file, ...more])
    child.stdin!.end(input)
    const [out, said] = await Promise.all([text(child.stdout!), text(child.stderr!)])
    t.equal(out, `<${'*'.repeat(token.length)}>`.repeat(300))
    return said
  }
  const lines: { offset: number; length: number; spelling: string }[] = (await told('--json'))
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  t.equal(lines.length, 300)
  t.equal(
    lines.map(({ offset, length, spelling }) => `offset ${offset}, ${length} bytes: ${spelling}\n`).join(''),
    await told(),
  )
})

test('strip: an empty input is an empty output, a wrong file one line', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'strip-'))
  t.teardown(() => rmSync(directory, { recursive: true }))
  const file = join(directory, 'macaroon')
  writeFileSync(file, 'FlyV1 short')
  t.strictSame(await dotfly(['strip', '--macaroon-file', file]), {
    code: 1,
    stdout: '',
    stderr: `dotfly: macaroon file ${file} is too short for a macaroon\n`,
  })
  t.match(await dotfly(['strip']), { code: 2, stderr: /^dotfly: no macaroon: name its file/ })
})
