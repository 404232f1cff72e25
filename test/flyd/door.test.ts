import { connect } from 'node:net'
import { statSync } from 'node:fs'
import { test } from 'tap'
import { ANCIENT, BOLD, bench, dial } from './dial.ts'
import type { Answer } from './dial.ts'
import { attenuate, edit, headerOf, insert, packet, tokensOf } from './tokens.ts'

const OIDC = '/v1/tokens/oidc'
const errorOf = ({ text }: Answer): string => JSON.parse(text).error

test('a Machine gets a token through its own door, exactly the bytes of it', async (t) => {
  const { call } = await bench(t)
  const answer = await call(OIDC, { method: 'POST', body: '{"aud":"sts.amazonaws.com"}' })
  t.equal(answer.status, 200)
  t.equal(answer.text, 'ancient-snow-4824 sts.amazonaws.com')
  t.equal(answer.headers['content-type'], 'text/plain; charset=utf-8')
  t.equal(answer.headers['content-length'], String(answer.text.length))
  t.match(answer.headers['fly-request-id'], /^[0-9A-HJKMNP-TV-Z]{26}-yyz$/)
})

test('bodies are JSON whatever they are called; none, empty and {} mean the default audience', async (t) => {
  const { call } = await bench(t)
  const aud = async (body: string | undefined, headers: Record<string, string> = {}): Promise<string> =>
    (await call(OIDC, { method: 'POST', headers, ...(body === undefined ? {} : { body }) })).text
  t.match(await aud('{"aud":"x"}', { 'content-type': 'application/x-www-form-urlencoded' }), / x$/)
  t.match(await aud('{"aud":"x"}', { 'content-type': 'text/plain' }), / x$/)
  t.match(await aud('{"aud":"x"}', { 'transfer-encoding': 'chunked' }), / x$/)
  t.match(await aud(undefined), / default$/)
  t.match(await aud(''), / default$/)
  t.match(await aud('{}'), / default$/)
  t.match(await aud('{"aud":""}'), / default$/)
  t.match(await aud('{"aud":"x","unknown":1}'), / x$/)
})

test('a bad body is a 400 with the JSON error shape, sent in chunks', async (t) => {
  const { call } = await bench(t)
  const bad = [
    '[]',
    'null',
    '"x"',
    '{',
    'aud=x',
    '{"aud":1}',
    '{"aud":["x"]}',
    '{"aud":"a\\u0000b"}',
    `{"aud":"${'x'.repeat(513)}"}`,
    '{"aws_principal_tags":"yes"}',
  ]
  for (const body of bad) {
    const answer = await call(OIDC, { method: 'POST', body })
    t.equal(answer.status, 400, body.slice(0, 40))
    t.type(errorOf(answer), 'string')
    t.equal(answer.headers['content-type'], 'application/json; charset=utf-8')
    t.equal(answer.headers['transfer-encoding'], 'chunked')
  }
  t.equal((await call(OIDC, { method: 'POST', body: `{"aud":"${'x'.repeat(2 << 20)}"}` })).status, 413)
})

test('a macaroon through any door but its own is refused: another Machine, another org, TCP', async (t) => {
  const { call, flyd, authorization } = await bench(t)
  for (const [door, as] of [
    [1, 0],
    [0, 1],
    [2, 0],
    [0, 2],
    [3, 0],
    [0, 3],
  ] as const) {
    const answer = await call(OIDC, { method: 'POST', door, as })
    t.equal(answer.status, 403, `macaroon ${as} through door ${door}`)
    t.notMatch(answer.text, /^ancient|MDA/)
  }
  const tcp = await dial(flyd.url, OIDC, { method: 'POST', headers: { authorization: authorization(0) } })
  t.equal(tcp.status, 403)
  for (const path of ['/v1/tokens/current', '/v1/apps/weather-cat/machines']) {
    t.equal((await dial(flyd.url, path, { headers: { authorization: authorization(0) } })).status, 403)
  }
})

test('nothing in a request tells flyd who calls', async (t) => {
  const { call } = await bench(t)
  const headers = {
    host: 'quiet-river-7311',
    'fly-machine-id': ANCIENT.id,
    'x-forwarded-for': 'ancient',
    'fly-client-ip': '::1',
  }
  const answer = await call(OIDC, { method: 'POST', door: 1, as: 0, headers, body: '{"machine":"ancient-snow-4824"}' })
  t.equal(answer.status, 403)
})

test('what is no valid macaroon is a 401 in the words of the real API, and the answer has nothing of it', async (t) => {
  const { call, authorization, door } = await bench(t, { macaroonForm: 'discharged' })
  const header = authorization(0)
  const [permission = '', discharge = ''] = tokensOf(header)
  const bad: Record<string, string> = {
    'an unsigned caveat': edit(header, insert(packet('cid', 'machine = quiet-river-7311'))),
    'an attenuated one': headerOf(attenuate(permission, 'machine = ancient-snow-4824'), discharge),
    'no discharge': headerOf(permission),
    'no permission token': headerOf(discharge),
    rubbish: 'FlyV1 fm2_lJPECAAAAAAAAAAA',
    'another scheme': `Bearer ${permission}`,
  }
  for (const [name, authorization] of Object.entries(bad)) {
    const answer = await call(OIDC, { method: 'POST', headers: { authorization } })
    t.equal(answer.status, 401, name)
    t.strictSame(JSON.parse(answer.text), { error: 'Authenticate: token validation error' })
    t.notOk(JSON.stringify(answer).includes(authorization.slice(20, 36)), 'and no part of it is in the answer')
  }
  t.equal((await dial(door(0), OIDC, { method: 'POST' })).status, 401, 'none at all')
  t.equal(
    (await dial(door(0), OIDC, { method: 'POST', headers: { authorization: [header, header] } })).status,
    401,
    'the header twice',
  )
})

