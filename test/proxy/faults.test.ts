// What breaks in the field, each with the real process and a real peer.

import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, readdirSync, readFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import type { Socket } from 'node:net'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'tap'
import { JWT, leaks, OWN } from '../support/corpus.ts'
import { healthy, JSON_ANSWER, sized, startFlyd, TOKEN_ANSWER } from '../support/flyd.ts'
import type { FlydConnection, RawFlyd } from '../support/flyd.ts'
import { ask, get, MINT, post, RawGuest, READ } from '../support/guest.ts'
import { come, startProxy } from '../support/proxy.ts'

const LONG = process.env['DOTFLY_LONG'] === '1'
const rss = (pid: number): number =>
  Number(/VmRSS:\s+([0-9]+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) / 1024
const descriptors = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length
const TRUNCATED = 'HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 900\r\n\r\neyJ'

test('flyd breaks off, resets, lies', async (t) => {
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, { flyd: flyd.url, sockets: [{ policy: 'all' }] })
  const cut = async (
    name: string,
    how: (connection: FlydConnection) => void,
    request: string,
    code: string,
  ): Promise<void> => {
    flyd.answer = (_, connection) => how(connection)
    const guest = new RawGuest(proxy.path)
    guest.socket.write(request)
    await guest.until(() => guest.ended || guest.answers.length > 0, name)
    const last = proxy.exchanges().length
    if (guest.answers.length > 0) t.match(guest.answers[0], { status: 502, body: code }, name)
    else t.notMatch(guest.bytes.toString('latin1'), JWT, `${name}: cut`)
    t.equal(leaks(guest.bytes), -1)
    guest.socket.destroy()
    flyd.answer = healthy
    t.equal((await ask(proxy.path, MINT))[0]?.body, JWT, `${name}: and then all is well`)
    t.ok(last >= 0)
  }
  const text = (bytes: string, then: (socket: Socket) => void) => (connection: FlydConnection) => {
    connection.socket.write(bytes, () => then(connection.socket))
  }
  await cut(
    'killed mid-answer, token',
    text(TRUNCATED, (s) => s.destroy()),
    MINT,
    'FLYD_CLOSED',
  )
  await cut(
    'killed mid-answer, read',
    text(TRUNCATED, (s) => s.destroy()),
    READ,
    'FLYD_CLOSED',
  )
  await cut(
    'half-closed mid-answer',
    text(TRUNCATED, (s) => s.end()),
    MINT,
    'FLYD_CLOSED',
  )
  await cut(
    'half-closed after a head',
    text('HTTP/1.1 200 OK\r\n', (s) => s.end()),
    READ,
    'FLYD_CLOSED',
  )
  await cut(
    'a length that is too short',
    text(sized(JWT).replace(/length: \d+/, 'length: 5'), () => undefined),
    MINT,
    'FLYD_NOT_A_TOKEN',
  )
  await cut(
    'interim and then nothing',
    text('HTTP/1.1 100 Continue\r\n\r\n', (s) => s.destroy()),
    MINT,
    'FLYD_CLOSED',
  )
  await cut(
    'an endless token',
    ({ socket }) => {
      socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n')
      const more = (): void => {
        while (!socket.destroyed && socket.write(`4000\r\n${'a'.repeat(0x4000)}\r\n`));
        if (!socket.destroyed) socket.once('drain', more)
      }
      more()
    },
    MINT,
    'FLYD_TOO_LARGE',
  )
  const open = (): number => flyd.connections.filter(({ closed }) => !closed).length
  await come(() => open() <= 1)
  t.equal(open(), 1, 'of all connections to flyd, one is kept')
})

test('tcp: flyd resets, and then is not there at all', async (t) => {
  const flyd = await startFlyd(t, 'tcp')
  const proxy = await startProxy(t, { flyd: flyd.url })
  t.equal((await ask(proxy.path, MINT))[0]?.body, JWT, 'TCP works')
  flyd.answer = (_, { socket }) => socket.resetAndDestroy()
  const [reset] = await ask(proxy.path, MINT)
  t.match(reset, { status: 502, body: 'FLYD_CLOSED' }, 'a reset')
  await flyd.kill()
  const [gone] = await ask(proxy.path, MINT)
  t.match(gone, { status: 502, body: 'FLYD_UNREACHABLE' }, 'nobody listens')
})

