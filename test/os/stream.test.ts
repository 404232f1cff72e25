// Our own streams against Node's: the same bytes, ends and refusals, over real sockets.

import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { test, type Test } from 'tap'
import { Dice } from '../../src/canary/credentials.ts'
import { accept, listenAt } from '../../src/os/accept.ts'
import { addressOf, dial } from '../../src/os/dial.ts'
import { listenUnix } from '../../src/os/listen.ts'
import { IN, Loop } from '../../src/os/loop.ts'
import { Buffers } from '../../src/os/buffers.ts'
import { type Hearer, Stream } from '../../src/os/stream.ts'

const loop = new Loop()
const buffers = new Buffers(Buffer.allocUnsafeSlow(64 * 1024), Buffer.allocUnsafeSlow(16 * 1024))

/** A stream, and what it told. */
class Heard implements Hearer {
  readonly stream: Stream
  readonly told: string[] = []
  bytes = Buffer.alloc(0)
  inCall = false
  onData: (bytes: Buffer) => void = () => undefined

  constructor(fd: number, first = false) {
    this.stream = new Stream(fd, loop, buffers, this, first)
  }
  data(bytes: Buffer): void {
    this.bytes = Buffer.concat([this.bytes, bytes])
    this.onData(bytes)
    bytes.fill('x') // it is ours to change, and nobody else's to see
  }
  ended(): void {
    this.told.push('ended')
  }
  drained(): void {
    this.told.push('drained')
  }
  closed(): void {
    this.told.push(this.inCall ? 'closed within a call' : 'closed')
  }
  async until(what: () => boolean): Promise<void> {
    while (!what()) await sleep(2)
  }
}

/** A listening socket of ours, and connections to it from Node. */
function listening(t: Test): { fd: number; path: string; pair: (first?: boolean) => Promise<[Socket, Heard]> } {
  const dir = mkdtempSync(join(tmpdir(), 'stream-'))
  const path = join(dir, 's')
  const fd = listenUnix(path, 0o600)
  t.equal(listenAt(fd), true)
  t.teardown(() => {
    closeSync(fd)
    rmSync(dir, { recursive: true })
  })
  return {
    fd,
    path,
    async pair(first = false) {
      const client = connect({ path, allowHalfOpen: true })
      client.on('error', () => undefined)
      await once(client, 'connect')
      const taken = accept(fd)
      if (typeof taken !== 'number') throw new Error(taken)
      return [client, new Heard(taken, first)]
    },
  }
}

async function all(socket: Socket): Promise<Buffer> {
  const parts: Buffer[] = []
  socket.on('data', (part: Buffer) => parts.push(part))
  await once(socket, 'end')
  return Buffer.concat(parts)
}

test('bytes go both ways, in order, and each direction ends by itself', async (t) => {
  const [client, ours] = await listening(t).pair()
  ours.onData = (bytes) => ours.stream.write([Buffer.from('got '), bytes, Buffer.from(';')])
  const answers = all(client)
  client.write('one')
  await ours.until(() => ours.bytes.length === 3)
  client.end('two')
  await ours.until(() => ours.told.includes('ended'))
  t.equal(ours.stream.write([Buffer.from('bye')]), true, 'the other direction still works')
  ours.stream.end()
  t.equal((await answers).toString(), 'got one;got two;bye')
  await ours.until(() => ours.told.includes('closed'))
  t.same(ours.told, ['ended', 'closed'])
  t.equal(ours.stream.write([Buffer.from('late')]), false)
})

test('what the kernel does not take is copied, waits, and comes whole', async (t) => {
  const { pair } = listening(t)
  const words = Buffer.alloc(3_000_000)
  for (let i = 0; i + 4 <= words.length; i += 4) words.writeUInt32LE(i, i)
  for (const size of [1_000, 16 * 1024, 16 * 1024 + 1, 100_000, words.length]) {
    const [client, ours] = await pair()
    const part = Buffer.allocUnsafeSlow(size)
    for (let at = 0; at < words.length; at += size) {
      const end = Math.min(words.length, at + size)
      words.copy(part, 0, at, end)
      const last = end - at - 1
      ours.stream.write([part.subarray(0, 1), part.subarray(1, last), part.subarray(last, end - at)])
      part.fill('x') // whoever wrote it may use it again
    }
    t.ok(ours.stream.pending > 2_000_000, `nobody reads: ${ours.stream.pending} bytes wait`)
    ours.stream.end()
    t.ok((await all(client)).equals(words), `in parts of ${size} bytes`)
    t.same(ours.told, ['drained'], 'once')
    t.equal(ours.stream.pending, 0)
    client.end()
    await ours.until(() => ours.told.includes('closed'))
  }
})

