// Whatever we accept, Node's llhttp reads the same way; and what we write to flyd is one canonical form.

import * as fc from 'fast-check'
import { test } from 'tap'
import { CREDENTIAL, readCases } from '../support/corpus.ts'
import {
  answersDiffer,
  asked,
  bare,
  llhttp,
  mutated,
  ours,
  ourAnswer,
  randomAnswers,
  randomRequests,
  requestsDiffer,
} from '../support/differential.ts'
import { startFlyd } from '../support/flyd.ts'
import { RawGuest } from '../support/guest.ts'
import { startProxy } from '../support/proxy.ts'

const SEED = 20261123
const RUNS = 1500

const requests = readCases('request').filter(({ bytes }) => bytes.length < 2000)
const answers = readCases('response').filter(({ bytes }) => bytes.length < 2000)

test('requests: the corpus, random ones, and mutations of the corpus', { timeout: 50_000 }, async (t) => {
  let accepted = 0
  let refused = 0
  const check = async (bytes: Buffer): Promise<void> => {
    const { why, ...counts } = await requestsDiffer(bytes)
    accepted += counts.accepted
    if (counts.refused) refused++
    if (why !== undefined) throw new Error(`${why}: ${JSON.stringify(bytes.toString('latin1'))}`)
  }
  for (const { bytes } of readCases('request')) await check(bytes)
  t.comment(`corpus: ${accepted} requests accepted, ${refused} inputs refused; no disagreement`)
  for (const [name, bytes] of [
    ['random', randomRequests],
    ['mutated', mutated(requests.map((of) => of.bytes))],
  ] as const) {
    accepted = refused = 0
    await fc.assert(fc.asyncProperty(bytes, check), { seed: SEED, numRuns: RUNS })
    t.comment(`${name}: ${RUNS} inputs, ${accepted} requests accepted, ${refused} inputs refused; no disagreement`)
    t.ok(accepted > 100 && refused > 100, `${name}: enough of either`)
  }
})

test('answers: the corpus, random ones, and mutations of the corpus', { timeout: 50_000 }, async (t) => {
  let accepted = 0
  let refused = 0
  const check = async (bytes: Buffer): Promise<void> => {
    const { why, accepted: read } = await answersDiffer(bytes)
    if (read) accepted++
    else refused++
    if (why !== undefined) throw new Error(`${why}: ${JSON.stringify(bytes.toString('latin1'))}`)
  }
  for (const { bytes } of readCases('response')) await check(bytes)
  t.comment(`corpus: ${accepted} answers accepted, ${refused} refused; no disagreement`)
  for (const [name, bytes] of [
    ['random', randomAnswers],
    ['mutated', mutated(answers.map((of) => of.bytes))],
  ] as const) {
    accepted = refused = 0
    await fc.assert(fc.asyncProperty(bytes, check), { seed: SEED, numRuns: RUNS })
    t.comment(`${name}: ${RUNS} inputs, ${accepted} answers accepted, ${refused} refused; no disagreement`)
    t.ok(accepted > 100 && refused > 100, `${name}: enough of either`)
  }
})

test(
  'what flyd is sent is one canonical form, which llhttp reads as it read the guest',
  { timeout: 50_000 },
  async (t) => {
    const flyd = await startFlyd(t)
    const proxy = await startProxy(t, { flyd: flyd.url, sockets: [{ policy: 'all' }] })
    const inputs = [
      ...readCases('request').map(({ bytes }) => bytes),
      ...fc.sample(randomRequests, { seed: SEED, numRuns: 400 }),
    ]
    let forwarded = 0
    for (const bytes of inputs) {
      const [first] = ours(bytes).read
      const ask = first === undefined ? undefined : asked(first)
      const [guest1] = first === undefined ? [] : (await llhttp(bytes)).read
      if (first === undefined || ask === undefined || guest1 === undefined) continue
      const before = flyd.requests.length
      const guest = new RawGuest(proxy.path)
      guest.socket.end(bytes)
      await guest.closed()
      const seen = flyd.requests[before]
      const text = guest1.body === '' ? (bare(guest1.target) === '/v1/tokens/oidc' ? '{}' : '') : guest1.body
      const body =
        text === ''
          ? ''
          : Buffer.from(JSON.stringify(JSON.parse(Buffer.from(text, 'latin1').toString()))).toString('latin1')
      const url = bare(guest1.target)
      const path = url.split('/metadata/')
      const target =
        path.length < 2 ? url : `${path[0]}/metadata/${encodeURIComponent(decodeURIComponent(path[1] ?? ''))}`
      const length =
        body === ''
          ? guest1.method === 'GET'
            ? ''
            : 'Content-Length: 0\r\n'
          : `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n`
      const form = `${guest1.method} ${target} HTTP/1.1\r\nHost: flyd\r\nAccept-Encoding: identity\r\n${ask.fields}${length}Authorization: ${CREDENTIAL}\r\n\r\n${body}`
      if (seen?.raw !== form) t.equal(JSON.stringify(seen?.raw), JSON.stringify(form))
      const again = await llhttp(Buffer.from(form, 'latin1'))
      if (JSON.stringify(again.read) !== JSON.stringify([{ method: guest1.method, target, body }]))
        t.fail(`llhttp reads it as ${JSON.stringify(again)}`)
      forwarded++
    }
    t.comment(`${inputs.length} inputs, ${forwarded} forwarded, each in its canonical form`)
    t.ok(forwarded > 60)
  },
)

test('the readers that are compared do read', async (t) => {
  t.match(
    await llhttp(
      Buffer.from('GET /a HTTP/1.1\r\nHost: a\r\n\r\nPOST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx'),
    ),
    { read: [{ target: '/a' }, { target: '/b', body: 'x' }], failed: undefined },
  )
  t.ok((await llhttp(Buffer.from('GET /a HTTP/1.1\r\nHost : a\r\n\r\n'))).failed)
  t.match(ourAnswer(Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxy')), { read: { body: 'x' }, rest: 1 })
})
