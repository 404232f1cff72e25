// flyd over TLS, verified by a pinned CA: real servers, with certificates made in this run by a CA of this run.

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect as dial } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect, createServer } from 'node:tls'
import type { TlsOptions, TLSSocket } from 'node:tls'
import { test } from 'tap'
import { superviseProxy } from '../../src/init/launch.ts'
import type { Event, Exchange } from '../../src/proxy/event.ts'
import { dotfly } from '../cli/dotfly.ts'
import { APP, CREDENTIAL, JWT, MACHINE, OWN } from '../support/corpus.ts'
import { TOKEN_ANSWER } from '../support/flyd.ts'
import { ask, get, MINT } from '../support/guest.ts'

type Scope = { teardown(end: () => Promise<void> | void): void }

const directory = mkdtempSync(join(tmpdir(), 'dotfly-ca-'))
process.on('exit', () => rmSync(directory, { recursive: true, force: true }))
const at = (name: string): string => join(directory, name)
const openssl = (...words: string[]): void => void execFileSync('openssl', words, { stdio: 'ignore' })
const EC = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']

/** A certificate of its own making. */
function makeCa(name: string): void {
  const what = ['-subj', `/CN=${name}`, '-days', '2', '-addext', 'keyUsage=critical,keyCertSign']
  openssl('req', '-x509', ...EC, ...what, '-keyout', at(`${name}.key`), '-out', at(`${name}.pem`))
}

/** A server's, by that CA. `days` is negative for one that has expired. */
function issue(name: string, san: string, days = '2', ca = 'ca'): { key: Buffer; cert: Buffer } {
  const file = (end: string): string => at(`${name}.${end}`)
  openssl('req', '-new', ...EC, '-subj', '/CN=flyd', '-keyout', file('key'), '-out', file('csr'))
  writeFileSync(file('ext'), `subjectAltName=${san}\nextendedKeyUsage=serverAuth\n`)
  const by = ['-CA', at(`${ca}.pem`), '-CAkey', at(`${ca}.key`), '-CAcreateserial', '-extfile', file('ext')]
  openssl('x509', '-req', '-in', file('csr'), ...by, '-days', days, '-out', file('pem'))
  return { key: readFileSync(file('key')), cert: readFileSync(file('pem')) }
}

makeCa('ca')
makeCa('other')
const GOOD = issue('good', 'DNS:localhost,IP:127.0.0.1')

interface Flyd {
  port: number
  sockets: TLSSocket[]
  /** Bytes inside TLS. */
  heard: number
}

async function serve(t: Scope, options: TlsOptions, answer: (socket: TLSSocket, asked: string) => void): Promise<Flyd> {
  const flyd: Flyd = { port: 0, sockets: [], heard: 0 }
  const server = createServer(options, (socket) => {
    flyd.sockets.push(socket)
    socket.on('error', () => undefined)
    socket.on('data', (bytes: Buffer) => {
      flyd.heard += bytes.length
      answer(socket, bytes.toString('latin1'))
    })
  }).on('tlsClientError', () => undefined)
  await new Promise<void>((listening) => server.listen({ port: 0, host: '127.0.0.1' }, listening))
  t.teardown(() => {
    for (const socket of flyd.sockets) socket.destroy()
    server.close()
  })
  const address = server.address()
  flyd.port = typeof address === 'object' && address !== null ? address.port : 0
  return flyd
}

async function startProxy(
  t: Scope,
  flyd: string,
  flydCa?: string,
): Promise<{ path: string; readonly pid: number; exchanges: Exchange[] }> {
  const own = mkdtempSync(join(tmpdir(), 'dotfly-'))
  const path = join(own, 'api')
  writeFileSync(join(own, 'macaroon'), CREDENTIAL, { mode: 0o600 })
  const exchanges: Exchange[] = []
  const proxy = await superviseProxy(
    {
      sockets: [{ path, mode: 0o700, policy: 'self', allow: [], audiences: [] }],
      flyd,
      ...(flydCa === undefined ? {} : { flydCa }),
      macaroon: { file: join(own, 'macaroon') },
      app: APP,
      machine: MACHINE,
    },
    (event: Event) => void (event.kind === 'exchange' && exchanges.push(event)),
  )
  t.teardown(async () => {
    await proxy.stop()
    rmSync(own, { recursive: true })
  })
  return {
    path,
    exchanges,
    get pid() {
      return proxy.pid
    },
  }
}