test('a dead keep-alive connection: once more where that does no harm, and only once', async (t) => {
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, { flyd: flyd.url })
  const suspend = post(`${OWN}/suspend`, '')
  const primed = async (): Promise<number> => {
    flyd.answer = healthy
    await ask(proxy.path, MINT)
    return flyd.requests.length
  }

  await primed()
  const connections = flyd.connections.length
  // Half-closed, so that it is seen when the proxy has let go of it too.
  for (const { socket } of flyd.connections) socket.end()
  await come(() => flyd.connections.every(({ closed }) => closed))
  t.equal((await ask(proxy.path, suspend))[0]?.status, 200, 'closed while idle: not used, even for what is asked once')
  t.equal(flyd.connections.length, connections + 1)

  /** Dies at the next request on a connection that has served one; fresh connections are healthy. */
  const dying = (flyd: RawFlyd): void => {
    flyd.answer = (seen, connection) => {
      if (connection.requests.length > 1) connection.socket.destroy()
      else healthy(seen, connection)
    }
  }
  let before = await primed()
  dying(flyd)
  t.equal((await ask(proxy.path, MINT))[0]?.body, JWT, 'dies at a mint: minted on a new one')
  t.equal(flyd.requests.length - before, 2, 'asked twice')

  before = await primed()
  dying(flyd)
  t.equal((await ask(proxy.path, READ))[0]?.status, 200, 'dies at a read: read on a new one')
  t.equal(flyd.requests.length - before, 2)

  before = await primed()
  dying(flyd)
  t.match((await ask(proxy.path, suspend))[0], { status: 502, body: 'FLYD_CLOSED' }, 'dies at an act: never repeated')
  t.equal(flyd.requests.length - before, 1)

  before = await primed()
  flyd.answer = (_, { socket }) => socket.destroy()
  t.match((await ask(proxy.path, MINT))[0], { status: 502, body: 'FLYD_CLOSED' }, 'dies twice')
  t.equal(flyd.requests.length - before, 2, 'never asked three times')

  before = await primed()
  flyd.answer = (_, { socket }) => void socket.write('H', () => socket.destroy())
  t.match((await ask(proxy.path, MINT))[0], { status: 502, body: 'FLYD_CLOSED' }, 'one byte of an answer: not again')
  t.equal(flyd.requests.length - before, 1)

  before = await primed()
  const silent = flyd.connections.find(({ closed }) => !closed)?.id
  flyd.answer = (seen, connection) => {
    if (connection.id !== silent) healthy(seen, connection)
  }
  t.equal((await ask(proxy.path, MINT, 1, 6000))[0]?.body, JWT, 'a reused connection that falls silent')
  t.equal(flyd.requests.length - before, 2)
  t.equal(proxy.exchanges().filter(({ status }) => status === 0).length, 0)
})

test('what is left over on a connection to flyd answers nobody', async (t) => {
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, { flyd: flyd.url })
  flyd.answer = (_, { socket }) => socket.write(TOKEN_ANSWER, () => setTimeout(() => socket.write(sized('poison')), 10))
  await ask(proxy.path, MINT)
  await come(() => flyd.connections[0]?.closed === true)
  t.equal(flyd.connections[0]?.closed, true, 'bytes on an idle connection end it')
  flyd.answer = healthy
  t.equal((await ask(proxy.path, READ))[0]?.body, '{"ok":true}')
  t.equal(flyd.connections.length, 2)
})

test('what flyd has said before it is asked answers nobody', async (t) => {
  for (const on of ['unix', 'tcp'] as const) {
    const flyd = await startFlyd(t, on)
    const proxy = await startProxy(t, { flyd: flyd.url })
    const guest = new RawGuest(proxy.path)
    for (let round = 1; round <= 8; round++) {
      guest.socket.write(READ)
      await guest.answered(2 * round - 1)
      await sleep(round * 5) // wherever it waits for the next bytes
      // Neither of the two is read before both are there: the guest's request, and a second answer to the one before it.
      process.kill(proxy.pid, 'SIGSTOP')
      await sleep(30) // and its wait is over: what it is told of next is both
      guest.socket.write(READ)
      await sleep(30)
      flyd.connections.findLast(({ closed }) => !closed)?.socket.write(sized('poison'))
      await sleep(30)
      process.kill(proxy.pid, 'SIGCONT')
      await guest.answered(2 * round)
    }
    t.same(new Set(guest.answers.map(({ body }) => body)), new Set(['{"ok":true}']), on)
    guest.socket.destroy()
  }
})

