// Time limits and order on one guest connection, with the real process.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'tap'
import { JWT } from '../support/corpus.ts'
import { healthy, JSON_ANSWER, sized, startFlyd, TOKEN_ANSWER } from '../support/flyd.ts'
import { ask, get, MINT, post, RawGuest, READ } from '../support/guest.ts'
import { startProxy } from '../support/proxy.ts'

test('time limits, all at once', { timeout: 40_000 }, async (t) => {
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, { flyd: flyd.url, sockets: [{ policy: 'all' }] })

  async function drips(name: string, text: string): Promise<void> {
    const guest = new RawGuest(proxy.path)
    for (const c of text) {
      if (guest.ended) break
      guest.socket.write(c)
      await sleep(400)
    }
    await guest.answered(1, 8000)
    t.equal(guest.answers[0]?.status, 408, name)
    guest.socket.destroy()
  }

  async function linger(): Promise<void> {
    const guest = new RawGuest(proxy.path)
    guest.socket.pause()
    guest.socket.write(get('/v1/big', 'Connection: close\r\n'))
    await sleep(4500)
    guest.socket.resume()
    await guest.closed(8000)
    t.equal(
      guest.answers[0]?.body.length,
      BIG.length,
      'a guest that pauses before it reads its last answer gets all of it',
    )
    guest.socket.destroy()
  }

  async function readAhead(): Promise<void> {
    const guest = new RawGuest(proxy.path)
    guest.socket.write(get('/v1/slow') + READ.slice(0, 20))
    await guest.answered(1, 9000)
    await sleep(1800)
    guest.socket.write(READ.slice(20))
    await guest.answered(2, 3000)
    t.same(
      guest.answers.map(({ status }) => status),
      [200, 200],
      'half a request behind a slow one is not late',
    )
    guest.socket.destroy()
  }

  async function drippingPipeline(): Promise<void> {
    const guest = new RawGuest(proxy.path)
    const half = READ.length / 2
    guest.socket.write(READ.slice(0, half))
    for (let i = 0; i < 8; i++) {
      await sleep(900)
      guest.socket.write(READ.slice(half) + READ.slice(0, half))
    }
    guest.socket.write(READ.slice(half))
    await guest.answered(9)
    t.ok(
      guest.answers.every(({ status }) => status === 200),
      'the time limit is of a request, not of a connection',
    )
    guest.socket.destroy()
  }

  async function silence(): Promise<void> {
    const [answer] = await ask(proxy.path, post('/v1/tokens/oidc', '{"aud":"silent"}'), 1, 15_000)
    t.equal(answer?.status, 504, 'a flyd that never answers a mint')
    t.match(answer?.body, 'FLYD_TIMEOUT')
  }

  async function slow(): Promise<void> {
    const [answer] = await ask(proxy.path, post('/v1/tokens/oidc', '{"aud":"bytes"}'), 1, 15_000)
    t.equal(answer?.body, JWT, 'a flyd that answers byte by byte')
  }

  const BIG = 'b'.repeat(900_000)
  flyd.answer = (seen, connection) => {
    const { socket } = connection
    if (seen.target === '/v1/big') socket.write(sized(BIG))
    else if (seen.target === '/v1/slow') setTimeout(() => socket.write(JSON_ANSWER), 6500)
    else if (seen.body.includes('bytes')) {
      void (async () => {
        for (const c of TOKEN_ANSWER) {
          socket.write(c)
          await sleep(2)
        }
      })()
    } else if (!seen.body.includes('silent')) healthy(seen, connection)
  }
  await Promise.all([
    drips('slowloris: a head that never ends', `GET / HTTP/1.1\r\nX: ${'a'.repeat(100)}`),
    (async () => {
      const guest = new RawGuest(proxy.path)
      guest.socket.write('POST /v1/tokens/oidc HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{')
      await guest.closed(9000)
      t.equal(guest.answers[0]?.status, 408, 'a body that never comes')
      guest.socket.destroy()
    })(),
    linger(),
    readAhead(),
    drippingPipeline(),
    silence(),
    slow(),
  ])
})

test('100 Continue: sent once, only for what could be served, before the body', async (t) => {
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, { flyd: flyd.url })
  const body = '{"aud":"sts.amazonaws.com"}'
  const [head = ''] = MINT.split(body)
  const guest = new RawGuest(proxy.path)
  guest.socket.write(head.replace('\r\n\r\n', '\r\nExpect: 100-continue\r\n\r\n'))
  await guest.until(({ answers }) => answers.length === 1, '100')
  t.equal(guest.bytes.toString(), 'HTTP/1.1 100 Continue\r\n\r\n')
  guest.socket.write(body.slice(0, 3))
  await sleep(20)
  guest.socket.write(body.slice(3))
  await guest.answered(1)
  t.same(
    guest.answers.map(({ status }) => status),
    [100, 200],
  )
  t.equal(flyd.requests.length, 1)
  guest.socket.destroy()

  const denied = new RawGuest(proxy.path)
  denied.socket.write(
    'POST /v1/apps/other/machines/m/stop HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n',
  )
  await denied.closed()
  denied.socket.destroy()
  t.same(
    denied.answers.map(({ status }) => status),
    [403],
  )
  await proxy.until(() => proxy.exchanges().length >= 2)
  t.equal(proxy.exchanges().length, 2)
})

test('a 405 says which methods there are, and no other refusal does', async (t) => {
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, { flyd: flyd.url })
  const allow = async (bytes: string): Promise<(number | string | undefined)[]> => {
    const [answer] = await ask(proxy.path, bytes)
    return [answer?.status, answer?.fields.get('allow')]
  }
  t.same(await allow(get('/v1/tokens/oidc')), [405, 'POST'])
  t.same(await allow('OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n'), [405, ''])
  t.same(
    await allow('PUT /v1/tokens/oidc HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n'),
    [405, 'POST'],
    'before its body',
  )
  t.same(await allow(get('/v1/nothing')), [404, undefined])
  t.same(await allow(MINT), [200, undefined])
})