test('parts of all sizes come in order, and to whom they were written, however little is taken at once', async (t) => {
  const { pair } = listening(t)
  const dice = new Dice('parts')
  const sizes = [0, 1, 700, 8 * 1024, 8 * 1024 + 1, 16 * 1024 + 1, 100_000, 128 * 1024, 128 * 1024 + 1, 300_000]
  await Promise.all(
    Array.from({ length: 6 }, async (_, who) => {
      const [client, ours] = await pair()
      const written = createHash('sha256')
      const read = createHash('sha256')
      let [sent, come] = [0, 0]
      client.on('data', (bytes: Buffer) => {
        read.update(bytes)
        come += bytes.length
        client.pause()
        setTimeout(() => client.resume(), dice.below(3))
      })
      for (let round = 0; round < 30; round++) {
        const parts = Array.from({ length: dice.below(12) }, () => Buffer.alloc(dice.pick(sizes), `${who} ${round} `))
        for (const part of parts) {
          written.update(part)
          sent += part.length
        }
        ours.stream.write(parts)
        for (const part of parts) part.fill('x')
        if (dice.below(2) === 0) await ours.until(() => ours.stream.pending === 0)
      }
      await ours.until(() => come === sent)
      t.equal(read.digest('hex'), written.digest('hex'), `${sent} bytes`)
      client.destroy()
      await ours.until(() => ours.told.includes('closed'))
    }),
  )
})

test('who is first is read on in the same turn, while nobody else waits for one, and for a time', async (t) => {
  const { pair } = listening(t)
  const [[many, ours], [few, other]] = [await pair(true), await pair()]
  let turns = new Set<number>()
  let slow = 0
  ours.onData = () => {
    turns.add(loop.now)
    for (const until = performance.now() + slow; performance.now() < until;) continue
  }
  // A machine that is busy with others may take a turn more.
  for (const [how, least, most] of [
    ['alone', 1, 2],
    ['not alone', 2, 3],
    ['alone, and slow', 3, 3],
  ] as const) {
    turns = new Set()
    slow = how === 'alone, and slow' ? 2 : 0
    ours.bytes = Buffer.alloc(0)
    for (const { stream } of [ours, other]) stream.pause()
    const size = 3 * buffers.read.length
    await new Promise<void>((sent) => many.write(Buffer.alloc(size), () => sent()))
    if (how === 'not alone') await new Promise<void>((sent) => few.write('.', () => sent()))
    for (const { stream } of [ours, other]) stream.resume()
    await ours.until(() => ours.bytes.length === size)
    t.ok(turns.size >= least && turns.size <= most, `${how}: ${turns.size} turns`)
  }
  for (const client of [many, few]) client.destroy()
  await ours.until(() => ours.told.includes('closed') && other.told.includes('closed'))
})

test('the clock stands still for a turn, and goes on outside of one', async (t) => {
  const [client, ours] = await listening(t).pair()
  const seen: number[][] = []
  ours.onData = () => {
    for (let times = 0; times < 2; times++) {
      seen.push([loop.now, loop.date])
      for (const until = performance.now() + 5; performance.now() < until;) continue
    }
  }
  client.write('.')
  await ours.until(() => ours.bytes.length === 1)
  const { now, date } = loop
  t.same(seen[0], seen[1])
  t.ok(now >= (seen[0]?.[0] ?? 0) + 10, 'performance.now()')
  t.ok(date > (seen[0]?.[1] ?? 0), 'Date.now()')
  client.write('.')
  await ours.until(() => ours.bytes.length === 2)
  t.ok((seen[2]?.[1] ?? 0) >= date, 'which is asked anew in the next turn')
  client.destroy()
  await ours.until(() => ours.told.includes('closed'))
})

test('what is kept is pointed to, not copied', async (t) => {
  const [client, ours] = await listening(t).pair()
  const secret = Buffer.allocUnsafeSlow(64).fill('s')
  while (ours.stream.write([Buffer.alloc(16_000, '.')]));
  const waiting = ours.stream.pending
  ours.stream.write([Buffer.from('<'), secret, Buffer.from('>')], true)
  t.equal(ours.stream.pending, waiting + 66)
  secret.fill('S') // if it were copied, this would not show
  ours.stream.end()
  t.match((await all(client)).toString(), /^\.+<S{64}>$/)
})

