// What the guests of a socket may have in the trusted process's memory, all together: of requests that they do not finish,
// of answers that they do not read, and of answers that flyd does not finish. Who wants more gets none; who wants none, or
// has a socket of its own, does not notice.

import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { test, type Test } from 'tap'
import { healthy, sized, startFlyd } from '../support/flyd.ts'
import { ask, MINT, post, RawGuest, READ } from '../support/guest.ts'
import { come, startProxy } from '../support/proxy.ts'

const SOCKETS = 16
const HOLDS = (64 * 1024 * 1024) / SOCKETS // of each: src/init/launch.ts has as much for all
const GUESTS = 160
const LARGE = post('/v1/apps/weather-cat/machines/148ed193b95189/metadata/k', `{"value":"${'v'.repeat(30_000)}"}`)

/** MB that the process has, and no file gives back. */
function anonymous(pid: number): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1')
  return Number(/^Anonymous:\s+(\d+)/m.exec(text)?.[1]) / 1024
}

async function manySockets(t: Test): Promise<{
  flyd: Awaited<ReturnType<typeof startFlyd>>
  proxy: Awaited<ReturnType<typeof startProxy>>
  path: string
  other: string
}> {
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, {
    flyd: flyd.url,
    sockets: Array.from({ length: SOCKETS }, () => ({ policy: 'all' })),
  })
  const [path = '', other = ''] = proxy.paths
  return { flyd, proxy, path, other }
}

test('requests that are not finished', async (t) => {
  const { proxy, path, other } = await manySockets(t)
  const before = anonymous(proxy.pid)
  const part = Buffer.from(
    `POST /v1/apps/a/machines HTTP/1.1\r\nHost: x\r\nContent-Length: 65536\r\n\r\n${'x'.repeat(60_000)}`,
  )
  const guests: RawGuest[] = []
  for (let i = 0; i < GUESTS; i++) {
    const guest = new RawGuest(path)
    guests.push(guest)
    guest.socket.write(part)
    if (i % 50 === 0) await sleep(5)
  }
  await come(() => guests.filter(({ ended }) => ended).length >= GUESTS - HOLDS / part.length)
  const refused = guests.filter(({ ended }) => ended)
  t.comment(`${refused.length} of ${GUESTS} refused, ${(anonymous(proxy.pid) - before).toFixed(0)} MB more`)
  t.ok(GUESTS - refused.length > HOLDS / part.length / 3, 'many could begin')
  t.same(
    [...new Set(refused.map(({ answers: [first] }) => first?.status ?? 0))],
    [503],
    'whoever was refused knows why',
  )
  t.match(refused[0]?.answers[0]?.body, /TOO_MUCH_UNFINISHED/)
  t.equal((await ask(path, MINT))[0]?.status, 200, 'what comes whole is served meanwhile')
  const slow = new RawGuest(path)
  slow.socket.write('GET /v1/nothing HTTP/1.1\r\nHo')
  await sleep(50)
  slow.socket.write('st: x\r\n\r\n')
  await slow.answered(1)
  slow.socket.write(MINT)
  await slow.answered(2)
  t.same(
    slow.answers.map(({ status }) => status),
    [200, 200],
    'so is what comes in two pieces, on one connection',
  )
  slow.socket.destroy()
  t.equal((await ask(other, LARGE))[0]?.status, 200, 'and another socket does not notice')
  t.equal((await ask(path, LARGE))[0]?.status, 503, 'negative control: this one does')
  for (const { socket } of guests) socket.destroy()
  await come(() => proxy.exchanges().filter(({ code }) => code === 'TOO_MUCH_UNFINISHED').length > refused.length)
  await sleep(100)
  t.equal((await ask(path, LARGE))[0]?.status, 200, 'when they are gone all is as before')
})

test('what was sent ahead and is answered is held no more', async (t) => {
  const { path } = await manySockets(t)
  const guests = Array.from({ length: GUESTS }, () => new RawGuest(path))
  for (const guest of guests) {
    guest.socket.write(LARGE + READ)
    await guest.answered(2)
  }
  t.same(new Set(guests.flatMap(({ answers }) => answers.map(({ status }) => status))), new Set([200]))
  t.equal((await ask(path, LARGE))[0]?.status, 200)
  for (const { socket } of guests) socket.destroy()
})

