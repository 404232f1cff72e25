// The first promise of an init: no child is ever lost. Real processes, PID 1 of a real namespace.

import { execFileSync, spawn } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { hostname } from 'node:os'
import { test } from 'tap'
import { signalName } from '../../src/os/signals.ts'
import { kill, NODE, ROOT, startInit } from './support.ts'

const skip = ROOT ? false : 'needs root, for a PID namespace'
const sh = (script: string): string[] => ['sh', '-c', script]
const bash = (script: string): string[] => ['bash', '-c', script]
const FORWARDED = [1, 2, 3, 10, 12, 15, 28, 34, 35, 50, 64]

test('exit codes and the lines that say so', { skip, jobs: 2 }, async (t) => {
  t.jobs = 2
  const cases: [string[], number, RegExp][] = [
    [sh('exit 0'), 0, /INFO Main child exited normally with code: 0/],
    [sh('exit 77'), 77, /INFO Main child exited normally with code: 77/],
    [sh('kill -TERM $$'), 143, /exited with signal \(with signal 'SIGTERM', core dumped\? false\)/],
    [sh('kill -36 $$'), 164, /with signal 'SIGRTMIN\+2'/],
    [['no-such-program'], 127, /no-such-program is not found/],
    [['/etc/passwd'], 126, /\/etc\/passwd cannot be run \(EACCES\)/],
  ]
  for (const [command, code, line] of cases) {
    t.test(command.join(' '), async (t) => {
      const init = await startInit(t, { command })
      t.equal((await init.ended).code, code)
      t.match(init.log(), line)
      t.match(init.log(), /INFO Preparing to run: `.*` as root[^]*Starting clean up\.\n/)
      t.notOk(existsSync(init.path), 'the socket is gone')
    })
  }
  t.test('ENOEXEC', async (t) => {
    const directory = t.testdir({ garbage: '\x7fELFnot' })
    chmodSync(`${directory}/garbage`, 0o755)
    const init = await startInit(t, { command: [`${directory}/garbage`] })
    t.equal((await init.ended).code, 126)
  })
})

test('every forwarded signal reaches a handler, in this order, and an ignoring child lives on', { skip }, async (t) => {
  const script = (trap: string): string[] =>
    bash(`for s in ${FORWARDED.join(' ')}; do trap "${trap}" $s; done; echo ready; while :; do sleep 0.02; done`)
  const init = await startInit(t, { command: script('echo got $s'), options: ['--kill-signal', 'USR1'] })
  await init.until(/^ready$/m)
  for (const signal of FORWARDED) {
    kill(init.pid, signal)
    await init.until(new RegExp(`got ${signal}\n`))
    t.pass(`${signalName(signal)} arrived`)
  }
  kill(init.pid, 9)
  await init.ended
})

test('every forwarded signal ends a child without a handler', { skip }, async (t) => {
  t.jobs = 2
  for (const signal of [1, 12, 15, 50]) {
    t.test(signalName(signal), async (t) => {
      const init = await startInit(t, { command: ['sleep', '30'] })
      await init.until(/listening/)
      kill(init.pid, signal)
      t.equal((await init.ended).code, 128 + signal)
    })
  }
})

test('the stop order: signal, wait, TERM, KILL, and the proxy last', { skip }, async (t) => {
  const stubborn = bash(
    'trap "echo asked" INT; trap "echo told" TERM; (trap "" TERM INT; sleep 60) & echo ready; while :; do sleep 0.02; done',
  )
  const init = await startInit(t, { command: stubborn, options: ['--kill-timeout', '0.5', '--log-level', 'debug'] })
  await init.until(/^ready$/m)
  await init.until(/listening/)
  const began = performance.now()
  kill(init.pid, 'SIGINT')
  await init.until(/^asked\n(?:.*\n)*told$/m)
  t.ok(performance.now() - began > 450, 'TERM only after the time it was given')
  t.equal((await init.ended).code, 137, 'KILL in the end')
  t.ok(
    init.log().indexOf('Main child') < init.log().indexOf('[fly api proxy] stopped'),
    'the proxy was there to the end',
  )
})

test('who is left when the entrypoint ends is ended too', { skip }, async (t) => {
  const left = bash(
    'for i in $(seq 50); do (trap "" TERM; sleep 3600) & done; for i in $(seq 50); do setsid sleep 3600 & done; exit 5',
  )
  const init = await startInit(t, { command: left, options: ['--kill-timeout', '0.4'] })
  t.equal((await init.ended).code, 5, 'and nobody waits an hour for them')
})