test('an expired macaroon is a 401', async (t) => {
  let now = 1_900_000_000_000
  const { call } = await bench(t, { now: () => now, macaroonLifetime: 60 })
  t.equal((await call(OIDC, { method: 'POST' })).status, 200)
  now += 60_000
  t.equal((await call(OIDC, { method: 'POST' })).status, 401)
})

test('with its discharge, a macaroon works as well', async (t) => {
  const { call } = await bench(t, { macaroonForm: 'discharged' })
  t.equal((await call(OIDC, { method: 'POST' })).status, 200)
})

test('unknown paths and methods are text, as Go writes it', async (t) => {
  const { call, door } = await bench(t)
  for (const path of [
    '/',
    '/nope',
    '/v1',
    '/v1/tokens/oidc/',
    '/v1//tokens/oidc',
    '/V1/tokens/oidc',
    '/.fly/api/v1/tokens/oidc',
  ]) {
    const answer = await call(path, { method: 'POST' })
    t.equal(answer.status, 404, path)
    t.equal(answer.text, '404 page not found\n')
    t.equal(answer.headers['content-type'], 'text/plain; charset=utf-8')
    t.ok(answer.headers['fly-request-id'])
  }
  t.equal((await call(OIDC)).status, 404, 'GET')
  t.equal((await dial(door(0), '/nope')).status, 404, 'without a macaroon too')
})

test('the current token is described without its secret', async (t) => {
  const { call, authorization } = await bench(t)
  const answer = await call('/v1/tokens/current')
  const [token] = JSON.parse(answer.text).tokens
  t.match(token, {
    apps: ['weather-cat'],
    org_slug: 'example',
    restricted_to_machine: ANCIENT.id,
    source_machine_id: ANCIENT.id,
  })
  const raw = Buffer.from(tokensOf(authorization(0))[0] ?? '', 'base64url').toString('latin1')
  t.notOk(raw.includes(token.token_id), 'its id is not its identifier')
})

test('an issuer that is away is a 503, and flyd lives on', async (t) => {
  const { call } = await bench(t, { signer: { sign: () => Promise.reject(new Error('connect ECONNREFUSED')) } })
  const answer = await call(OIDC, { method: 'POST' })
  t.equal(answer.status, 503)
  t.equal(errorOf(answer), 'the issuer is unavailable')
  t.equal((await call('/v1/tokens/current')).status, 200)
})

test('rate limits, where they are on: three at once for each action, then 429 with retry-after', async (t) => {
  let now = 1_900_000_000_000
  const { call } = await bench(t, { rateLimits: true, now: () => now })
  const statuses = async (n: number, path: string, method: string, door = 0): Promise<number[]> => {
    const list: number[] = []
    for (let i = 0; i < n; i++) list.push((await call(path, { method, door })).status)
    return list
  }
  t.strictSame(await statuses(4, OIDC, 'POST'), [200, 200, 200, 429])
  const refused = await call(OIDC, { method: 'POST' })
  t.equal(refused.headers['retry-after'], '1')
  t.equal(errorOf(refused), 'rate limit exceeded')
  t.strictSame(await statuses(1, OIDC, 'POST', 1), [200], 'another Machine')
  t.strictSame(await statuses(1, '/v1/tokens/current', 'GET'), [200], 'another action')
  const machine = `/v1/apps/weather-cat/machines/${ANCIENT.id}`
  t.strictSame(await statuses(11, machine, 'GET'), [...Array.from({ length: 10 }, () => 200), 429])
  t.equal((await call(OIDC, { method: 'POST', as: 1 })).status, 403, 'a stranger is refused before he is counted')
  now += 1000
  t.strictSame(await statuses(2, OIDC, 'POST'), [200, 429])
})

test('without the option there are no limits', async (t) => {
  const { call } = await bench(t)
  for (let i = 0; i < 20; i++) t.equal((await call(OIDC, { method: 'POST' })).status, 200)
})

test('a door is open to anyone on the computer, and one socket serves many requests', async (t) => {
  const { door, authorization } = await bench(t)
  t.equal(statSync(door(0)).mode & 0o777, 0o666)
  const socket = connect(door(0))
  const one = `POST ${OIDC} HTTP/1.1\r\nhost: x\r\nauthorization: ${authorization(0)}\r\ncontent-length: 0\r\n\r\n`
  socket.write(one + one + one.replace('host: x', 'host: x\r\nconnection: close'))
  let text = ''
  for await (const chunk of socket) text += String(chunk)
  t.equal(text.match(/ancient-snow-4824 default/g)?.length, 3)
})

test('a request id carries the region of the Machine', async (t) => {
  const { call } = await bench(t)
  t.match((await call('/nope', { door: 2 })).headers['fly-request-id'], new RegExp(`-${BOLD.region}$`))
})
