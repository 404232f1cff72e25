// Init and the proxy keep the files as they were mounted at the start; the programs of the image have their own, and all that
// a program may do with mounts.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'tap'
import { hardeningOf } from '../../src/init/harden.ts'
import { startMock } from '../../src/mock/start.ts'
import { CREDENTIAL } from '../support/corpus.ts'
import { ATTACK, childrenOf, directory, keeperOf, kill, NEEDLE, ROOT, SERVES, startInit } from './support.ts'

const skip = ROOT ? false : 'needs root, for a PID namespace'
const sh = (script: string): string[] => ['sh', '-c', script]

test('the entrypoint is where init was started, at the root of its mounts', { skip }, async (t) => {
  const init = await startInit(t, {
    // Whoever has left the root of its mounts may make no user namespace, which sandboxes of browsers need.
    command: sh('pwd; stat -c "root %d:%i" /; grep -c . /proc/self/mountinfo; unshare --user echo a namespace'),
    before: 'cd /usr/lib',
  })
  await init.ended
  t.match(init.out(), /^\/usr\/lib\nroot \d+:\d+\n[1-9]\d*\na namespace\n$/, init.log())
})

test('a program of the image mounts what it likes, and init with the proxy sees none of it', { skip }, async (t) => {
  const on = directory(t)
  const init = await startInit(t, {
    command: sh(`mount -t tmpfs none ${on}; touch ${on}/file; echo mounted; exec sleep 100`),
  })
  await init.until(/^mounted$/m)
  await init.until(/listening at/)
  const [program = 0] = childrenOf(init.pid).filter((pid) => pid !== init.proxy())
  t.ok(existsSync(`/proc/${program}/root${on}/file`))
  for (const pid of [init.pid, init.proxy()]) t.notOk(existsSync(`/proc/${pid}/root${on}/file`))
  const found = hardeningOf(init.pid, init.proxy()).find(({ step }) => step === 'mounts')
  t.equal(found?.state, 'on')
})

const PROXY = fileURLToPath(new URL('../../src/proxy/main.ts', import.meta.url))
const PYTHON = spawnSync('python3', ['--version']).status === 0 ? false : 'needs python3, the attacker'

test(
  'what root mounts over the code of the proxy, or on the very file that it has opened, no next proxy loads',
  { skip: skip === false ? PYTHON : skip },
  async (t) => {
    const find = `for p in /proc/[0-9]*; do grep -q '^dotfly' $p/cmdline && basename $p; done`
    for (const { options = [], before, had } of [
      { had: /^fanotify ENOENT\novermount restarted$/m },
      // As systemd leaves them: what is mounted on one is mounted on its copies.
      { had: /^fanotify ENOENT\novermount restarted$/m, before: 'mount --make-rshared /' },
      { had: /^fanotify leak\novermount leak$/m, options: ['--no-harden', 'mounts'] },
    ]) {
      const attack = `python3 ${ATTACK} $(${find}) ${NEEDLE} module=${PROXY} socket="$SOCKET"`
      const init = await startInit(t, {
        command: sh(`exec 2>&1; ${SERVES}; ${attack}; echo done`),
        options,
        ...(before === undefined ? {} : { before }),
      })
      await init.ended
      t.match(init.out(), /^done$/m, 'the attacker lived')
      t.match(init.out(), had, before ?? options.join(' '))
    }
  },
)

test('without the step all see the same', { skip }, async (t) => {
  const on = directory(t)
  const init = await startInit(t, {
    command: sh(`mount -t tmpfs none ${on}; touch ${on}/file; echo mounted; exec sleep 100`),
    options: ['--no-harden', 'mounts'],
  })
  await init.until(/^mounted$/m)
  await init.until(/listening at/)
  for (const pid of [init.pid, init.proxy()]) t.ok(existsSync(`/proc/${pid}/root${on}/file`))
  const found = hardeningOf(init.pid, init.proxy()).find(({ step }) => step === 'mounts')
  t.equal(found?.state, 'off')
})

test('token files are where the image has mounted something for them, whenever it did', { skip }, async (t) => {
  const mock = await startMock({ dir: directory(t), parties: false })
  t.teardown(() => mock.stop())
  const machine = mock.file.machines[0]!
  const dir = join(directory(t), 'tokens')
  mkdirSync(dir)
  const init = await startInit(t, {
    flyd: machine.flyd_url,
    macaroon: ['--macaroon-file', machine.macaroon_file],
    options: ['--token-file', `${dir}/token,aud=https://vault.example`],
    command: sh(`mount -t tmpfs none ${dir}; echo mounted; exec sleep 100`),
  })
  await init.until(/^mounted$/m)
  kill(keeperOf(init), 'SIGKILL')
  await init.until(/starting it again in[^]*token is fresh/)
  const program = childrenOf(init.pid).find((pid) => readFileSync(`/proc/${pid}/cmdline`, 'latin1').startsWith('sleep'))
  t.ok(existsSync(`/proc/${program}/root${dir}/token`), 'there too')
})

test('a program that mounts something over /proc hides nobody from init', { skip }, async (t) => {
  const init = await startInit(t, {
    options: ['--kill-timeout', '0.3'],
    command: sh(`${SERVES}; sh -c 'trap "" TERM; while :; do sleep 1; done' & mount -t tmpfs none /proc; exit 3`),
  })
  t.equal((await init.ended).code, 3)
  t.match(init.log(), /Main child exited[^]*Reaped child process with pid: \d+ and signal: SIGKILL/)
  t.match(init.log(), /\[fly api proxy\] stopped/, 'and the proxy was asked to end, not killed')
})

test('without /proc there is nothing to keep, and init says how to have it', { skip }, async (t) => {
  const init = await startInit(t, { command: ['true'], before: 'mount -t tmpfs none /proc' })
  t.equal((await init.ended).code, 0)
  t.match(init.log(), /^WARN mounts: \/proc is not mounted: use --mount$/m)
})

test('where nobody can mount there is nothing to keep, and nothing to say', { skip }, async (t) => {
  const init = await startInit(t, {
    command: sh(`${SERVES}; grep -c . /proc/1/mountinfo`),
    before: 'exec setpriv --bounding-set=-sys_admin sh -c \'exec "$@"\' sh "$@"; true',
  })
  t.equal((await init.ended).code, 0)
  t.match(init.out(), /^[1-9]/m)
  t.notMatch(init.log(), /mounts|swap/, 'nor can anybody turn swap space on')
})

test('who may not chroot(2) stays where it was', { skip }, async (t) => {
  const on = directory(t)
  writeFileSync(join(on, 'macaroon'), CREDENTIAL, { mode: 0o600 })
  const init = await startInit(t, {
    macaroon: ['--macaroon-file', 'macaroon'],
    command: sh(`${SERVES}; /bin/pwd; grep -c . /proc/1/mountinfo`),
    before: `cd ${on} && exec setpriv --bounding-set=-sys_chroot sh -c 'exec "$@"' sh "$@"; true`,
  })
  t.equal((await init.ended).code, 0, init.log())
  t.match(init.log(), /^WARN mounts: cannot enter a tree of mounts \(EPERM\)$/m)
  t.match(init.out(), new RegExp(`^${on}\n[1-9]`, 'm'))
})
