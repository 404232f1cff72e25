import { chmodSync, closeSync, createReadStream, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { test } from 'tap'
import { getLimit } from '../../src/os/limits.ts'
import { lookUp } from '../../src/os/users.ts'
import { signalName, signalNumber } from '../../src/os/signals.ts'
import { pipe, spawn } from '../../src/os/spawn.ts'
import type { Command } from '../../src/os/spawn.ts'
import { Children, decode, exitCode, reap } from '../../src/os/wait.ts'

const ROOT = process.geteuid?.() === 0
const children = new Children()

const shell = (script: string, more: Partial<Command> = {}): Command => ({
  file: '/bin/sh',
  argv: ['sh', '-c', script],
  env: ['PATH=/usr/bin:/bin'],
  files: [0, 1, 2],
  ...more,
})

/** Runs it to its end, and what it printed. */
async function run(script: string, more: Partial<Command> = {}): Promise<string> {
  const { read, write } = pipe()
  const started = spawn(shell(script, { files: [0, write, 2], ...more }))
  closeSync(write)
  if ('refused' in started) throw new Error(started.refused)
  const ending = children.ending(started.pid)
  let text = ''
  for await (const chunk of createReadStream('', { fd: read, encoding: 'utf8' })) text += String(chunk)
  await ending
  return text
}

test('every exit code', async (t) => {
  const codes = Array.from({ length: 256 }, (_, n) => n)
  const endings = await Promise.all(
    codes.map((n) => {
      const started = spawn(shell(`exit ${n}`))
      return 'pid' in started ? children.ending(started.pid) : Promise.reject(new Error(started.refused))
    }),
  )
  t.same(endings.map(exitCode), codes)
})

test('every signal that ends a process, real-time ones too', async (t) => {
  const harmless = new Set([17, 18, 19, 20, 21, 22, 23, 28, 32, 33])
  const fatal = Array.from({ length: 64 }, (_, i) => i + 1).filter((n) => !harmless.has(n))
  const endings = await Promise.all(
    fatal.map((n) => {
      const started = spawn(
        shell(`kill -${n} $$; sleep 5`, { limits: { core: { soft: 0n, hard: getLimit('core').hard } } }),
      )
      return 'pid' in started ? children.ending(started.pid) : Promise.reject(new Error(started.refused))
    }),
  )
  t.same(
    endings,
    fatal.map((signal) => ({ signal, core: false })),
  )
  t.same(
    endings.map(exitCode),
    fatal.map((n) => 128 + n),
  )
  t.same(decode(0x80 | 11), { signal: 11, core: true }, 'a core dump is told')
})

test('nothing is inherited but what is listed', async (t) => {
  const held = Array.from({ length: 40 }, () => pipe())
  process.on('SIGUSR2', () => undefined)
  const text = await run(
    'ls /proc/self/fd | tr "\\n" " "; grep -E "SigBlk|SigIgn" /proc/self/status; cat /proc/$$/stat | cut -d" " -f5,6; echo $$; env',
  )
  for (const { read, write } of held) [read, write].forEach((fd) => closeSync(fd))
  t.match(text, /^0 1 2 3 /, 'descriptors 0 to 2, and the one that ls itself opened')
  t.match(text, /SigBlk:\t0{16}/)
  // 32 and 33 are glibc's own and not ours to reset.
  t.match(text, /SigIgn:\t0{7}[01]80000000|SigIgn:\t0{16}/)
  const [, group, session, pid] = /(\d+) (\d+)\n(\d+)/.exec(text) ?? []
  t.same([group, session], [pid, pid], 'a session and a group of its own')
  t.notMatch(text, /HOME|USER/)
})

test('what cannot be run says why', async (t) => {
  const directory = t.testdir({ data: 'not a program', garbage: '\x7fELFnot', script: '#!/nope\n' })
  for (const name of ['garbage', 'script']) chmodSync(`${directory}/${name}`, 0o755)
  const refused = (more: Partial<Command>): unknown => spawn(shell('true', more))
  t.same(refused({ file: `${directory}/none` }), { refused: 'ENOENT' })
  t.same(refused({ file: `${directory}/data` }), { refused: 'EACCES' })
  t.same(refused({ file: `${directory}/garbage` }), { refused: 'ENOEXEC' })
  t.same(refused({ file: `${directory}/script` }), { refused: 'ENOENT' })
  t.same(refused({ cwd: `${directory}/none` }), { refused: 'ENOENT' })
  t.throws(() => refused({ env: ['A=b\0C=d'] }), /NUL/)
  t.equal(reap(-1), 'childless', 'and leaves no zombie')
})

test('a file by its descriptor, whatever has its name by now', async (t) => {
  const directory = t.testdir({ data: 'not a program', garbage: '\x7fELFnot', script: '#!/bin/sh\n' })
  for (const name of ['garbage', 'script']) chmodSync(`${directory}/${name}`, 0o755)
  const open = (path: string): number => {
    const fd = openSync(path, 'r')
    t.teardown(() => closeSync(fd))
    return fd
  }
  const shell = open('/bin/sh')
  const held = Array.from({ length: 40 }, () => pipe())
  const script = 'ls /proc/self/fd | tr "\\n" " "; cat /proc/$$/stat | cut -d" " -f5,6; echo $$ $0 "$1"; env'
  const text = await run(script, { file: '/nope', opened: shell, argv: ['name', '-c', script, 'zero', 'one'] })
  for (const { read, write } of held) [read, write].forEach((fd) => closeSync(fd))
  t.match(text, /^0 1 2 3 (\d+) \1\n\1 zero one\n/, 'no other descriptor, a session and a group of its own')
  t.notMatch(text, /HOME|USER/)
  const refused = (name: string): unknown => spawn(by(`${directory}/${name}`))
  const by = (path: string): Command => ({
    file: '/bin/sh',
    opened: open(path),
    argv: ['a'],
    env: [],
    files: [0, 1, 2],
  })
  t.same(refused('data'), { refused: 'EACCES' })
  t.same(refused('garbage'), { refused: 'ENOEXEC' })
  t.same(refused('script'), { refused: 'ENOENT' }, 'nobody runs anything in its place')
  t.equal(reap(-1), 'childless', 'and leaves no zombie')
})

test('as another user, and this thread is root again', { skip: ROOT ? false : 'needs root' }, async (t) => {
  const rights = { uid: 4242, gid: 4243, groups: [7, 8] }
  const text = await run('grep -E "^(Uid|Gid|Groups|CapPrm|CapEff|CapInh|CapAmb)" /proc/self/status', { rights })
  t.match(text, /Uid:\t4242\t4242\t4242\t4242/)
  t.match(text, /Gid:\t4243\t4243\t4243\t4243/)
  t.match(text, /Groups:\t7 8/)
  t.equal(text.match(/Cap...:\t0{16}/g)?.length, 4, 'no capability is left')
  const bare = await run('grep Groups /proc/self/status', { rights: { ...rights, groups: [] } })
  t.match(bare, /Groups:\t\s*$/)
  t.same(spawn(shell('true', { file: '/nope', rights })), { refused: 'ENOENT' })
  for (const task of ['self', 'thread-self']) {
    t.match(readFileSync(`/proc/${task}/status`, 'utf8'), /Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0/, `${task} is root`)
  }
  t.equal(
    readFileSync('/proc/self/status', 'utf8').match(/CapEff:\t(.*)/)?.[1],
    readFileSync('/proc/self/status', 'utf8').match(/CapPrm:\t(.*)/)?.[1],
    'with all it had',
  )
})

test('as ourselves, with the groups that are asked for', { skip: ROOT ? false : 'needs root' }, async (t) => {
  const before = process.getgroups?.() ?? []
  const [uid, gid] = [process.getuid?.() ?? 0, process.getgid?.() ?? 0]
  t.teardown(() => process.setgroups?.(before))
  const groups = async (asked: readonly number[]): Promise<string[]> => {
    const text = await run('grep Groups /proc/self/status', { rights: { uid, gid, groups: asked } })
    return text.split(/\s+/).slice(1).filter(Boolean)
  }
  process.setgroups?.([gid])
  t.same(await groups([]), [], 'not even the same once more: it would outlive a setgid')
  process.setgroups?.([])
  t.same(await groups([gid]), [String(gid)])
  process.setgroups?.([7, 8])
  t.same(await groups([]), [], 'none of ours')
  t.same(await groups([7]), ['7'])
  t.same(await groups([7, 9]), ['7', '9'])
  t.same(await groups([8, 7]), ['7', '8'])
  t.same(process.getgroups?.().slice(0, 2), [7, 8], 'and we keep them')
  const text = await run('grep -E "^(Uid|CapEff)" /proc/self/status', { rights: { uid, gid, groups: [7, 8] } })
  t.equal(
    text,
    readFileSync('/proc/self/status', 'utf8')
      .match(/^Uid.*\n|^CapEff.*\n/gm)
      ?.join(''),
  )
})

test('two groups: a program that starts undumpable', { skip: ROOT ? false : 'needs root' }, async (t) => {
  const rights = { uid: 4242, gid: 4243, effectiveGid: 4244, groups: [] }
  const owner = (more: Partial<Command>): Promise<string> => run('stat -c %u /proc/$$/environ', more)
  t.equal(await owner({ rights }), '0\n', "its files in /proc are root's")
  t.equal(await owner({ rights: { uid: 4242, gid: 4243, groups: [] } }), '4242\n', 'negative control: one group')
})

test('users by name and by number', async (t) => {
  const root = t.testdir()
  mkdirSync(`${root}/etc`)
  writeFileSync(
    `${root}/etc/passwd`,
    'root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\nbad:x:4294967295:1::/:\n',
  )
  writeFileSync(`${root}/etc/group`, 'root:x:0:\nstaff:x:50:app,other\n12:x:99:\n')
  t.same(lookUp('app', root), { name: 'app', uid: 1000, gid: 1001, groups: [50], home: '/home/app' })
  t.same(lookUp('1000', root).home, '/home/app')
  t.same(lookUp('app:staff', root), { name: 'app', uid: 1000, gid: 50, groups: [], home: '/home/app' })
  t.same(lookUp('77', root), { name: '77', uid: 77, gid: 77, groups: [], home: '/' })
  t.same(lookUp('77:78', root).gid, 78)
  t.throws(() => lookUp('nobody-such', root), /not in \/etc\/passwd/)
  t.throws(() => lookUp('app:none', root), /not in \/etc\/group/)
  t.throws(() => lookUp('bad', root), /not the number/)
  t.throws(() => lookUp('4294967295', root), /not the number/)
  t.same(
    lookUp('root', t.testdirName + '-none'),
    { name: 'root', uid: 0, gid: 0, groups: [], home: '/root' },
    'from scratch',
  )
})

test('signals by name and number', async (t) => {
  for (const word of ['SIGTERM', 'TERM', 'term', '15']) t.equal(signalNumber(word), 15, word)
  t.equal(signalNumber('SIGRTMIN+3'), 37)
  t.equal(signalNumber('RTMAX-1'), 63)
  t.equal(signalNumber('SIGRTMAX'), 64)
  for (const word of ['', '0', '32', '33', '65', 'SIGNOPE', 'RTMIN+31', 'RTMIN-1', '-9'])
    t.equal(signalNumber(word), undefined, word)
  for (let n = 1; n <= 64; n++) if (n !== 32 && n !== 33) t.equal(signalNumber(signalName(n)), n)
})
