// Connections to flyd: where they go, and what is said before flyd is known.

import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer } from 'node:tls'
import { test } from 'tap'
import { JWT, OWN } from '../support/corpus.ts'
import { healthy, startFlyd } from '../support/flyd.ts'
import { ask, get, MINT, RawGuest, READ } from '../support/guest.ts'
import { startProxy } from '../support/proxy.ts'

test('https: nothing is said to a server that cannot prove its name', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'dotfly-tls-'))
  t.teardown(() => rmSync(directory, { recursive: true }))
  const [key, cert] = [join(directory, 'key'), join(directory, 'cert')]
  const words = [
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-days',
    '2',
    '-subj',
    '/CN=localhost',
    '-addext',
    'subjectAltName=DNS:localhost,IP:127.0.0.1',
    '-keyout',
    key,
    '-out',
    cert,
  ]
  execFileSync('openssl', words, { stdio: 'ignore' })
  let heard = 0
  const server = createServer({ key: readFileSync(key), cert: readFileSync(cert) }, (socket) => {
    socket.on('data', (bytes: Buffer) => (heard += bytes.length))
    socket.on('error', () => undefined)
  }).on('tlsClientError', () => undefined)
  await new Promise<void>((listening) => server.listen({ port: 0, host: '127.0.0.1' }, listening))
  t.teardown(() => void server.close())
  const address = server.address()
  const port = typeof address === 'object' ? address?.port : undefined
  for (const host of ['localhost', '127.0.0.1']) {
    const proxy = await startProxy(t, { flyd: `https://${host}:${port}` })
    const { pid } = proxy
    for (let i = 0; i < 2; i++) {
      const [answer] = await ask(proxy.path, MINT)
      t.match(answer, { status: 502, body: 'FLYD_UNREACHABLE' }, host)
    }
    t.equal(proxy.pid, pid, `${host}: the proxy lives`)
  }
  t.equal(heard, 0, 'not a byte inside TLS')
})

test('flyd is gone, and comes back', async (t) => {
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, { flyd: flyd.url })
  await flyd.kill()
  for (const request of [MINT, READ])
    t.match((await ask(proxy.path, request))[0], { status: 502, body: 'FLYD_UNREACHABLE' })
})

test('flyd at a vsock where nobody listens', async (t) => {
  // The kernel's loopback, which not every kernel has.
  const proxy = await startProxy(t, { flyd: 'vsock:1:4294967294' })
  const { pid } = proxy
  for (const request of [MINT, READ])
    t.match((await ask(proxy.path, request))[0], { status: 502, body: 'FLYD_UNREACHABLE' })
  t.equal(proxy.pid, pid, 'the proxy lives')
})

test('exchanges at once each have a connection of their own; afterwards they are used again', async (t) => {
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, { flyd: flyd.url })
  flyd.answer = (seen, connection) => setTimeout(() => healthy(seen, connection), 30)
  const all = await Promise.all(
    Array.from({ length: 20 }, (_, i) => ask(proxy.path, i % 2 === 0 ? MINT : get(`${OWN}/lease`))),
  )
  t.ok(
    all.every(([answer], i) => answer?.body === (i % 2 === 0 ? JWT : '{"ok":true}')),
    'nobody has the answer of another',
  )
  const { length } = flyd.connections
  t.ok(length <= 20)
  await Promise.all(Array.from({ length: 20 }, () => ask(proxy.path, MINT)))
  const most = flyd.connections.length
  t.ok(most <= 20, 'never more than there are guests at once')
  for (let i = 0; i < 5; i++) await ask(proxy.path, MINT)
  t.equal(flyd.connections.length, most, 'no new connection')
  t.ok(
    flyd.connections.every(({ requests, received }) => requests.map(({ raw }) => raw).join('') === received),
    'and not a byte beside the requests',
  )
})

test('an idle connection is let go before flyd would do it', { timeout: 20_000 }, async (t) => {
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, { flyd: flyd.url })
  const guest = new RawGuest(proxy.path)
  guest.socket.write(MINT)
  await guest.answered(1)
  for (let i = 0; i < 150 && flyd.connections[0]?.closed === false; i++)
    await new Promise((turn) => setTimeout(turn, 100))
  t.equal(flyd.connections[0]?.closed, true)
  guest.socket.write(MINT)
  await guest.answered(2)
  t.equal(flyd.connections.length, 2, 'and the guest notices nothing')
  guest.socket.destroy()
})
