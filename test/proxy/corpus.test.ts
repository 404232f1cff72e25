// Every case of the corpus over the real socket to the real process, whole, in seven pieces and byte by byte; every
// byte that the guest received is searched for the credential, and the table is printed.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'tap'
import type { Test } from 'tap'
import { secretMemory } from '../../src/proxy/secret.ts'
import { Needles, Strip } from '../../src/proxy/strip.ts'
import { made } from '../corpus/make.ts'
import { CORPUS, CREDENTIAL, leaks, readCases, said } from '../support/corpus.ts'
import type { Case } from '../support/corpus.ts'
import { healthy, startFlyd } from '../support/flyd.ts'
import { finals, get, MINT, play, PLAYS, RawGuest, READ } from '../support/guest.ts'
import type { Answer, Play } from '../support/guest.ts'
import { startProxy } from '../support/proxy.ts'

const POLICIES = ['self', 'token', 'all', 'aud', 'allow']
const SOCKETS = [
  {},
  { policy: 'token' as const },
  { policy: 'all' as const, audiences: ['sts.amazonaws.com'] },
  { audiences: ['sts.amazonaws.com'] },
  { allow: ['GET /v1/apps/*/secrets?', 'POST /v1/apps/*/secretkeys/*/sign'] },
]

const strips = ((): boolean => {
  const secret = Buffer.from(CREDENTIAL)
  const strip = new Strip(new Needles(secret, secretMemory(Needles.memory(secret.length), false)))
  return !Buffer.concat([Buffer.from(strip.push(Buffer.from(secret))), strip.end()]).includes(CREDENTIAL.slice(-20))
})()

test('make.ts makes exactly the files that are here', (t) => {
  const here = (['request', 'response'] as const).flatMap((kind) =>
    readCases(kind).map(({ name }) => `${kind}/${name}.http`),
  )
  t.same(here.toSorted(), [...made.keys()].toSorted())
  t.same(
    [...made].filter(([path, bytes]) => !readFileSync(join(CORPUS, path)).equals(bytes)).map(([path]) => path),
    [],
    'run node test/corpus/make.ts',
  )
  t.ok(made.size >= 150, `${made.size} cases`)
  t.end()
})

test('leaks() finds what it must', (t) => {
  const signature = CREDENTIAL.slice(-30)
  t.ok(leaks(Buffer.from(`x${signature.slice(3, 19)}y`)) >= 0)
  t.equal(leaks(Buffer.from(signature.slice(3, 18))), -1, '15 bytes are no run')
  t.ok(leaks(Buffer.from(Buffer.from(CREDENTIAL).toString('base64'))) >= 0)
  t.ok(leaks(Buffer.from(Buffer.from(CREDENTIAL).toString('hex'))) >= 0)
  t.equal(leaks(Buffer.from('https://api.fly.io/v1 machine = d891234ce56789')), -1, 'public text is none')
  t.end()
})

/** What was seen, in the words of `expect:`. */
const inWords = (answers: Answer[]): string =>
  finals(answers)
    .map(({ status, body }) => {
      const code = /^\{"error":"[a-z0-9 ]+","code":"([A-Z_0-9]+)"\}\n$/.exec(body)?.[1]
      return code === undefined ? `${status}` : `${status} ${code}`
    })
    .join(', ') || 'none'

/** The form in which a request goes to flyd, made from the words of `to-flyd:` alone. */
function canonical(words: string, lease: string | undefined): string {
  const [method = '', target = '', ...rest] = words.split(' ')
  const body = Buffer.from(rest.join(' ')).toString('latin1')
  const nonce = lease === undefined ? '' : `fly-machine-lease-nonce: ${lease}\r\n`
  const length =
    body === '' ? 'Content-Length: 0\r\n' : `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n`
  const framing = body === '' && method === 'GET' ? '' : length
  const head = `${method} ${target} HTTP/1.1\r\nHost: flyd\r\nAccept-Encoding: identity\r\n${nonce}${framing}`
  return `${head}Authorization: ${CREDENTIAL}\r\n\r\n${body}`
}