test('a connection to flyd that was reset while it rested carries nothing', async (t) => {
  const flyd = await startFlyd(t, 'tcp')
  const proxy = await startProxy(t, { flyd: flyd.url })
  const act = post(`${OWN}/suspend`, '') // which is not asked twice
  for (const resting of [1, 3]) {
    // As many connections as ask at once.
    flyd.answer = () => undefined
    const guests = Array.from({ length: resting }, () => new RawGuest(proxy.path))
    const before = flyd.requests.length
    for (const { socket } of guests) socket.write(READ)
    await come(() => flyd.requests.length === before + resting)
    for (const { closed, socket } of flyd.connections) if (!closed) socket.write(JSON_ANSWER)
    for (const guest of guests) await guest.answered(1)
    flyd.answer = healthy
    await sleep(50)
    process.kill(proxy.pid, 'SIGSTOP')
    await sleep(30)
    guests[0]?.socket.write(act)
    for (const { closed, socket } of flyd.connections) if (!closed) socket.resetAndDestroy()
    await sleep(30)
    process.kill(proxy.pid, 'SIGCONT')
    await guests[0]?.answered(2)
    t.equal(guests[0]?.answers[1]?.status, 200, `${resting} at rest`)
    for (const { socket } of guests) socket.destroy()
  }
})

test('an answer that is whole before the request has all been sent is the last on its connection', async (t) => {
  const flyd = await startFlyd(t) // for its directory
  const path = `${flyd.url.slice('unix:'.length)}2`
  const sockets: Socket[] = []
  const server = createServer({ pauseOnConnect: true }, (socket) =>
    sockets.push(socket.on('error', () => socket.destroy())),
  ).listen(path)
  const proxy = await startProxy(t, { flyd: `unix:${path}`, sockets: [{ policy: 'all' }] })
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  // Written anew it is three times as long, which is more than the kernel takes while nobody reads.
  const large = post('/v1/apps/weather-cat/machines', `{"config":[${'1e15,'.repeat(13_000)}1]}`)
  const early = ask(proxy.path, large)
  await come(() => sockets.length === 1)
  await sleep(100)
  sockets[0]?.write(sized('early'))
  t.equal((await early)[0]?.body, 'early')
  const next = ask(proxy.path, READ)
  await sleep(100)
  sockets[0]?.write(sized('poison'))
  sockets[1]?.write(JSON_ANSWER)
  t.equal((await next)[0]?.body, '{"ok":true}')
})

test('a guest that goes away takes the connection to flyd with it', async (t) => {
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, { flyd: flyd.url })
  flyd.answer = (_, { socket }) => {
    socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n')
    const more = setInterval(() => (socket.destroyed ? clearInterval(more) : socket.write('5\r\nhello\r\n')), 5)
  }
  const guest = new RawGuest(proxy.path)
  guest.socket.write(READ)
  await guest.until(({ bytes }) => bytes.length > 100, 'a beginning')
  guest.socket.destroy()
  await proxy.until(() => proxy.exchanges().length === 1)
  await come(() => flyd.connections[0]?.closed === true)
  flyd.answer = healthy
  t.equal((await ask(proxy.path, READ))[0]?.body, '{"ok":true}')
  t.equal(flyd.connections.length, 2, 'never used again')
})

test('a guest that goes away while flyd is silent is let go at once; one that only has no more to say is not', async (t) => {
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, { flyd: flyd.url })
  const before = descriptors(proxy.pid)
  const held: FlydConnection[] = []
  flyd.answer = (_, connection) => held.push(connection)
  const asked = async (words: string): Promise<RawGuest> => {
    const guest = new RawGuest(proxy.path)
    const count = held.length
    guest.socket.write(words)
    await come(() => held.length > count)
    return guest
  }
  const waiting = await asked(READ)
  waiting.socket.end()
  const ahead = await asked(READ + get('/v1/tokens/current?')) // both in one write
  ahead.socket.destroy()
  const gone = await asked(READ)
  gone.socket.destroy()
  const ended = await asked(READ)
  ended.socket.end()
  await once(ended.socket, 'finish')
  ended.socket.destroy()

  await proxy.until(() => proxy.exchanges().length === 2) // long before flyd's silence is up
  t.same(
    proxy.exchanges().map(({ status, code }) => [status, code]),
    [
      [0, undefined],
      [0, undefined],
    ],
  )
  await come(() => held[2]?.socket.destroyed === true && held[3]?.socket.destroyed === true)
  t.equal(descriptors(proxy.pid), before + 4, 'two guests are left, each with a connection to flyd')
  t.same(
    held.map(({ socket }) => socket.destroyed),
    [false, false, true, true],
  )
  flyd.answer = healthy
  for (const { socket } of held.slice(0, 2)) socket.write(sized('{"late":true}'))
  await waiting.closed()
  t.equal(waiting.answers[0]?.body, '{"late":true}', 'who waits gets its answer')
  waiting.socket.destroy()
  await proxy.until(() => proxy.exchanges().length === 5)
  t.equal(flyd.requests.length, 4, 'what is sent ahead is judged, whether anybody waits for it or not')
  await come(() => descriptors(proxy.pid) <= before + 2) // idle ones to flyd
})