test('a server of the pinned CA is served, by name and by address, over one connection', async (t) => {
  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    for (const host of ['localhost', '127.0.0.1']) {
      const asked: string[] = []
      const options = { ...GOOD, minVersion: version, maxVersion: version }
      const flyd = await serve(t, options, (socket, text) => {
        asked.push(text)
        socket.write(TOKEN_ANSWER)
      })
      const proxy = await startProxy(t, `https://${host}:${flyd.port}`, at('ca.pem'))
      for (let i = 0; i < 5; i++) t.equal((await ask(proxy.path, MINT))[0]?.body, JWT, `${version} ${host}`)
      t.equal(flyd.sockets.length, 1, 'one connection for all five')
      t.equal(flyd.sockets[0]?.getProtocol(), version)
      t.equal(asked.filter((text) => text.includes(`\r\nAuthorization: ${CREDENTIAL}\r\n`)).length, 5)
      flyd.sockets[0]?.destroy()
      await sleep(50)
      t.equal((await ask(proxy.path, MINT))[0]?.body, JWT, 'and a new one when that has gone')
      t.equal(flyd.sockets.length, 2)
    }
  }
})

test('nothing is said to a server that cannot prove its name', { timeout: 40_000 }, async (t) => {
  const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const
  const cases: Record<string, { server: TlsOptions; ca?: string; host?: string }> = {
    'the CA of another': { server: GOOD, ca: 'other.pem' },
    'no CA given': { server: GOOD, ca: '' },
    'by another CA with the same name for it': { server: issue('stranger', 'DNS:localhost', '2', 'other') },
    'another name': { server: issue('name', 'DNS:flyd.example,IP:127.0.0.2') },
    'another name, over TLS 1.2': { server: { ...issue('name2', 'DNS:flyd.example'), maxVersion: 'TLSv1.2' } },
    'a name where an address is asked for': { server: issue('address', 'DNS:127.0.0.1'), host: '127.0.0.1' },
    'no name but the common name': { server: issue('common', 'email:flyd@localhost') },
    expired: { server: issue('expired', 'DNS:localhost', '-1') },
    'expired, over TLS 1.2': { server: { ...issue('expired2', 'DNS:localhost', '-1'), maxVersion: 'TLSv1.2' } },
    'TLS 1.1': { server: { ...GOOD, ...old } },
  }
  await Promise.all(
    Object.entries(cases).map(async ([name, { server, ca = 'ca.pem', host = 'localhost' }]) => {
      const flyd = await serve(t, server, () => undefined)
      const proxy = await startProxy(t, `https://${host}:${flyd.port}`, ca === '' ? undefined : at(ca))
      const { pid } = proxy
      for (let i = 0; i < 5; i++) {
        const [answer] = await ask(proxy.path, MINT, 1, 10_000)
        t.match(answer, { status: 502, body: 'FLYD_UNREACHABLE' }, name)
      }
      t.equal(flyd.heard, 0, `${name}: not a byte inside TLS`)
      t.equal(proxy.pid, pid, `${name}: the proxy lives`)
    }),
  )

  // The control: whoever does not look is served by those servers, so it is our refusal that was seen.
  const flyd = await serve(t, { ...GOOD, ...old }, (socket) => socket.write('heard'))
  const careless = connect({ host: '127.0.0.1', port: flyd.port, rejectUnauthorized: false, ...old })
  careless.on('secureConnect', () => careless.write('hello'))
  await new Promise((heard, fail) => careless.on('data', heard).on('error', fail))
  careless.destroy()
  t.equal(flyd.heard, 5)
})