test('user, environment, directory', { skip }, async (t) => {
  const show = sh('id -u; id -g; id -G; env | sort; pwd; ls /proc/self/fd | wc -l; ulimit -c')
  const init = await startInit(t, {
    command: show,
    env: {
      PATH: '/usr/bin:/bin',
      DOTFLY_LOG_LEVEL: 'info',
      DOTFLY_USER: '4242:4243',
      CREDENTIALS_DIRECTORY: '/nope',
      HOME: '/root',
      APP: 'x',
    },
  })
  t.equal((await init.ended).code, 0)
  t.match(init.out(), /^4242\n4243\n4243\n/)
  t.notMatch(init.out(), /DOTFLY|CREDENTIALS/)
  t.match(init.out(), /\nAPP=x\nHOME=\/\n/)
  t.match(init.out(), /\n4\n/, 'descriptors: three, and the one of ls')
  const named = await startInit(t, { command: sh('id -un; echo $HOME'), options: ['--user', 'daemon'] })
  await named.ended
  t.match(named.out(), /^daemon\n\/usr\/sbin\n/)
  t.match(named.log(), /as daemon/)
})

test('a terminal becomes the controlling one', { skip }, async (t) => {
  // script(1) gives a terminal of which init, behind setsid, is the session's leader.
  const directory = mkdtempSync('/tmp/dotfly-tty-') // a short path: sockets have 107 bytes
  t.teardown(() => rmSync(directory, { recursive: true }))
  writeFileSync(`${directory}/macaroon`, `FlyV1 fm2_${'a'.repeat(60)}`)
  const main = new URL('main.ts', import.meta.url).pathname
  const inner = `exec ${NODE.join(' ')} ${main} --socket ${directory}/api --flyd http://127.0.0.1:9 --macaroon-file ${directory}/macaroon --user 4242 -- sh -c 'tty; echo yes > /dev/tty; ps -o tpgid=,pgid= -p $$'`
  const text = execFileSync('script', ['-qec', inner, '/dev/null'], { encoding: 'utf8', timeout: 20_000 })
  t.match(text, /\/dev\/pts\/\d+/)
  t.match(text, /yes/)
  const [, front, group] = /^\s*(\d+)\s+(\d+)\r?$/m.exec(text) ?? []
  t.equal(front, group, 'in the foreground')
  t.ok(front)
})

test('an error inside init is logged and survived; SIGUSR1 opens no inspector', { skip }, async (t) => {
  const preload = t.testdir({
    'fault.mjs': `process.once('SIGCONT', () => { setTimeout(() => { throw new Error('a fault') }); void Promise.reject(new Error('another')) })`,
  })
  const init = await startInit(t, {
    node: [`--import=${preload}/fault.mjs`],
    command: sh('trap "echo usr1" USR1; echo ready; while :; do sleep 0.02; done'),
  })
  await init.until(/^ready$/m)
  kill(init.pid, 'SIGCONT')
  await init.until(/init goes on after an error: a fault/)
  await init.until(/another/)
  kill(init.pid, 'SIGUSR1')
  await init.until(/^usr1$/m)
  t.notMatch(init.log(), /Debugger/)
  kill(init.pid, 'SIGTERM')
  t.equal((await init.ended).code, 143)
})

test('mistakes are said and end it: 1, and 2 for the command line', { skip }, async (t) => {
  t.jobs = 2
  const cases: [string, string[], number, RegExp][] = [
    ['an unknown defence', ['--no-harden', 'nope'], 2, /use dumpable, core, .* or all/],
    ['a wrong signal', ['--kill-signal', 'NOPE'], 2, /is not a signal/],
    ['a timeout beyond the most', ['--kill-timeout', '301'], 2, /at most 300/],
    ['an unknown user', ['--user', 'nobody-such'], 1, /not in \/etc\/passwd/],
    ['a macaroon that is not there', ['--macaroon-file', '/nope'], 1, /does not exist/],
  ]
  for (const [name, options, code, line] of cases) {
    t.test(name, async (t) => {
      const init = await startInit(t, { command: ['true'], options })
      await init.ended
      t.match(init.log(), line)
      t.equal((await init.ended).code, code)
    })
  }
})

test('sources of the macaroon: unlinked file, a device that speaks late', { skip }, async (t) => {
  const directory = t.testdir({ m: `FlyV1 fm2_${'b'.repeat(60)}\n` })
  linkSync(`${directory}/m`, `${directory}/disk`) // what is read from the disk when the name is gone
  const file = await startInit(t, {
    command: ['true'],
    macaroon: ['--macaroon-file', `${directory}/m`, '--macaroon-unlink'],
  })
  t.equal((await file.ended).code, 0, file.log())
  t.notOk(existsSync(`${directory}/m`), 'removed')
  t.notMatch(readFileSync(`${directory}/disk`, 'latin1'), /[^\0]/, 'and overwritten')
  // A terminal is a character device too: its other side is the host, which writes one line, late.
  const host = spawn('python3', [
    '-c',
    'import os, pty, time; m, s = pty.openpty(); print(os.ttyname(s), flush=True); time.sleep(1); os.write(m, b"FlyV1 fm2_" + b"c" * 60 + b"\\n"); time.sleep(20)',
  ])
  t.teardown(() => void host.kill('SIGKILL'))
  const name = await new Promise<string>((resolve) =>
    host.stdout.once('data', (text: Buffer) => resolve(String(text).trim())),
  )
  const device = await startInit(t, { command: ['true'], macaroon: ['--macaroon-file', name] })
  t.equal((await device.ended).code, 0, device.log())
})

