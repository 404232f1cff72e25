import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { test } from 'tap'
import { dotfly, ended, start, until } from './dotfly.ts'

const run = promisify(execFile)

test('demo: the curl line that it prints gets a token, and Ctrl-C leaves nothing behind', async (t) => {
  const child = start(['demo'], {}, true)
  t.teardown(() => child.kill('SIGKILL'))
  const done = ended(child)
  const said = await until(child, /Ctrl-C ends the demo/)
  const line =
    /^curl --unix-socket (\S+) -X POST http:\/\/localhost\/v1\/tokens\/oidc --data '\{"aud":"sts\.amazonaws\.com"\}'$/m.exec(
      said,
    )
  t.ok(line, 'the line is there, exactly')
  const socket = line?.[1] ?? ''
  const { stdout: token } = await run('sh', ['-c', `${line?.[0]} -sS`])
  t.match(token, /^[\w-]+\.[\w-]+\.[\w-]+$/)
  const discovery = /^curl (\S+openid-configuration)$/m.exec(said)?.[1] ?? ''
  const published: { issuer: string } = JSON.parse((await run('curl', ['-sS', discovery])).stdout)
  const claims = await dotfly(['token', '--socket', socket, '--claims', '--aud', 'x'])
  t.match(JSON.parse(claims.stdout), { aud: 'x', sub: 'example:weather-cat:ancient-snow-4824', iss: published.issuer })
  // Ctrl-C on a terminal reaches every process of the group at once: the children too.
  process.kill(-(child.pid ?? 0), 'SIGINT')
  t.strictSame(await done, { code: 0, signal: null })
  t.notOk(existsSync(dirname(socket)), 'its directory is gone')
})

test('demo: a temporary directory that is too deep for a socket is refused, and left clean', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'cli-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const deep = join(dir, 'd'.repeat(100))
  mkdirSync(deep)
  t.match(await dotfly(['demo'], { TMPDIR: deep }), {
    code: 2,
    stdout: '',
    stderr: /^dotfly: socket path .* bytes long: 107 is the most/,
  })
  t.strictSame(readdirSync(deep), [])
})

test('mock --json: what mock.json holds, on one line, when everything answers', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'cli-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const child = start(['mock', '--dir', dir, '--json'])
  t.teardown(() => child.kill('SIGKILL'))
  const done = ended(child)
  const said = await until(child, /\n/)
  t.strictSame(JSON.parse(said), JSON.parse(readFileSync(join(dir, 'mock.json'), 'utf8')))
  child.kill('SIGINT')
  t.strictSame(await done, { code: 0, signal: null })
})

test('mock: a line for each Machine, then ready; Ctrl-C keeps what others put into the directory', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'cli-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const child = start(['mock', '--dir', dir])
  t.teardown(() => child.kill('SIGKILL'))
  const done = ended(child)
  const said = await until(child, /^ready: /m)
  const mock: { machines: { org: string; app: string; name: string }[] } = JSON.parse(
    readFileSync(join(dir, 'mock.json'), 'utf8'),
  )
  t.ok(mock.machines.length > 0)
  for (const { org, app, name } of mock.machines) t.match(said, `Machine ${org}:${app}:${name} (`)
  child.kill('SIGINT')
  t.strictSame(await done, { code: 0, signal: null })
  t.ok(readdirSync(dirname(dir)).includes(dir.slice(dirname(dir).length + 1)), 'the directory was not its own')
})