const table = (t: Test, kind: string, rows: string[][]): void => {
  const widths = [0, 1].map((i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)))
  t.comment(`${kind}: ${rows.length} cases, each whole, in seven pieces, byte by byte`)
  for (const [name = '', expected = '', seen = ''] of rows) {
    t.comment(`${name.padEnd(widths[0] ?? 0)}  ${expected.padEnd(widths[1] ?? 0)}  ${seen}`)
  }
}

/** Cases mostly wait for their events, which the proxy tells some at a time. So several are on their way at once, each with
 * a proxy and a flyd that nobody else asks meanwhile. */
const LANES = 6
const inLanes = (lane: () => Promise<void>): Promise<unknown> => Promise.all(Array.from({ length: LANES }, lane))

test('requests', { timeout: 60_000 }, async (t) => {
  const cases = readCases('request').values()
  const rows: string[][] = []
  await inLanes(() => playRequests(t, cases, rows))
  table(
    t,
    'requests',
    rows.toSorted(([a = ''], [b = '']) => (a < b ? -1 : 1)),
  )
})

async function playRequests(t: Test, cases: Iterable<Case>, rows: string[][]): Promise<void> {
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, { flyd: flyd.url, sockets: SOCKETS })
  const { pid } = proxy
  let answers = 0
  let probes = 0

  async function run(of: Case, how: Play): Promise<string> {
    const expect = said(of, 'expect') ?? ''
    const count = expect === 'none' ? 0 : expect.split(', ').length
    answers += count
    const before = flyd.requests.length
    const events = proxy.exchanges().length
    const at = Math.max(0, POLICIES.indexOf(said(of, 'policy') ?? 'self'))
    const guest = new RawGuest(proxy.paths[at] ?? '')
    await play(guest.socket, of.bytes, how)
    const label = `${of.name}, ${how}`
    let { length } = flyd.requests
    let extra = 0
    try {
      if (said(of, 'half-close') === 'yes') guest.socket.end()
      if (said(of, 'then') === 'close') await guest.closed()
      else {
        await guest.answered(count)
        length = flyd.requests.length
        // In step still: the next request is read where it starts. The app's socket knows no reads.
        guest.socket.write(at === 1 ? MINT : READ)
        await guest.answered(count + 1)
        extra = 1
        probes++
        t.equal(guest.answers.at(-1)?.status, 200, `${label}: the connection is in step`)
      }
      length = flyd.requests.length - extra
      await proxy.until(() => proxy.exchanges().length >= events + count + extra)
    } catch (error) {
      t.fail(`${label}: ${error instanceof Error ? error.message : String(error)}`)
    }
    guest.socket.destroy()
    const seen = inWords(extra === 1 ? finals(guest.answers).slice(0, -1) : guest.answers)
    t.equal(seen, expect, label)
    t.equal(leaks(guest.bytes), -1, `${label}: no leak`)
    t.equal(length - before, Number(said(of, 'flyd')), `${label}: requests that reached flyd`)
    const lease = /lease-nonce: (\w+)\r/.exec(of.bytes.toString('latin1'))?.[1]
    const to = of.says.get('to-flyd') ?? []
    const sent = flyd.requests.slice(before, length).map(({ raw }) => raw)
    t.same(
      sent,
      to.map((words) => canonical(words, lease)),
      `${label}: what flyd was sent`,
    )
    const reported = proxy.exchanges().slice(events, events + count)
    t.equal(
      reported.map(({ status, code }) => (code === undefined ? `${status}` : `${status} ${code}`)).join(', ') || 'none',
      expect,
      `${label}: one event an exchange`,
    )
    return seen
  }

  for (const of of cases) {
    const seen = new Set<string>()
    for (const how of PLAYS) seen.add(await run(of, how))
    rows.push([of.name, said(of, 'expect') ?? '', [...seen].join(' / ')])
  }
  t.equal(proxy.exchanges().length, answers + probes, 'exactly one event an exchange, over all')
  t.equal(proxy.pid, pid, 'the proxy is the one that was started')
  t.equal(
    flyd.connections.filter(({ received }) => received === '').length,
    0,
    'no connection to flyd without a request',
  )
  t.notOk(
    proxy.events.some(({ kind }) => kind === 'fault'),
    'no fault',
  )
}

