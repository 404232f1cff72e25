// Where the guest dials, as others leave it: in the way, removed, covered, or in a place that anyone may change.

import { execFileSync, spawnSync } from 'node:child_process'
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  chmodSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { test } from 'tap'
import { LaunchError } from '../../src/init/error.ts'
import { superviseProxy } from '../../src/init/launch.ts'
import { bindSocket } from '../../src/init/sockets.ts'
import type { SocketOptions } from '../../src/init/options.ts'
import { CREDENTIAL } from '../support/corpus.ts'
import { ROOT } from './support.ts'

interface Scope {
  teardown(end: () => void): void
}

function room(t: Scope): string {
  const directory = mkdtempSync(join(tmpdir(), 'dotfly-sockets-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}
const at = (path: string): SocketOptions => ({ path, mode: 0o600, policy: 'self', allow: [], audiences: [] })

test('A03 A05: what is in the way: only a stale socket of ours is taken over', async (t) => {
  const directory = room(t)
  const path = join(directory, 'api')
  writeFileSync(path, 'mine')
  await t.rejects(bindSocket(at(path)), { message: `${path} exists and is not a socket` })
  rmSync(path)
  mkdirSync(path)
  await t.rejects(bindSocket(at(path)), { message: `${path} exists and is not a socket` })
  rmSync(path, { recursive: true })
  symlinkSync(join(directory, 'elsewhere'), path)
  await t.rejects(bindSocket(at(path)), { message: `${path} exists and is not a socket` }, 'nor is a link followed')
  t.notOk(existsSync(join(directory, 'elsewhere')))
  rmSync(path)
  // Its server was killed and could not remove it.
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 9))`
  t.equal(spawnSync(process.execPath, ['-e', script]).signal, 'SIGKILL')
  t.ok(statSync(path).isSocket())
  const bound = await bindSocket(at(path))
  t.ok(bound.fd > 2)
  bound.release()
})

test('A04: a live server keeps its place', async (t) => {
  const path = join(room(t), 'api')
  const server = createServer()
  await new Promise<void>((listening) => server.listen(path, listening))
  t.teardown(() => void server.close())
  await t.rejects(bindSocket(at(path)), {
    message: `${path} is in use by a live server: end that, or choose another path with --socket`,
  })
  t.ok(statSync(path).isSocket(), 'and it is still there')
})

test('a socket that cannot be made or given away says why, and leaves nothing', async (t) => {
  await t.rejects(bindSocket(at('/proc/dotfly')), { message: /^cannot create the socket \/proc\/dotfly \(E[A-Z]+\)$/ })
  const directory = room(t)
  const path = join(directory, 'api')
  // Whoever is not root cannot give files away.
  const root = process.geteuid?.() === 0
  if (root) {
    chownSync(directory, 65_534, 65_534)
    process.seteuid?.(65_534)
  }
  try {
    await t.rejects(bindSocket({ ...at(path), uid: 4242, gid: 4343 }), {
      message: `cannot give the socket ${path} to uid 4242, gid 4343 (EPERM)`,
    })
    await t.rejects(bindSocket({ ...at(path), gid: 4343 }), {
      message: `cannot give the socket ${path} to gid 4343 (EPERM)`,
    })
  } finally {
    if (root) process.seteuid?.(0)
  }
  t.notOk(existsSync(path))
})

test('A07: what a sandbox has put in our place is left alone at the end', async (t) => {
  const directory = room(t)
  const path = join(directory, 'api')
  for (const [how, put] of [
    ['a file', () => writeFileSync(path, 'mine')],
    ['a directory', () => mkdirSync(path)],
    ['nothing', () => undefined],
  ] as const) {
    const bound = await bindSocket(at(path))
    rmSync(path)
    put()
    t.doesNotThrow(() => bound.release(), how)
    t.equal(existsSync(path), how !== 'nothing', how)
    rmSync(path, { recursive: true, force: true })
  }
  const bound = await bindSocket(at(path))
  bound.release()
  t.notOk(existsSync(path), 'our own goes')
})

test('A07: nor what is mounted over it', { skip: ROOT ? false : 'needs root, to mount' }, async (t) => {
  const directory = room(t)
  const path = join(directory, 'api')
  const over = join(directory, 'over')
  writeFileSync(over, 'covered')
  const bound = await bindSocket(at(path))
  try {
    execFileSync('mount', ['--bind', over, path])
  } catch {
    bound.release()
    t.comment('this computer lets nobody mount')
    return
  }
  t.doesNotThrow(() => bound.release())
  t.equal(readFileSync(path, 'utf8'), 'covered')
  execFileSync('umount', [path])
})

test('A15: no directory on the way may be everybody’s', async (t) => {
  const directory = room(t)
  const open = join(directory, 'open')
  mkdirSync(join(open, 'inner'), { recursive: true })
  chmodSync(open, 0o777)
  for (const path of [join(open, 'api'), join(open, 'inner', 'api')]) {
    await t.rejects(bindSocket(at(path)), new LaunchError(`directory ${open} is writable by everybody: chmod o-w it`))
  }
  const link = join(directory, 'link')
  symlinkSync(join(open, 'inner'), link)
  await t.rejects(bindSocket(at(join(link, 'api'))), LaunchError, 'by whatever name')
  chmodSync(open, 0o1777)
  const bound = await bindSocket(at(join(open, 'inner', 'api')))
  t.ok(bound.fd > 2, 'the sticky bit keeps others from renaming')
  bound.release()
})

test('A01: nobody gets in by the mode that the file has before its own', async (t) => {
  const path = join(room(t), 'api')
  const umask = process.umask(0)
  const bound = await bindSocket({ ...at(path), mode: 0o640 })
  t.equal(process.umask(umask), 0, 'the umask is what it was')
  t.equal(statSync(path).mode & 0o777, 0o640)
  bound.release()
})

test('without a mode the owner can connect; where a group alone is named, that too', async (t) => {
  const path = join(room(t), 'api')
  const [uid, gid] = [process.getuid?.() ?? 0, process.getgid?.() ?? 0]
  for (const [who, mode] of [
    [{}, 0o755],
    [{ uid }, 0o755],
    [{ gid }, 0o660],
    [{ uid, gid }, 0o755], // that user alone is served
  ] as const) {
    const { mode: _, ...socket } = at(path)
    const bound = await bindSocket({ ...socket, ...who })
    t.equal(statSync(path).mode & 0o777, mode)
    bound.release()
  }
})

test('B22: flyd is not ourselves, by whatever name', async (t) => {
  const directory = room(t)
  const path = join(directory, 'api')
  const link = join(directory, 'link')
  const file = join(directory, 'macaroon')
  writeFileSync(file, CREDENTIAL)
  symlinkSync(path, link)
  for (const name of [path, link, join(directory, '..', basename(directory), 'api')]) {
    const options = { sockets: [at(path)], flyd: `unix:${name}`, macaroon: { file } }
    await t.rejects(
      superviseProxy(options, () => undefined),
      { name: 'LaunchError', message: `flyd is ${name}, which is our own socket` },
    )
    t.notOk(existsSync(path), 'and the socket is gone again')
  }
})