test('guests that never read', { timeout: 40_000 }, async (t) => {
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, { flyd: flyd.url })
  await ask(proxy.path, READ)
  const before = rss(proxy.pid)
  const total = 200 * 1024 * 1024
  const block = Buffer.alloc(1024 * 1024, 'x')
  let sent = 0
  flyd.answer = (_, { socket }) => {
    socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${total}\r\n\r\n`)
    const more = (): void => {
      while (sent < total && !socket.destroyed) {
        sent += block.length
        if (!socket.write(block)) return void socket.once('drain', more)
      }
    }
    more()
  }
  const guest = new RawGuest(proxy.path)
  guest.socket.pause()
  guest.socket.write(READ)
  await sleep(800)
  const stalled = rss(proxy.pid)
  t.comment(
    `a 200 MB answer that nobody reads: RSS ${before.toFixed(0)} -> ${stalled.toFixed(0)} MB, flyd could send ${sent >> 20} MB`,
  )
  t.ok(stalled - before < 48, 'memory is bounded')
  guest.socket.removeAllListeners('data')
  guest.socket.on('data', () => undefined)
  guest.socket.resume()
  for (let i = 0; i < 1000 && guest.socket.bytesRead < total && !guest.ended; i++) await sleep(20)
  t.ok(guest.socket.bytesRead >= total, 'read at last, it is all there')
  t.comment(`and when it was read: RSS ${rss(proxy.pid).toFixed(0)} MB`)
  guest.socket.destroy()

  const large = sized('y'.repeat(256 * 1024))
  flyd.answer = (_, { socket }) => socket.write(large)
  const start = rss(proxy.pid)
  const asked = flyd.requests.length
  const pipeliner = new RawGuest(proxy.path)
  pipeliner.socket.pause()
  pipeliner.socket.write(READ.repeat(800))
  await sleep(1500)
  const end = rss(proxy.pid)
  t.comment(
    `800 pipelined requests for 256 KB each, nothing read: RSS ${start.toFixed(0)} -> ${end.toFixed(0)} MB, flyd asked ${flyd.requests.length - asked} times`,
  )
  t.ok(end - start < 48, 'a pipelining guest does not fill memory')
  pipeliner.socket.resume()
  await pipeliner.until(({ socket }) => socket.bytesRead >= 800 * large.length, 'all answers', 20_000)
  t.pass('and gets all its answers when it reads')
  pipeliner.socket.destroy()

  // Each answer comes in one read, so that only the guest's side can hold the next request back.
  const small = sized('y'.repeat(12 * 1024))
  flyd.answer = (_, { socket }) => socket.write(small)
  const base = rss(proxy.pid)
  const from1 = flyd.requests.length
  const asker = new RawGuest(proxy.path)
  asker.socket.pause()
  asker.socket.write(READ.repeat(8000))
  await sleep(2000)
  t.comment(
    `8000 pipelined requests for 12 KB each, nothing read: RSS ${base.toFixed(0)} -> ${rss(proxy.pid).toFixed(0)} MB, flyd asked ${flyd.requests.length - from1} times`,
  )
  t.ok(flyd.requests.length - from1 < 500, 'answers that come in one piece neither')
  asker.socket.destroy()

  const refused = new RawGuest(proxy.path)
  refused.socket.pause()
  const junk = get('/v1/nothing')
  const from = rss(proxy.pid)
  refused.socket.write(junk.repeat(90_000))
  await sleep(1500)
  t.comment(`90,000 pipelined refusals, nothing read: RSS ${from.toFixed(0)} -> ${rss(proxy.pid).toFixed(0)} MB`)
  t.ok(rss(proxy.pid) - from < 48, 'nor do refusals')
  refused.socket.resume()
  refused.socket.end()
  await refused.closed(20_000)
  t.equal(
    refused.bytes.toString('latin1').split('ROUTE_NOT_SERVED').length - 1,
    90_000,
    'each refusal arrives when it reads',
  )
  refused.socket.destroy()

  const crowd = Array.from({ length: 40 }, () => new RawGuest(proxy.path))
  const few = rss(proxy.pid)
  for (const { socket } of crowd) {
    socket.pause()
    socket.write(junk.repeat(20_000))
  }
  await sleep(5000)
  t.comment(`40 such guests at once: RSS ${few.toFixed(0)} -> ${rss(proxy.pid).toFixed(0)} MB`)
  t.ok(
    rss(proxy.pid) - few < 48,
    'however many they are: what one has not read is what the kernel keeps, and one answer',
  )
  for (const { socket } of crowd) socket.destroy()
  flyd.answer = healthy
  t.equal((await ask(proxy.path, MINT))[0]?.body, JWT)
})

test('who sends hundreds of requests in one write has one of them a turn, as everybody has', async (t) => {
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, { flyd: flyd.url })
  const guests = Array.from({ length: 11 }, () => new RawGuest(proxy.path))
  for (const guest of guests) {
    guest.socket.write(READ)
    await guest.answered(1)
  }
  // Whoever was first in the queue is served first: all of them are there before anybody is.
  process.kill(proxy.pid, 'SIGSTOP')
  const [honest, ...greedy] = guests
  for (const { socket } of greedy)
    await new Promise((written) => socket.write(get('/v1/nothing').repeat(400) + READ, written))
  honest?.socket.write(MINT)
  await sleep(50)
  process.kill(proxy.pid, 'SIGCONT')
  await proxy.until(() => proxy.exchanges().length === 11 + 4000 + 11)
  const told = proxy.exchanges().slice(11)
  t.equal(told.filter(({ status }) => status === 404).length, 4000, 'each is answered')
  const begun = told.find(({ method, status }) => method === 'POST' && status === 200)?.time ?? Infinity
  const before = told.filter(({ status, time }) => status === 404 && time < begun).length
  t.comment(`${before} of 4000 refusals came before the one honest request`)
  t.ok(before < 1000, 'nobody waits for all that one has sent')
  for (const { socket } of guests) socket.destroy()
})

test('many idle guests', { timeout: 60_000 }, async (t) => {
  const count = LONG ? 10_000 : 2_000
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, { flyd: flyd.url })
  const before = rss(proxy.pid)
  const guests: Socket[] = []
  for (let i = 0; i < count; i += 50) {
    await Promise.all(
      Array.from(
        { length: 50 },
        () =>
          new Promise<void>((done) => {
            const dial = (): void => {
              const socket = connect({ path: proxy.path })
              socket.on('connect', () => {
                guests.push(socket)
                done()
              })
              // The backlog is full: a client that blocks would wait in connect(2).
              socket.on('error', () => setTimeout(dial, 5))
            }
            dial()
          }),
      ),
    )
  }
  const [answer] = await ask(proxy.path, MINT)
  t.equal(answer?.body, JWT, `served beside ${count} idle guests`)
  const after = rss(proxy.pid)
  t.comment(`${count} idle guests: RSS ${before.toFixed(0)} -> ${after.toFixed(0)} MB`)
  t.ok(after - before < count * 0.02 + 20, 'about 20 KB each at most')
  for (const socket of guests) socket.destroy()
  for (let i = 0; i < 300 && descriptors(proxy.pid) >= 60; i++) await sleep(100)
  t.ok(descriptors(proxy.pid) < 60, `all descriptors are back, but ${descriptors(proxy.pid)}`)
})

test('descriptors run out', async (t) => {
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, { flyd: flyd.url })
  const { pid } = proxy
  await ask(proxy.path, MINT)
  const held = descriptors(pid)
  execFileSync('prlimit', ['--pid', String(pid), `--nofile=${held + 10}:`])
  const guests = Array.from({ length: 60 }, () => new RawGuest(proxy.path))
  for (const guest of guests) guest.socket.write(MINT)
  await sleep(500)
  for (const guest of guests) guest.socket.destroy()
  await sleep(200)
  execFileSync('prlimit', ['--pid', String(pid), '--nofile=4096:'])
  t.equal((await ask(proxy.path, MINT))[0]?.body, JWT, 'served again when there are some')
  t.equal(proxy.pid, pid, 'by the same process')
  t.comment(`faults reported: ${proxy.events.filter(({ kind }) => kind === 'fault').length}`)
})

test('kill -9 while serving: started again, and no connection is refused', async (t) => {
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, { flyd: flyd.url })
  const first = proxy.pid
  const errors: string[] = []
  let served = 0
  const done = new AbortController()
  const client = async (): Promise<void> => {
    while (!done.signal.aborted) {
      const guest = new RawGuest(proxy.path)
      guest.socket.write(MINT)
      try {
        await guest.until(() => guest.ended || guest.answers.length > 0, 'anything')
        if (guest.answers[0]?.body === JWT) served++
        else errors.push(guest.error ?? 'ended')
      } catch (error) {
        errors.push(String(error))
      }
      guest.socket.destroy()
      await sleep(2)
    }
  }
  const clients = [client(), client(), client()]
  const reaches = async (count: number): Promise<void> => {
    for (const end = performance.now() + 20_000; performance.now() < end; await sleep(10)) if (served >= count) return
  }
  await reaches(3)
  const before = served
  process.kill(first, 'SIGKILL')
  await sleep(1200)
  await reaches(before + 10)
  done.abort()
  await Promise.all(clients)
  t.not(proxy.pid, first, 'another process')
  t.ok(before > 0 && served > before, `served ${before} before and ${served - before} after`)
  t.notOk(
    errors.includes('ECONNREFUSED') || errors.includes('ENOENT'),
    `no connect refused (${errors.length} cut: ${[...new Set(errors)].join()})`,
  )
  t.ok(errors.length <= 3, 'only what was in flight is lost')
})

test('SIGTERM: what is in flight ends well, then the process ends', async (t) => {
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, { flyd: flyd.url })
  flyd.answer = (seen, connection) => setTimeout(() => healthy(seen, connection), 400)
  const busy = new RawGuest(proxy.path)
  const idle = new RawGuest(proxy.path)
  const fresh = new RawGuest(proxy.path)
  const halfway = new RawGuest(proxy.path)
  idle.socket.write(MINT)
  await idle.answered(1)
  busy.socket.write(MINT)
  halfway.socket.write(MINT.slice(0, 20))
  await sleep(100)
  const stopped = proxy.stop()
  await idle.closed()
  t.equal(idle.answers.length, 1, 'an idle guest is hung up on')
  idle.socket.end()
  fresh.socket.write(MINT)
  halfway.socket.write(MINT.slice(20))
  for (const guest of [fresh, halfway]) {
    await guest.closed()
    t.match(guest.answers[0], { status: 200, body: JWT }, 'whoever had just connected, or begun to ask, is answered')
    guest.socket.end()
  }
  await busy.closed()
  t.match(busy.answers[0], { status: 200, body: JWT }, 'in flight: answered')
  t.equal(busy.answers[0]?.fields.get('connection'), 'close')
  busy.socket.end()
  await stopped
  t.same(
    proxy.events.slice(-1).map(({ kind }) => kind),
    ['stopped'],
  )
  t.equal(proxy.exchanges().length, 4)
  const late = new RawGuest(proxy.path)
  await late.closed()
  t.ok(late.error !== undefined, 'nobody listens any more')
})

test(
  'a caller who is not allowed leaves nothing behind',
  { skip: process.getuid?.() !== 0 && 'needs root' },
  async (t) => {
    const flyd = await startFlyd(t)
    const proxy = await startProxy(t, { flyd: flyd.url, sockets: [{ mode: 0o777, uid: 4242 }] })
    chmodSync(dirname(proxy.path), 0o711)
    await ask(proxy.path, READ)
    const before = descriptors(proxy.pid)
    const curl = [
      '-s',
      '-m',
      '3',
      '--unix-socket',
      proxy.path,
      '-o',
      '/dev/null',
      '-w',
      '%{http_code}',
      'http://localhost/v1/tokens/current',
    ]
    for (let i = 0; i < 5; i++) t.equal(execFileSync('curl', curl, { uid: 65534, encoding: 'utf8' }), '403')
    await come(() => descriptors(proxy.pid) <= before)
    t.ok(descriptors(proxy.pid) <= before, 'no descriptor is kept')
    await proxy.until(() => proxy.exchanges().length >= 6)
    t.equal(proxy.exchanges().length, 6, 'and each refusal is an event')
  },
)