test('a server that speaks no TLS, or falls silent in it, hears nothing either', { timeout: 20_000 }, async (t) => {
  const { createServer: listen } = await import('node:net')
  for (const greeting of ['HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n', '']) {
    let heard = ''
    const server = listen((socket) => {
      socket.on('error', () => undefined)
      socket.on('data', (bytes: Buffer) => (heard += bytes.toString('latin1')))
      socket.write(greeting)
      t.teardown(() => void socket.destroy())
    })
    await new Promise<void>((listening) => server.listen({ port: 0, host: '127.0.0.1' }, listening))
    t.teardown(() => void server.close())
    const address = server.address()
    const port = typeof address === 'object' ? address?.port : undefined
    const proxy = await startProxy(t, `https://localhost:${port}`, at('ca.pem'))
    const since = performance.now()
    t.match((await ask(proxy.path, MINT))[0], { status: 502, body: 'FLYD_UNREACHABLE' })
    t.ok(performance.now() - since < 15_000, 'and does not wait long')
    t.notMatch(heard, /FlyV1|POST|oidc/, 'a ClientHello at most')
  }
})

test('a large answer to a slow guest: whole, and not kept in memory', { timeout: 50_000 }, async (t) => {
  const SIZE = 128 << 20
  const PIECE = 64 << 10
  const sent = createHash('sha256')
  let handed = 0
  const flyd = await serve(t, GOOD, (socket, asked) => {
    if (!asked.startsWith('GET ')) {
      socket.write(TOKEN_ANSWER)
      return
    }
    socket.write(`HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${SIZE}\r\n\r\n`)
    const more = (): void => {
      while (handed < SIZE) {
        const piece = Buffer.alloc(PIECE, `#${handed / PIECE}#`)
        sent.update(piece)
        handed += PIECE
        if (!socket.write(piece)) {
          socket.once('drain', more)
          return
        }
      }
    }
    more()
  })
  const proxy = await startProxy(t, `https://localhost:${flyd.port}`, at('ca.pem'))
  t.equal((await ask(proxy.path, MINT))[0]?.body, JWT)
  const before = rss(proxy.pid)

  const guest = dial(proxy.path)
  guest.pause()
  guest.write(get(`${OWN}/events`))
  let last = -1
  for (let i = 0; i < 100 && last !== handed; i++) {
    last = handed
    await sleep(300)
  }
  const waiting = handed
  const most = rss(proxy.pid)
  t.comment(
    `guest reads nothing: flyd could send ${mib(waiting)} of ${mib(SIZE)}; rss ${mib(before)}, then ${mib(most)}`,
  )
  t.ok(waiting < 16 << 20, 'flyd is made to wait')
  t.ok(most - before < 32 << 20, 'and memory stays bounded')
  t.equal((await ask(proxy.path, MINT))[0]?.body, JWT, 'others are served meanwhile')

  const got = createHash('sha256')
  let head = ''
  let body = 0
  let peak = 0
  const whole = new Promise<void>((done, fail) => {
    guest.on('error', fail)
    guest.on('close', () => fail(new Error(`cut after ${body} bytes`)))
    guest.on('data', (bytes: Buffer) => {
      let rest = bytes
      if (!head.includes('\r\n\r\n')) {
        const held = head + bytes.toString('latin1')
        const end = held.indexOf('\r\n\r\n')
        rest = end < 0 ? Buffer.alloc(0) : bytes.subarray(end + 4 - head.length)
        head = held
      }
      got.update(rest)
      body += rest.length
      // Now and then it stops to think: back-pressure comes and goes.
      if (Math.floor(body / (4 << 20)) !== Math.floor((body - rest.length) / (4 << 20))) {
        peak = Math.max(peak, rss(proxy.pid))
        guest.pause()
        setTimeout(() => guest.resume(), 40)
      }
      if (body >= SIZE) done()
    })
  })
  guest.resume()
  await whole
  t.match(head, /^HTTP\/1\.1 200 OK\r\n/)
  t.equal(body, SIZE)
  t.equal(got.digest('hex'), sent.digest('hex'), 'every byte, in order')
  t.comment(`while it read: rss at most ${mib(peak)}`)
  t.ok(peak - before < 96 << 20, 'much less than all of it')
  const { length } = flyd.sockets
  guest.destroy()
  t.equal((await ask(proxy.path, MINT))[0]?.body, JWT)
  t.equal(flyd.sockets.length, length, 'and its connection is used again')
})