test('a guest that closes after a request still has its exchange, and its event', async (t) => {
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, { flyd: flyd.url })
  for (let i = 0; i < 20; i++) {
    const guest = new RawGuest(proxy.path)
    guest.socket.end(READ)
    await guest.closed()
    t.equal(guest.answers[0]?.status, 200)
  }
  await proxy.until(() => proxy.exchanges().length >= 20)
  t.equal(proxy.exchanges().length, 20)
})

test('what a guest says again, to the byte, is asked and answered again; one byte more is another request', async (t) => {
  const flyd = await startFlyd(t)
  const audiences = ['sts.amazonaws.com', 'sts.amazonaws.con']
  const proxy = await startProxy(t, { flyd: flyd.url, sockets: [{ audiences: audiences.slice(0, 1) }] })
  const guest = new RawGuest(proxy.path)
  const says = async (request: string): Promise<number | undefined> => {
    const before = guest.answers.length
    guest.socket.write(request)
    await guest.answered(before + 1)
    return guest.answers.at(-1)?.status
  }
  const other = MINT.replace('.com', '.con')
  t.equal(other.length, MINT.length)
  t.same(
    [await says(MINT), await says(MINT), await says(other), await says(MINT), await says(READ), await says(READ)],
    [200, 200, 403, 200, 200, 200],
  )
  // The same bytes, cut in two, and with the head of another request behind them.
  guest.socket.write(MINT.slice(0, -5))
  await sleep(50)
  t.equal(await says(MINT.slice(-5)), 200)
  t.equal(await says(MINT + READ.slice(0, 9)), 200)
  t.equal(await says(READ.slice(9)), 200)
  t.equal(await says(READ), 200)
  t.equal(flyd.requests.filter(({ target }) => target === '/v1/tokens/oidc').length, 5)
  t.equal(new Set(flyd.requests.map(({ raw }) => raw)).size, 2, 'the same is asked in the same bytes')
  await proxy.until(() => proxy.exchanges().length === 10)
  t.same(
    proxy.exchanges().map(({ audience, code, route }) => audience ?? code ?? route),
    [
      'sts.amazonaws.com',
      'sts.amazonaws.com',
      'AUDIENCE_NOT_ALLOWED',
      'sts.amazonaws.com',
      '/v1/tokens/current',
      '/v1/tokens/current',
      'sts.amazonaws.com',
      'sts.amazonaws.com',
      '/v1/tokens/current',
      '/v1/tokens/current',
    ],
  )
  guest.socket.destroy()
})

test('what another guest has asked, to the byte, is known; its answer, its caller and its socket are not taken for it', async (t) => {
  const flyd = await startFlyd(t)
  const held: (() => void)[] = []
  let asked = Promise.withResolvers<void>()
  flyd.answer = (seen, { socket }) => {
    const { aud } = JSON.parse(seen.body) as { aud: string }
    const claims = Buffer.from(JSON.stringify({ aud })).toString('base64url')
    held.push(() => socket.write(sized(`e30.${claims}.c2ln`, 'text/plain; charset=utf-8')))
    asked.resolve()
  }
  const proxy = await startProxy(t, { flyd: flyd.url, sockets: [{}, { audiences: ['of.others'] }] })
  const audiences = ['a.example', 'a.example', 'b.example', 'a.example', 'b.example', 'b.example']
  const guests = audiences.map(() => new RawGuest(proxy.path))
  for (const [i, guest] of guests.entries()) {
    guest.socket.write(post('/v1/tokens/oidc', JSON.stringify({ aud: audiences[i] })))
    await asked.promise
    asked = Promise.withResolvers()
  }
  for (const answer of held.toReversed()) answer()
  for (const guest of guests) await guest.answered(1)
  t.same(
    guests.map(({ answers: [answer] }) =>
      JSON.parse(Buffer.from(answer?.body.split('.')[1] ?? '', 'base64url').toString()),
    ),
    audiences.map((aud) => ({ aud })),
  )
  for (const guest of guests) guest.socket.destroy()
  await proxy.until(() => proxy.exchanges().length === guests.length)
  const told = proxy.exchanges().map(({ audience = '' }) => audience)
  t.equal(told.filter((aud) => aud === 'a.example').length, 3)
  t.equal(told.length, 6)

  flyd.answer = healthy
  const pids: number[] = []
  for (const path of [...proxy.paths, ...proxy.paths]) {
    const words = ['-s', '--unix-socket', path, '-d', '{"aud":"a.example"}', 'http://localhost/v1/tokens/oidc']
    const curl = spawn('curl', words, { stdio: 'ignore' })
    await once(curl, 'close')
    pids.push(curl.pid ?? 0)
  }
  await proxy.until(() => proxy.exchanges().length === guests.length + 4)
  t.same(
    proxy
      .exchanges()
      .slice(-4)
      .map(({ pid, socket, status }) => [pid, socket, status]),
    pids.map((pid, i) => [pid, i % 2, i % 2 === 0 ? 200 : 403]),
  )
})

test('a refused request and one behind it, again and again to the byte: each time both are answered', async (t) => {
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, { flyd: flyd.url })
  const guest = new RawGuest(proxy.path)
  for (let round = 1; round <= 3; round++) {
    guest.socket.write(get('/v1/nowhere') + MINT)
    await guest.answered(2 * round)
  }
  t.same(
    guest.answers.map(({ status }) => status),
    [404, 200, 404, 200, 404, 200],
  )
  guest.socket.destroy()
})
