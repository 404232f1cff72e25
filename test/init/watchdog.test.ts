// A trusted process that hangs is killed and started again; one that is busy, starved or was suspended is left alone.
// Nothing here is timed: each look of the watchdog is this test's.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { test, type Test } from 'tap'
import { launchProxy, openProxy } from '../../src/init/launch.ts'
import type { ProxyOptions } from '../../src/init/options.ts'
import { ask as probe } from '../../src/init/probe.ts'
import { judge, PATIENCE } from '../../src/init/watchdog.ts'
import { activityOf } from '../../src/os/processes.ts'
import { Children } from '../../src/os/wait.ts'
import type { Event } from '../../src/proxy/event.ts'
import { APP, CREDENTIAL, MACHINE } from '../support/corpus.ts'
import { startFlyd } from '../support/flyd.ts'
import { ask, MINT } from '../support/guest.ts'
import { kill, ROOT, SLOW, startInit } from './support.ts'

interface Watched {
  pid(): number
  readonly path: string
  readonly events: Event[]
  readonly said: string[]
  /** So many looks, with whatever has come in between. */
  look(times: number): Promise<void>
  /** Authorization of each request that flyd has seen. */
  seen(): (string | undefined)[]
}

async function watched(t: Test): Promise<Watched> {
  const directory = mkdtempSync(join(tmpdir(), 'dotfly-'))
  const macaroon = join(directory, 'macaroon')
  writeFileSync(macaroon, CREDENTIAL, { mode: 0o600 })
  const path = join(directory, 'api')
  const flyd = await startFlyd(t)
  const events: Event[] = []
  const said: string[] = []
  const children = new Children()
  const options: ProxyOptions = {
    sockets: [{ path, mode: 0o700, policy: 'self', allow: [], audiences: [] }],
    flyd: flyd.url,
    macaroon: { file: macaroon },
    app: APP,
    machine: MACHINE,
  }
  const proxy = await launchProxy(options, await openProxy(options), (event) => events.push(event), {
    children,
    steps: new Set(),
    restarting: (why) => said.push(why),
    untidy: (why) => said.push(why),
    watched: (why) => said.push(why),
  })
  t.teardown(async () => {
    await proxy.stop()
    children.close()
    rmSync(directory, { recursive: true })
  })
  await proxy.ready
  return {
    pid: () => proxy.pid,
    path,
    events,
    said,
    async look(times) {
      for (let i = 0; i < times; i++) {
        proxy.look()
        await turn()
      }
    },
    seen: () => flyd.requests.map(({ fields }) => fields.find(([name]) => name.toLowerCase() === 'authorization')?.[1]),
  }
}

async function stop(pid: number): Promise<void> {
  kill(pid, 'SIGSTOP')
  while (activityOf(pid)?.state !== 'T') await turn()
}

test('SIGSTOP: who hangs is killed and started again, with the credential, and nobody is refused', async (t) => {
  const proxy = await watched(t)
  await ask(proxy.path, MINT)
  const stopped = proxy.pid()
  await stop(stopped)
  const waiting = ask(proxy.path, MINT, 1, 60_000) // it connects, and is answered by the next process
  // The first look meets this process, the others wait for its answer.
  await proxy.look(PATIENCE)
  t.equal(activityOf(stopped)?.state, 'T', 'a little less than the patience it is left alone')
  t.same(proxy.said, [])
  await proxy.look(1)
  t.same(
    (await waiting).map(({ status }) => status),
    [200],
  )
  t.match(proxy.said, ['has not answered for 30 s: it is killed', 'was killed by SIGKILL'])
  t.equal(proxy.said.length, 2)
  t.not(proxy.pid(), stopped)
  t.same(proxy.seen(), [CREDENTIAL, CREDENTIAL])
  const exchanges = proxy.events.filter(({ kind }) => kind === 'exchange' || kind === 'listening')
  t.notOk(
    exchanges.some((event) => 'socket' in event && event.socket > 0),
    'of the questions nothing is told',
  )
})

test('who answers in the end is left alone, however often it is looked at', async (t) => {
  const proxy = await watched(t)
  const pid = proxy.pid()
  for (let round = 0; round < 3; round++) {
    await stop(pid)
    await proxy.look(PATIENCE)
    kill(pid, 'SIGCONT')
    // The watchdog's question came before this one.
    t.ok(await probe(`${proxy.path}.probe`))
    await turn()
  }
  for (let i = 0; i < 3 * PATIENCE; i++) {
    await proxy.look(1)
    t.ok(await probe(`${proxy.path}.probe`))
    await turn()
  }
  t.equal(proxy.pid(), pid)
  t.same(proxy.said, [])
})

test('what a look finds is judged by what the process does, never by a clock', async (t) => {
  const after = (...states: [state: string, cpu: number][]): boolean[] => {
    const isHung = judge()
    isHung(7, true, { state: 'S', cpu: 1 })
    return states.map(([state, cpu]) => isHung(7, false, { state, cpu }))
  }
  const times = (n: number, state: string, cpu: (i: number) => number): [string, number][] =>
    Array.from({ length: n }, (_, i) => [state, cpu(i)])
  const last = (...states: [string, number][]): boolean | undefined => after(...states).at(-1)

  t.same(after(...times(PATIENCE, 'T', () => 1)), [...Array<boolean>(PATIENCE - 1).fill(false), true], 'stopped')
  t.equal(last(...times(PATIENCE, 'S', () => 1)), true, 'asleep, with a question before it')
  t.equal(last(...times(PATIENCE, 'R', (i) => 1 + 5 * i)), true, 'in a loop')
  t.equal(last(...times(100, 'R', (i) => 1 + i / 100)), false, 'it gets no CPU: others are in a loop')
  t.equal(last(...times(100, 'D', () => 1)), false, 'the disk')
  t.equal(last(...times(100, 't', () => 1)), false, 'a debugger')

  const isHung = judge()
  for (let i = 0; i < PATIENCE; i++) t.notOk(isHung(7, false, undefined), 'met, and not yet hung')
  t.notOk(isHung(8, false, undefined), 'another process has the same patience')
  for (let i = 1; i < PATIENCE; i++) t.notOk(isHung(8, false, undefined))
  t.ok(isHung(8, false, undefined), 'and without /proc silence is enough')
  t.notOk(judge()(-1, false, undefined), 'there is none')
})

test(
  'dotfly init looks by itself',
  { skip: SLOW && ROOT ? false : 'takes 35 s; in CI', timeout: 180_000 },
  async (t) => {
    const flyd = await startFlyd(t, 'tcp')
    const init = await startInit(t, { command: ['sleep', '170'], flyd: flyd.url, namespace: false })
    await init.until(/listening at/)
    const stopped = init.proxy()
    await stop(stopped)
    const [answer] = await ask(init.path, MINT, 1, 170_000)
    t.equal(answer?.status, 200)
    t.match(init.log(), /WARN \[fly api proxy\] has not answered for 30 s: it is killed\n/)
    t.not(init.proxy(), stopped)
    t.throws(() => readFileSync(`/proc/${stopped}/stat`), 'it is gone')
  },
)
