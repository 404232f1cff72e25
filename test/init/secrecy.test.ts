// The third guarantee: root that scans all memory of the daemon finds nothing. Each test has a negative control, in
// which the same attacker succeeds because one defence is off.

import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { spawnSync } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'tap'
import { hardeningOf } from '../../src/init/harden.ts'
import { CREDENTIAL, leaks } from '../support/corpus.ts'
import { startFlyd } from '../support/flyd.ts'
import { ask, MINT, READ } from '../support/guest.ts'
import { scan } from './scan.ts'
import { kill, ROOT, SERVES, SLOW, startInit, status } from './support.ts'
import type { RunningInit } from './support.ts'

const skip = ROOT ? false : 'needs root, as the attacker is'
const PYTHON = spawnSync('python3', ['--version']).status === 0 ? false : 'needs python3, the attacker'
const REQUESTS = SLOW ? 10_000 : 2_000
/** The end of the credential: its signature is there. The rest could be found in part. */
const NEEDLE = Buffer.from(CREDENTIAL.slice(-40))

async function load(init: RunningInit, requests: number): Promise<number> {
  let answered = 0
  const batch = 100
  await Promise.all(
    Array.from({ length: 8 }, async () => {
      for (let i = 0; i < requests / 8 / batch; i++) {
        const answers = await ask(init.path, (MINT + READ).repeat(batch / 2), batch, 20_000)
        answered += answers.filter(({ status }) => status === 200).length
      }
    }),
  )
  return answered
}

test(
  `${REQUESTS} requests later, root with CAP_SYS_PTRACE scans init and proxy`,
  { skip, timeout: 60_000 },
  async (t) => {
    const flyd = await startFlyd(t, 'tcp')
    const init = await startInit(t, { command: ['sleep', '100'], flyd: flyd.url })
    await init.until(/listening/)
    t.ok((await load(init, REQUESTS)) >= REQUESTS * 0.95, 'answered')
    t.ok(
      flyd.requests.some(({ raw }) => raw.includes(CREDENTIAL)),
      'with the credential',
    )
    for (const [name, pid] of [
      ['init', init.pid],
      ['proxy', init.proxy()],
    ] as const) {
      const found = scan(pid, NEEDLE)
      t.equal(found.copies, 0, `${name}: ${JSON.stringify(found)}`)
      t.ok(found.bytes > 10 << 20, 'and it did look')
    }
  },
)

test('negative control: without the secret page the same scan finds it', { skip }, async (t) => {
  const flyd = await startFlyd(t, 'tcp')
  const init = await startInit(t, {
    command: ['sleep', '100'],
    flyd: flyd.url,
    options: ['--no-harden', 'secret-page'],
  })
  await init.until(/listening/)
  await load(init, 800)
  t.ok(scan(init.proxy(), NEEDLE).copies > 0)
})

test('nothing in environ, cmdline, descriptors, files or logs, however noisy', { skip }, async (t) => {
  const flyd = await startFlyd(t, 'tcp')
  const init = await startInit(t, {
    command: ['sleep', '100'],
    flyd: flyd.url,
    options: ['--log-level', 'debug', '--macaroon-unlink'],
    env: {
      PATH: process.env['PATH'] ?? '',
      NODE_DEBUG: 'net,stream,http,fs,module',
      NODE_OPTIONS: '--report-on-signal --report-uncaught-exception',
    },
  })
  await init.until(/listening/)
  const [answer] = await ask(init.path, MINT)
  t.equal(answer?.status, 200)
  flyd.answer = (_, { socket }) =>
    socket.end(
      `HTTP/1.1 401 no\r\ncontent-type: application/json\r\ncontent-length: ${CREDENTIAL.length}\r\n\r\n${CREDENTIAL}`,
    )
  await ask(init.path, MINT)
  await ask(init.path, READ)
  const proxy = init.proxy()
  for (const pid of [init.pid, proxy]) {
    for (const file of ['environ', 'cmdline', 'maps', 'status', 'comm']) {
      t.equal(leaks(readFileSync(`/proc/${pid}/${file}`)), -1, `${pid === proxy ? 'proxy' : 'init'}: ${file}`)
    }
  }
  t.equal(readFileSync(`/proc/${proxy}/environ`, 'latin1'), '', 'the proxy has no environment at all')
  t.notOk(existsSync(`${init.directory}/macaroon`))
  kill(proxy, 'SIGUSR1')
  kill(proxy, 'SIGUSR2')
  await init.until(/\[fly api proxy\] was killed/)
  kill(init.pid, 'SIGTERM')
  await init.ended
  t.equal(leaks(Buffer.from(init.log() + init.out())), -1, 'said nothing')
  t.notMatch(init.log(), /Debugger listening|ws:\/\//)
  t.same(
    readdirSync(init.directory).filter((name) => name.startsWith('report')),
    [],
    'wrote no report',
  )
})

test(
  'a macaroon on standard input leaves the entrypoint an empty one, not a descriptor of ours',
  { skip },
  async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'dotfly-stdin-'))
    t.teardown(() => rmSync(directory, { recursive: true }))
    writeFileSync(join(directory, 'macaroon'), CREDENTIAL)
    const stdin = openSync(join(directory, 'macaroon'), 'r')
    t.teardown(() => closeSync(stdin))
    const init = await startInit(t, {
      command: ['sh', '-c', 'for fd in /proc/$$/fd/*; do echo "$(basename $fd) $(readlink $fd)"; done'],
      macaroon: ['--macaroon-fd', '0'],
      stdin,
    })
    await init.ended
    t.match(init.out(), /^0 \/dev\/null$/m)
    t.notMatch(init.out(), /macaroon|secretmem/)
  },
)