test('--flyd-ca: mistakes are one line each, and only certificates go on the launch line', async (t) => {
  writeFileSync(at('macaroon'), CREDENTIAL, { mode: 0o600 })
  writeFileSync(at('text'), 'no certificate\n')
  writeFileSync(at('broken'), '-----BEGIN CERTIFICATE-----\nMIIBAAAA\n-----END CERTIFICATE-----\n')
  writeFileSync(at('large'), Buffer.alloc(65_537, '\n'))
  const words = (ca: string, flyd = 'https://localhost:1'): string[] =>
    ['proxy', '--socket', at('s'), '--macaroon-file', at('macaroon'), '--flyd', flyd].concat(
      ca === '' ? [] : ['--flyd-ca', ca],
    )
  const cases: [name: string, words: string[], code: number, line: RegExp, env?: Record<string, string>][] = [
    ['http', words(at('ca.pem'), 'http://localhost:1'), 2, /--flyd-ca is given, and flyd is not https/],
    ['unix', words(at('ca.pem'), 'unix:/run/flyd'), 2, /--flyd-ca is given, and flyd is not https/],
    ['variable', words('', 'http://localhost:1'), 2, /flyd is not https/, { DOTFLY_FLYD_CA: at('ca.pem') }],
    ['init', ['init', ...words(at('ca.pem'), 'unix:/f').slice(1), '--', 'true'], 2, /flyd is not https/],
    ['the text itself', words(readFileSync(at('ca.pem'), 'latin1')), 2, /the CA of flyd is not a path/],
    ['a macaroon', words(CREDENTIAL), 2, /the CA of flyd is not a path/],
    ['none there', words(at('none')), 1, /flyd CA file \S+none cannot be read \(ENOENT\)/],
    ['a directory', words(directory), 1, /flyd CA file \S+ is not a file/],
    ['no PEM', words(at('text')), 1, /flyd CA file \S+text holds no certificate in PEM/],
    ['only a key', words(at('ca.key')), 1, /flyd CA file \S+ca\.key holds no certificate in PEM/],
    ['broken', words(at('broken')), 1, /flyd CA file \S+broken holds a certificate that cannot be read/],
    ['too large', words(at('large')), 1, /flyd CA file \S+large is larger than 65536 bytes/],
  ]
  await Promise.all(
    cases.map(async ([name, argv, code, line, env]) => {
      const seen = await dotfly(argv, env)
      t.equal(seen.code, code, name)
      t.match(seen.stderr, line, name)
      t.equal(seen.stderr.split('\n').length, 2, `${name}: one line`)
      t.notMatch(seen.stderr, CREDENTIAL)
    }),
  )

  const flyd = await serve(t, GOOD, (socket) => socket.write(TOKEN_ANSWER))
  writeFileSync(
    at('both.pem'),
    ['other.key', 'other.pem', 'ca.key', 'ca.pem'].map((name) => readFileSync(at(name))).join(''),
  )
  const proxy = await startProxy(t, `https://localhost:${flyd.port}`, at('both.pem'))
  t.equal((await ask(proxy.path, MINT))[0]?.body, JWT, 'one of two CAs is enough')
  const line = readFileSync(`/proc/${proxy.pid}/cmdline`, 'latin1')
  t.equal(line.split('BEGIN CERTIFICATE').length - 1, 2)
  t.notMatch(line, /PRIVATE/)
  const plain = await startProxy(t, 'http://127.0.0.1:1', at('ca.pem'))
  t.notMatch(readFileSync(`/proc/${plain.pid}/cmdline`, 'latin1'), /CERTIFICATE/, 'nothing of it without https')
  t.match((await ask(plain.path, MINT))[0], { status: 502 })
})

const rss = (pid: number): number =>
  Number(/VmRSS:\s+([0-9]+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) * 1024
const mib = (bytes: number): string => `${(bytes / (1 << 20)).toFixed(1)} MiB`
