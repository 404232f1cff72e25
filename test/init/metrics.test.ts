// dotfly init --metrics: a process of its own counts, and PID 1 speaks no HTTP.

import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { test } from 'tap'
import { childrenOf, kill, ROOT, startInit, status } from './support.ts'

const run = promisify(execFile)
const curl = async (socket: string, path: string): Promise<string> =>
  (await run('curl', ['-s', '--unix-socket', socket, `http://localhost${path}`])).stdout

/** Asks until the answer is right, for a process that is on its way. */
async function until(ask: () => Promise<string>, right: RegExp): Promise<string> {
  for (;;) {
    const answer = await ask().catch(() => '')
    if (right.test(answer)) return answer
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

const counterOf = (init: number): number =>
  childrenOf(init).find((pid) => readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('metrics/main')) ?? 0

test('init --metrics: exchanges, restarts and health; no scrape is refused, and the entrypoint ends it', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'dotfly-metrics-'))
  t.teardown(() => rmSync(directory, { recursive: true }))
  const metrics = join(directory, 'metrics')
  const init = await startInit(t, {
    command: ['sleep', '60'],
    namespace: false,
    options: ['--metrics', `unix:${metrics}`],
  })
  await init.until(/listening at/)
  t.match(await curl(init.path, '/nowhere'), 'ROUTE_NOT_SERVED')
  await until(() => curl(metrics, '/healthz'), /^serving/)
  await until(() => curl(metrics, '/metrics'), /dotfly_exchanges_total\{.*code="ROUTE_NOT_SERVED"\} 1/)
  const counter = counterOf(init.pid)
  if (ROOT) {
    t.equal(status(counter, 'Uid').split('\t')[0], '65531', 'as a user of its own')
    t.equal(status(counter, 'CapEff'), '0000000000000000')
  }

  kill(init.proxy(), 'SIGKILL')
  await init.until(/was killed by SIGKILL, starting it again/)
  await until(() => curl(metrics, '/metrics'), /dotfly_proxy_starts_total 2/)
  t.match(await until(() => curl(metrics, '/healthz'), /^serving/), 'serving')

  kill(counter, 'SIGKILL')
  t.equal(await curl(metrics, '/healthz').then((text) => text !== ''), true, 'a scrape meanwhile waits for the next')
  await init.until(/\[metrics\] their process was killed by SIGKILL, starting it again/)
  t.equal(await until(() => curl(metrics, '/healthz'), /^serving/), 'serving\n', 'the next one knows what is served')

  kill(init.pid, 'SIGTERM')
  await init.ended
  t.equal(await curl(metrics, '/healthz').catch(() => 'gone'), 'gone')
})

test('init --metrics: an address that is taken is said, and the boot goes on', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => taken.on('listening', resolve))
  t.teardown(() => taken.close())
  const at = taken.address()
  const port = typeof at === 'object' ? at?.port : 0
  const heard = join(t.testdir(), 'heard')
  const init = await startInit(t, {
    command: ['sh', '-c', `until [ -e ${heard} ]; do sleep 0.05; done; exit 7`],
    namespace: false,
    options: ['--metrics', `127.0.0.1:${port}`],
  })
  await init.until(/\[metrics\] cannot serve metrics at 127\.0\.0\.1:\d+: it is in use, choose another: there are none/)
  writeFileSync(heard, '')
  t.equal((await init.ended).code, 7)
  t.notMatch(init.log(), /starting it again/)
})