test('responses', { timeout: 60_000 }, async (t) => {
  const cases = readCases('response').values()
  const rows: string[][] = []
  const skipped: string[] = []
  await inLanes(() => playResponses(t, cases, rows, skipped))
  if (skipped.length > 0) t.comment(`${skipped.length} leak searches wait for strip`)
  table(
    t,
    'responses',
    rows.toSorted(([a = ''], [b = '']) => (a < b ? -1 : 1)),
  )
})

async function playResponses(t: Test, cases: Iterable<Case>, rows: string[][], skipped: string[]): Promise<void> {
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, { flyd: flyd.url })
  const { pid } = proxy
  let played = 0

  async function run(of: Case, how: Play): Promise<string> {
    const label = `${of.name}, ${how}`
    const expect = said(of, 'expect') ?? ''
    const [whole = '', cut] = expect.split(' | ')
    const events = proxy.exchanges().length
    let id = -1
    const before = flyd.requests.length
    const guest = new RawGuest(proxy.path)
    flyd.answer = (_, connection) => {
      id = connection.id
      const closes = said(of, 'flyd-closes') === 'yes'
      void play(connection.socket, of.bytes, how).then(() => closes && connection.socket.end())
    }
    guest.socket.write(said(of, 'ask') === 'read' ? READ : MINT)
    let seen = ''
    try {
      await guest.until(() => guest.ended || finals(guest.answers).length > 0, 'an answer or an end')
      await proxy.until(() => proxy.exchanges().length > events)
      seen = inWords(guest.answers)
      const isCut = cut !== undefined && seen === 'none'
      if (isCut) seen = 'cut'
      t.equal(isCut ? cut : seen, isCut ? 'cut' : whole, label)
      const sees = said(of, 'sees')
      if (sees !== undefined) t.equal(guest.answers.at(-1)?.body, sees.replace('\\n', '\n'), `${label}: body`)
      const event = proxy.exchanges()[events]
      t.equal(event?.code, / ([A-Z_0-9]+)$/.exec(whole)?.[1], `${label}: the event's code`)
      t.ok(isCut || event?.status === Number(whole.slice(0, 3)), `${label}: the event's status`)
    } catch (error) {
      t.fail(`${label}: ${error instanceof Error ? error.message : String(error)}`)
    }
    if (said(of, 'needs') !== 'strip' || strips) t.equal(leaks(guest.bytes), -1, `${label}: no leak`)
    else skipped.push(label)
    guest.socket.destroy()
    t.equal(flyd.requests.length - before, Number(said(of, 'asks') ?? 1), `${label}: times asked`)

    // Who is next gets its own answer, over the same connection to flyd only where that was left clean.
    flyd.answer = healthy
    const next = new RawGuest(proxy.path)
    next.socket.write(get('/v1/tokens/current'))
    await next.answered(1)
    t.equal(next.answers[0]?.body, '{"ok":true}', `${label}: the next guest's answer`)
    next.socket.destroy()
    const connection = flyd.connections.find(({ requests }) => requests.at(-1) === flyd.requests.at(-1))
    // A piece behind the end may come when the connection is in use again: then that exchange fails, none is mixed.
    t.equal(connection?.id === id ? 'reused' : 'destroyed', said(of, 'flyd-connection'), `${label}: flyd's connection`)
    await proxy.until(() => proxy.exchanges().length >= events + 2)
    return seen
  }

  for (const of of cases) {
    const seen = new Set<string>()
    for (const how of PLAYS) seen.add(await run(of, how))
    rows.push([of.name, said(of, 'expect') ?? '', [...seen].join(' / ')])
    played += PLAYS.length
  }
  t.equal(proxy.exchanges().length, played * 2, 'exactly one event an exchange, over all')
  t.equal(proxy.pid, pid, 'the proxy is the one that was started')
  t.notOk(
    proxy.events.some(({ kind }) => kind === 'fault'),
    'no fault',
  )
}