test('a paused stream reads nothing, not even the end, and all of it when it goes on', async (t) => {
  const [client, ours] = await listening(t).pair()
  ours.stream.pause()
  client.end('hello')
  await once(client, 'finish')
  await sleep(20)
  t.same([ours.bytes.length, ours.told], [0, []])
  ours.stream.resume()
  await ours.until(() => ours.told.includes('ended'))
  t.equal(ours.bytes.toString(), 'hello')
  ours.stream.destroy()
  ours.stream.destroy()
  t.same(ours.told, ['ended'], 'closed is never told from within a call')
  await ours.until(() => ours.told.includes('closed'))
  await sleep(5)
  t.same(ours.told, ['ended', 'closed'], 'and once')
})

test('a peer that is gone closes the stream: while it reads, while it writes, and while it does neither', async (t) => {
  const { pair } = listening(t)
  const [client, ours] = await pair()
  while (ours.stream.write([Buffer.alloc(16_000)]));
  client.destroy()
  await ours.until(() => ours.told.includes('closed'))
  t.equal(ours.stream.pending, 0)

  const [half, ended] = await pair()
  const [late, silent] = await pair()
  silent.stream.pause()
  let rounds = 0
  for (const { stream } of [ended, silent]) {
    const ready = stream.ready.bind(stream)
    stream.ready = (events) => {
      rounds++
      ready(events)
    }
  }
  half.end()
  await ended.until(() => ended.told.includes('ended'))
  late.destroy()
  await sleep(20)
  t.same(
    [ended.told, silent.told, rounds],
    [['ended'], [], 1],
    'who has only ended is there, and nobody is told again and again',
  )
  half.destroy()
  await ended.until(() => ended.told.includes('closed'))
  t.same(ended.told, ['ended', 'closed'], 'while nothing is read or written')
  silent.stream.resume()
  await silent.until(() => silent.told.includes('closed'))
  t.same(silent.told, ['ended', 'closed'])

  const [other, paused] = await pair()
  paused.stream.pause()
  other.destroy()
  await sleep(20)
  t.same(paused.told, [], 'who looks neither way is told nothing')
  paused.inCall = true
  t.equal(paused.stream.write([Buffer.from('x')]), false, 'until it writes')
  paused.inCall = false
  await paused.until(() => paused.told.includes('closed'))
  t.same(paused.told, ['closed'])
})

test('one that is closed in the same round as others are told of is told nothing', async (t) => {
  const { pair } = listening(t)
  const [[a, first], [b, second]] = [await pair(), await pair()]
  // Whichever is told first closes the other.
  first.onData = () => second.stream.destroy()
  second.onData = () => first.stream.destroy()
  a.write('a')
  b.write('b')
  await first.until(() => first.told.length + second.told.length > 0)
  t.equal(first.bytes.length + second.bytes.length, 1)
  a.destroy()
  b.destroy()
  first.stream.destroy()
  second.stream.destroy()
})

test('who is first is told first, and knows that nothing has come since', async (t) => {
  const { path, fd } = listening(t)
  const two = (first = false): [Heard, Heard] => {
    const far = new Heard(dial(addressOf({ path }) ?? Buffer.alloc(0)))
    return [far, new Heard(Number(accept(fd)), first)]
  }
  const [far, first] = two(true)
  const others = Array.from({ length: 300 }, () => two())
  const look = (): boolean => first.stream.quiet
  let quiet: boolean[] = []
  for (const [, other] of others) other.onData = () => void quiet.push(look())
  const come = async (n: number, size: number): Promise<boolean[]> => {
    quiet = []
    first.bytes = Buffer.alloc(0)
    // All of it is there before anybody is told of any.
    for (const [one] of others.slice(0, n)) one.stream.write([Buffer.from('.')])
    if (size > 0) far.stream.write([Buffer.alloc(size)])
    await first.until(() => quiet.length === n && first.bytes.length === size)
    return quiet
  }
  t.equal(look(), true, 'when nobody is told of anything it is asked of the kernel')
  t.same(await come(2, 0), [true, true])
  let before = -1
  first.onData = () => (before = quiet.length)
  t.same([await come(2, 5), before], [[true, true], 0], 'told before who was ready before it')
  t.same(await come(1, buffers.read.length + 1), [false], 'what it has read may go on, and does')
  const many = await come(300, 5)
  t.same([many.indexOf(true), before], [256, 256], 'of more than are told at once it may be one of the others')

  quiet = []
  const [asker, slow] = two()
  slow.onData = () => {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20) // as an answer does that is slow to search
    far.stream.write([Buffer.from('late')])
    quiet.push(look())
  }
  asker.stream.write([Buffer.from('.')])
  await slow.until(() => quiet.length === 1)
  t.same(quiet, [false], 'a turn that takes long is not trusted to the end')
  await first.until(() => first.bytes.toString().endsWith('late'))

  first.stream.pause()
  far.stream.write([Buffer.from('x')])
  quiet = []
  others[0]?.[0].stream.write([Buffer.from('.')])
  await first.until(() => quiet.length === 1)
  t.same(quiet, [false], 'a paused one is not told')
  const [asking, asked] = two()
  const [speaking, later] = two()
  asked.onData = () => void quiet.push(later.stream.quiet)
  asking.stream.write([Buffer.from('.')])
  speaking.stream.write([Buffer.from('.')])
  await asked.until(() => quiet.length === 2)
  t.equal(quiet[1], false, 'and who is not first may be told later')
  later.stream.destroy()
  t.equal(later.stream.quiet, false, 'one that is closed says nothing any more, and is not to be asked')
  for (const one of [far, first, asker, slow, asking, asked, speaking, later, ...others.flat()]) one.stream.destroy()
})