test('run.json is obeyed and removed', { skip }, async (t) => {
  const directory = t.testdir()
  const config = `${directory}/run.json`
  writeFileSync(
    config,
    JSON.stringify({
      ImageConfig: {
        Entrypoint: ['sh', '-c'],
        Cmd: ['never'],
        Env: ['A=1', 'PATH=/bin:/usr/bin'],
        WorkingDir: '/tmp',
        User: 'daemon',
      },
      CmdOverride: 'echo $A $B; pwd; id -un',
      ExtraEnv: { B: '2' },
    }),
  )
  const init = await startInit(t, { command: [], options: ['--config', config] })
  t.equal((await init.ended).code, 0, init.log())
  t.equal(init.out(), '1 2\n/tmp\ndaemon\n')
  t.notOk(existsSync(config))
  writeFileSync(config, '{"ImageConfig":{"Env":["=x"]}}')
  const wrong = await startInit(t, { command: ['true'], options: ['--config', config] })
  t.equal((await wrong.ended).code, 1)
  t.match(wrong.log(), /ImageConfig\.Env/)
})

test('run.json: names, hosts and volumes; what fails is said, and the boot goes on', { skip }, async (t) => {
  const directory = t.testdir({ hosts: '127.0.0.1 localhost\n', 'resolv.conf': '', volume: {}, image: '' })
  const image = `${directory}/image`
  const device = loopDevice(image)
  t.teardown(() => device !== undefined && execFileSync('losetup', ['-d', device]))
  const config = `${directory}/run.json`
  writeFileSync(
    config,
    JSON.stringify({
      ExecOverride: [
        'sh',
        '-c',
        `cat /etc/hosts /etc/resolv.conf; uname -n; touch ${directory}/volume/x; stat -c %u ${directory}/volume; df --output=source ${directory}/volume | tail -n 1; id -u`,
      ],
      UserOverride: 'daemon',
      Hostname: 'ancient-snow',
      EtcResolv: { Nameservers: ['fdaa::3', '1.1.1.1'] },
      EtcHosts: [{ Host: 'weather-cat', IP: 'fdaa::2', Desc: 'this Machine' }],
      Mounts: [
        { MountPath: `${directory}/volume`, DevicePath: device ?? '/dev/none' },
        { MountPath: `${directory}/nowhere`, DevicePath: '/dev/none' },
      ],
    }),
  )
  const before = `mount --bind ${directory}/hosts /etc/hosts && mount --bind ${directory}/resolv.conf /etc/resolv.conf`
  const host = hostname()
  const init = await startInit(t, { command: [], options: ['--config', config], before })
  t.equal((await init.ended).code, 0, init.log())
  t.match(
    init.out(),
    /^127\.0\.0\.1 localhost\nfdaa::2 weather-cat\nnameserver fdaa::3\nnameserver 1\.1\.1\.1\nancient-snow\n/,
  )
  t.match(init.log(), /^WARN volume .*\/nowhere: /m, 'a device that is not there')
  t.equal(hostname(), host, 'control: the name is that of the namespace')
  if (device === undefined) return t.comment('no loop device or mkfs.ext4 here: the volume itself is not tried')
  t.ok(init.out().endsWith(`\n1\n${device}\n1\n`), 'the volume is mounted, belongs to the user, and takes a file')
})

/** A block device with an empty ext4 file system in `image`; undefined where this computer makes none. */
function loopDevice(image: string): string | undefined {
  try {
    truncateSync(image, 8 << 20)
    execFileSync('mkfs.ext4', ['-q', image], { stdio: 'ignore' })
    return execFileSync('losetup', ['--find', '--show', image], { encoding: 'utf8', stdio: 'pipe' }).trim()
  } catch {
    return undefined
  }
}

test('reboot(2) in a namespace: its parent sees SIGINT for power-off, SIGHUP for a restart', { skip }, async (t) => {
  for (const [how, code] of [
    ['poweroff', 130],
    ['reboot', 129],
  ] as const) {
    const init = await startInit(t, { command: ['true'], options: ['--on-exit', how] })
    const { code: seen, signal } = await init.ended
    t.ok(
      seen === code || signal === (how === 'reboot' ? 'SIGHUP' : 'SIGINT'),
      `${how}: ${seen} ${signal} ${init.log()}`,
    )
  }
  t.ok(readFileSync('/proc/uptime', 'utf8'), 'and we are still here')
})
