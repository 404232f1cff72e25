import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'tap'
import { proxyBehind } from '../../src/doctor/proxy.ts'
import { ended, start, until } from '../cli/dotfly.ts'

test('of several proxies, the one behind the socket that was asked about', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'behind-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  writeFileSync(join(dir, 'macaroon'), `FlyV1 fm2_${'A1b2'.repeat(40)}\n`)
  const launchers = ['a', 'b', 'c'].map((name) => {
    const socket = join(dir, name)
    const source = ['--macaroon-file', join(dir, 'macaroon'), '--flyd', `unix:${join(dir, 'flyd')}`]
    const child = start(['proxy', ...source, '--socket', socket])
    t.teardown(() => child.kill('SIGKILL'))
    return { socket, child }
  })
  for (const { child } of launchers) await until(child, /listening at/)
  const pids = new Set<number>()
  for (const { socket, child } of launchers) {
    const found = proxyBehind(socket)
    t.equal(found?.parent, child.pid, socket)
    pids.add(found?.pid ?? 0)
  }
  t.equal(pids.size, launchers.length, 'each has a process of its own')
  t.ok(proxyBehind(join(dir, 'nobody')) !== undefined, 'where the socket says nothing, the first there is')
  for (const { child } of launchers) {
    const done = ended(child)
    child.kill('SIGTERM')
    t.strictSame(await done, { code: 0, signal: null })
  }
})
