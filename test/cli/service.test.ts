// dotfly as a service: sockets that the manager opened, and what the manager is told. Under a real systemd this is
// test/systemd; here the manager is a few lines.

import { closeSync, existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { test, type Test } from 'tap'
import { listenUnix } from '../../src/os/listen.ts'
import { CREDENTIAL, JWT, leaks } from '../support/corpus.ts'
import { startFlyd } from '../support/flyd.ts'
import { listen, serve, trusted } from '../support/manager.ts'
import { ended } from './dotfly.ts'

interface Place {
  readonly directory: string
  readonly path: string
  readonly env: Readonly<Record<string, string>>
}

function place(t: Test, flyd: string): Place {
  const directory = mkdtempSync(join(tmpdir(), 'dotfly-service-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  writeFileSync(join(directory, 'macaroon'), `${CREDENTIAL}\n`, { mode: 0o600 })
  const path = join(directory, 'api')
  return {
    directory,
    path,
    env: { DOTFLY_SOCKET: path, DOTFLY_FLYD: flyd, CREDENTIALS_DIRECTORY: directory, TMPDIR: directory },
  }
}

/** A listening socket of the manager's, for as long as the test runs. */
function bound(t: Test, path: string, mode = 0o600): number {
  const fd = listenUnix(path, mode)
  t.teardown(() => closeSync(fd))
  return fd
}

const token = (path: string): Promise<string> =>
  new Promise((resolve, reject) => {
    request({ socketPath: path, method: 'POST', path: '/v1/tokens/oidc', agent: false }, (answer) =>
      resolve(text(answer)),
    )
      .on('error', reject)
      .end()
  })

test('a socket of the service manager is served, and is there before and after', async (t) => {
  const flyd = await startFlyd(t)
  const ear = listen(t)
  const { path, env } = place(t, flyd.url)
  const fd = bound(t, path)
  const early = token(path) // nobody serves yet
  const first = serve(['proxy'], { ...env, NOTIFY_SOCKET: ear.address }, [fd])
  t.equal(await early, JWT)
  await ear.until(/^READY=1\nSTATUS=serving \//)
  const over = ended(first)
  first.kill('SIGTERM')
  t.strictSame(await over, { code: 0, signal: null })
  t.match(ear.heard.at(-1), /^STOPPING=1\nSTATUS=/)
  t.ok(statSync(path).isSocket(), 'its file is not ours to remove')
  const between = token(path)
  const second = serve(['proxy'], env, [fd])
  t.teardown(() => second.kill('SIGKILL'))
  t.equal(await between, JWT, 'who came between two of them was not refused')
  t.ok(leaks(Buffer.from(ear.heard.join('\n'))) < 0)
})

test('the address of an abstract socket is understood', async (t) => {
  const flyd = await startFlyd(t)
  const ear = listen(t, true)
  const { env } = place(t, flyd.url)
  const launcher = serve(['proxy'], { ...env, NOTIFY_SOCKET: ear.address })
  t.teardown(() => launcher.kill('SIGTERM'))
  await ear.until(/^READY=1\n/)
  t.pass('ready')
})

const MISTAKES: Record<string, [sockets: (path: string) => string, mode: number, says: RegExp]> = {
  'a socket that no --socket names': [
    (path) => `${path}.other`,
    0o600,
    /the service manager hands over \S+ \(unknown\), which no --socket names: add it to DOTFLY_SOCKET/,
  ],
  'a --socket that is not handed over': [
    (path) => `${path};${path}.other`,
    0o600,
    /the service manager hands over \S+, and not \S+\.other: name it in ListenStream= of a socket unit/,
  ],
  'a mode that it does not have': [
    (path) => `${path},mode=0600`,
    0o666,
    /has mode 0666, and not 0600: change SocketMode= or mode=/,
  ],
  'a group that it does not have': [
    (path) => `${path},gid=4242`,
    0o600,
    /has group \d+, and not 4242: change SocketGroup= or gid=/,
  ],
}

for (const [what, [sockets, mode, says]] of Object.entries(MISTAKES)) {
  test(`${what} is an error`, async (t) => {
    const { path, env } = place(t, 'unix:/nowhere')
    const fd = bound(t, path, mode)
    const launcher = serve(['proxy'], { ...env, DOTFLY_SOCKET: sockets(path) }, [fd])
    const [said, { code }] = await Promise.all([text(launcher.stderr!), ended(launcher)])
    t.match(said, says)
    t.equal(code, 1)
    t.ok(existsSync(path), 'and the socket stays')
  })
}

test('a descriptor that is no Unix socket with a path is an error', async (t) => {
  const { env } = place(t, 'unix:/nowhere')
  const server = createServer()
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  t.teardown(() => void server.close())
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- Node has no public name for it
  const { fd } = (server as unknown as { _handle: { fd: number } })._handle
  const launcher = serve(['proxy'], env, [fd])
  const [said, { code }] = await Promise.all([text(launcher.stderr!), ended(launcher)])
  t.match(said, /descriptor 3 \(unknown\) of the service manager is no Unix stream socket with a path/)
  t.equal(code, 1)
})

test('sockets meant for another process are not ours', async (t) => {
  const flyd = await startFlyd(t)
  const ear = listen(t)
  const { path, env } = place(t, flyd.url)
  const launcher = serve(['proxy'], { ...env, NOTIFY_SOCKET: ear.address, LISTEN_PID: '1', LISTEN_FDS: '1' })
  t.teardown(() => launcher.kill('SIGTERM'))
  await ear.until(/^READY=1\n/)
  t.equal(await token(path), JWT, 'it made its own')
  t.equal(statSync(path).mode & 0o777, 0o755)
})

const WATCHDOG = 3000 // ms

test('the watchdog is told only what the trusted process has answered', { timeout: 60_000 }, async (t) => {
  const flyd = await startFlyd(t)
  const ear = listen(t)
  const { directory, path, env } = place(t, flyd.url)
  const launcher = serve(['proxy'], {
    ...env,
    NOTIFY_SOCKET: ear.address,
    WATCHDOG_USEC: String(WATCHDOG * 1000),
  })
  const log = text(launcher.stdout!)
  await ear.until(/^WATCHDOG=1$/)
  const [probe = ''] = readdirSync(directory).filter((name) => name.startsWith('dotfly-probe-'))
  t.equal(statSync(join(directory, probe)).mode & 0o777, 0o700, 'the probe has a place that nobody else may enter')
  t.equal(await token(path), JWT)

  const pid = trusted(launcher)
  process.kill(pid, 'SIGSTOP')
  await ear.until(/^STATUS=does not answer/)
  const from = ear.heard.length
  await new Promise((done) => setTimeout(done, WATCHDOG))
  t.notOk(
    ear.heard.slice(from).some((state) => state.includes('WATCHDOG')),
    'its launcher lives, and says nothing',
  )
  process.kill(pid, 'SIGCONT')
  await ear.until(/^WATCHDOG=1\nSTATUS=/, from)

  const over = ended(launcher)
  launcher.kill('SIGTERM')
  await over
  t.strictSame(
    readdirSync(directory).filter((name) => name.startsWith('dotfly-')),
    [],
    'no probe is left',
  )
  const exchanges = (await log).split('\n').filter((line) => line.includes('"event":"exchange"'))
  t.equal(exchanges.length, 1, 'a probe is no exchange in the log')
  t.equal(flyd.requests.length, 1, 'and never reaches flyd')
})

test('without a manager that watches there is no probe', async (t) => {
  const flyd = await startFlyd(t)
  const ear = listen(t)
  const { directory, env } = place(t, flyd.url)
  const launcher = serve(['proxy'], { ...env, NOTIFY_SOCKET: ear.address })
  t.teardown(() => launcher.kill('SIGTERM'))
  await ear.until(/^READY=1\n/)
  t.strictSame(readdirSync(directory).toSorted(), ['api', 'macaroon'])
})