test('an answer in pieces of a byte takes little more than its bytes', async (t) => {
  const { flyd, proxy, path } = await manySockets(t)
  const [size, many] = [300_000, 6]
  flyd.answer = (_seen, { socket }) => {
    socket.write('HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n')
    socket.write('1\r\np\r\n'.repeat(size))
  }
  const before = anonymous(proxy.pid)
  const guests = Array.from({ length: many }, () => new RawGuest(path))
  for (const { socket } of guests) socket.write('GET /v1/apps HTTP/1.0\r\n\r\n')
  await come(
    () => flyd.connections.length === many && flyd.connections.every(({ socket }) => socket.writableLength === 0),
  )
  await sleep(300)
  const more = anonymous(proxy.pid) - before
  t.comment(`${more.toFixed(0)} MB for ${((size * many) / 1e6).toFixed(1)}`)
  t.ok(more < 100, 'where a Buffer for each would be 270')
  flyd.answer = healthy
  for (const { socket } of flyd.connections) socket.write('0\r\n\r\n')
  for (const guest of guests) await guest.answered(1)
  t.same(
    guests.map(({ answers: [first] }) => first?.body.length),
    guests.map(() => size),
  )
})

test('answers that are not read', async (t) => {
  const { flyd, proxy, path, other } = await manySockets(t)
  const body = `"${'a'.repeat(1_000_000)}"`
  flyd.answer = (_seen, { socket }) => void socket.write(sized(body))
  const before = anonymous(proxy.pid)
  const guests: Socket[] = []
  let gone = 0
  for (let i = 0; i < 3 * GUESTS; i++) {
    const socket = connect({ path }).on('close', () => gone++)
    socket.on('error', () => undefined)
    guests.push(socket)
    socket.write(READ) // and never a listener for what comes
  }
  const cut = (): number => proxy.exchanges().filter(({ code }) => code === 'TOO_MUCH_UNFINISHED').length
  await come(() => cut() > 50)
  await sleep(300)
  t.comment(`${cut()} of ${guests.length} cut off, ${(anonymous(proxy.pid) - before).toFixed(0)} MB more`)
  t.ok(cut() < guests.length - HOLDS / (128 * 1024), 'many are left to read when they like')
  t.equal((await ask(other, READ))[0]?.body, body, 'another socket does not notice')
  for (const socket of guests) socket.destroy()
  await come(() => gone === guests.length)
  await sleep(100)
  t.equal((await ask(path, READ))[0]?.body, body, 'when they are gone all is as before')
})

test('answers without a length, for HTTP/1.0, that flyd does not finish', async (t) => {
  const { flyd, proxy, path } = await manySockets(t)
  flyd.answer = (seen, connection) => {
    if (seen.target === '/v1/tokens/oidc') {
      healthy(seen, connection)
      return
    }
    const piece = 'p'.repeat(1000)
    connection.socket.write('HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n')
    for (let i = 0; i < 900; i++) connection.socket.write(`3e8\r\n${piece}\r\n`)
  }
  const guests = Array.from({ length: 20 }, () => new RawGuest(path))
  for (const { socket } of guests) socket.write('GET /v1/apps HTTP/1.0\r\n\r\n')
  await come(() => guests.filter(({ ended }) => ended).length >= 20 - HOLDS / 900_000)
  const [refused] = guests.filter(({ ended }) => ended)
  t.match(refused?.answers[0]?.body, /TOO_MUCH_UNFINISHED/)
  t.equal(refused?.answers[0]?.status, 503)
  t.equal((await ask(path, MINT))[0]?.status, 200)
  t.equal(flyd.connections.filter(({ closed }) => !closed).length <= 8, true, 'and flyd is not read for them')
  for (const { socket } of guests) socket.destroy()
  t.ok(proxy.pid > 0)
})