test('connections that are dialled: to a path, to IPv4 and IPv6, and to nobody', async (t) => {
  const { path, fd } = listening(t)
  for (const host of ['127.0.0.1', '::1']) {
    const tcp = createServer((socket) => socket.end('hello')).on('error', () => undefined)
    tcp.listen(0, host)
    const bound = await Promise.race([once(tcp, 'listening').then(() => true), once(tcp, 'error').then(() => false)])
    if (!bound) {
      t.comment(`no ${host} here`)
      continue
    }
    t.teardown(() => tcp.close())
    const { port } = tcp.address() as AddressInfo
    const ours = new Heard(dial(addressOf({ host, port }) ?? Buffer.alloc(0)))
    await ours.until(() => ours.told.includes('ended'))
    t.equal(ours.bytes.toString(), 'hello', host)
    ours.stream.destroy()

    tcp.close()
    await once(tcp, 'close')
    const refused = new Heard(dial(addressOf({ host, port }) ?? Buffer.alloc(0)))
    refused.stream.write([Buffer.from('x')])
    await refused.until(() => refused.told.includes('closed'))
    t.same([refused.told, refused.bytes.length], [['closed'], 0], `${host}: refused`)
  }
  const ours = new Heard(dial(addressOf({ path }) ?? Buffer.alloc(0)))
  const taken = accept(fd)
  t.type(taken, 'number')
  t.equal(accept(fd), 'none')
  ours.stream.destroy()
  closeSync(Number(taken))
  t.equal(dial(addressOf({ path: `${path}-none` }) ?? Buffer.alloc(0)), -1)
  t.equal(addressOf({ path: `/${'p'.repeat(107)}` }), undefined, 'longer than a socket can have')
  t.equal(addressOf({ host: 'localhost', port: 80 }), undefined, 'a name')
})

test('a listening socket: none left, nobody will come, no such socket', async (t) => {
  const { fd, path } = listening(t)
  t.equal(accept(fd), 'none')
  t.equal(listenAt(1_000_000), false)
  const nobody = dial(addressOf({ path }) ?? Buffer.alloc(0))
  const taken = Number(accept(fd))
  t.equal(accept(taken), 'lost', 'a connection is no listening socket')
  closeSync(taken)
  closeSync(nobody)
  t.equal(loop.watch(1_000_000, IN, { ready: () => undefined }), false)
})

test('Node has its turn, however busy the streams are', async (t) => {
  const { path, fd } = listening(t)
  const one = new Heard(dial(addressOf({ path }) ?? Buffer.alloc(0)))
  const other = new Heard(Number(accept(fd)))
  // Each answer is the next question: there is always something to read.
  let rounds = 0
  one.onData = (bytes) => {
    rounds++
    one.bytes = Buffer.alloc(0)
    one.stream.write([bytes])
  }
  other.onData = (bytes) => {
    other.bytes = Buffer.alloc(0)
    other.stream.write([bytes])
  }
  one.stream.write([Buffer.from('ping')])
  await one.until(() => rounds > 100)
  const signal = once(process, 'SIGUSR2')
  process.kill(process.pid, 'SIGUSR2')
  await signal
  const before = rounds
  await sleep(30)
  t.ok(rounds > before, 'a signal and a timer came, and the streams went on')
  one.stream.destroy()
  await other.until(() => other.told.includes('ended') || other.told.includes('closed'))
  other.stream.destroy()
})

test('nothing is left open', (t) => {
  const open = readdirSync('/proc/self/fd').length
  for (let i = 0; i < 100; i++) {
    const fd = dial(addressOf({ host: '127.0.0.1', port: 1 }) ?? Buffer.alloc(0))
    if (fd >= 0) new Heard(fd).stream.destroy()
  }
  t.equal(readdirSync('/proc/self/fd').length, open)
  loop.close()
  t.end()
})