const TRACE = fileURLToPath(new URL('trace.py', import.meta.url))
/** What the kernel lets root do where no init has taken anything: what it does not let root do needs no defence. */
function traces(): boolean {
  if (process.arch !== 'x64') return false
  const { stdout } = spawnSync('python3', [TRACE, '0', NEEDLE.toString('hex')], { encoding: 'utf8' })
  return /^trace nothing$/m.test(stdout ?? '')
}

test('root runs no program of its own inside the proxy', { skip: skip === false ? PYTHON : skip }, async (t) => {
  const able = traces()
  const flyd = await startFlyd(t, 'tcp')
  for (const off of ['', 'tracing']) {
    const script = `exec 2>&1; ${SERVES}; python3 ${TRACE} 65532 ${NEEDLE.toString('hex')} "$SOCKET"; echo done`
    const init = await startInit(t, {
      flyd: flyd.url,
      command: ['sh', '-c', script],
      options: off === '' ? [] : ['--no-harden', off],
    })
    await init.ended
    t.match(init.out(), /^done$/m, 'the attacker lived')
    const [, result] = /^trace (\w+)$/m.exec(init.out()) ?? []
    if (off === '') t.equal(result, 'EPERM', init.out())
    else if (able) t.equal(result, 'leak', 'negative control: without the filter it is read')
    else t.comment('this kernel lets root trace nothing: no control')
  }
})

test('the proxy gives up what it can', { skip }, async (t) => {
  const init = await startInit(t, { command: ['sleep', '100'] })
  await init.until(/listening/)
  const proxy = init.proxy()
  t.equal(status(proxy, 'Uid'), '65532\t65532\t65532\t65532')
  t.equal(status(proxy, 'Gid'), '65532\t65533\t65533\t65533')
  t.equal(status(proxy, 'Groups'), '')
  for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapAmb']) t.equal(status(proxy, set), '0000000000000000', set)
  t.equal(status(proxy, 'NoNewPrivs'), '1')
  for (const pid of [proxy, init.pid]) t.match(readFileSync(`/proc/${pid}/limits`, 'latin1'), /Max core file size\s+0 /)
  t.match(readFileSync(`/proc/${proxy}/maps`, 'latin1'), /secretmem/, 'holds the page')
  t.notMatch(readFileSync(`/proc/${init.pid}/maps`, 'latin1'), /secretmem/, 'init does not map it')
  const found = new Map(hardeningOf(init.pid, proxy).map(({ step, state }) => [step, state]))
  const seen = ['dumpable', 'core', 'mounts', 'proxy-user', 'new-privileges', 'permission', 'secret-page'] as const
  for (const step of seen) t.equal(found.get(step), 'on', `doctor sees ${step}`)
})

test('a crash leaves no core', { skip }, async (t) => {
  const init = await startInit(t, { command: ['sleep', '100'] })
  await init.until(/listening/)
  kill(init.proxy(), 'SIGSEGV')
  await init.until(/was killed by SIGSEGV/)
  await init.until(/listening[^]*listening/)
  t.pass('and is started again')
})
