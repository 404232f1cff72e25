// The main job, with the real binary as processes and real clients: a guest asks the socket and gets an ID token that
// verifies through the issuer's discovery; and the macaroon is nowhere in what it received.

import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import { tmpdir } from 'node:os'
import { promisify } from 'node:util'
import { createRemoteJWKSet, decodeJwt, jwtVerify } from 'jose'
import tap, { test } from 'tap'
import { Client } from 'undici'
import { ended, start as launch, until } from '../cli/dotfly.ts'

interface MockJson {
  flyd: { url: string }
  issuer: { url: string }
  machines: {
    org: string
    app: string
    name: string
    id: string
    region: string
    macaroon_file: string
    flyd_url: string
  }[]
}

/** A running dotfly process: what it said, and how it ended when told to. */
function start(words: string[]): {
  prints(pattern: RegExp): Promise<string>
  output(): string
  end(): Promise<number | null>
} {
  const child = launch(words)
  children.push(child)
  const done = ended(child)
  let said = ''
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (bytes: Buffer) => (said += bytes.toString()))
  return {
    prints: (pattern) => until(child, pattern),
    output: () => said,
    async end() {
      child.kill('SIGTERM')
      return (await done).code
    },
  }
}

const children: ReturnType<typeof launch>[] = []
tap.teardown(() => {
  for (const child of children) child.kill('SIGKILL')
})

const run = promisify(execFile)
const directory = mkdtempSync(join(tmpdir(), 'dotfly-e2e-'))
const socket = join(directory, 'api')
const mock = start(['mock', '--dir', directory])
await mock.prints(/^ready: /m)
// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- our own file
const json = JSON.parse(readFileSync(join(directory, 'mock.json'), 'utf8')) as MockJson
const cat = json.machines[0]!
const other = json.machines.find(({ org }) => org !== cat.org)!
const macaroon = readFileSync(cat.macaroon_file, 'latin1').trim()

const proxyOf = (machine: MockJson['machines'][number], at: string, more: string[] = []): ReturnType<typeof start> =>
  start([
    'proxy',
    '--socket',
    at,
    '--flyd',
    machine.flyd_url,
    '--macaroon-file',
    machine.macaroon_file,
    '--app',
    machine.app,
    '--machine',
    machine.id,
    ...more,
  ])
const proxy = proxyOf(cat, socket)
await proxy.prints(/\[fly api proxy\] listening at/)

test('curl gets a token with every claim, and it verifies through discovery', async (t) => {
  const { stdout } = await run('curl', [
    '-s',
    '--unix-socket',
    socket,
    '-X',
    'POST',
    'http://localhost/v1/tokens/oidc',
    '--data',
    '{"aud":"sts.amazonaws.com"}',
  ])
  t.match(stdout, /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/, 'exactly the JWT: no quotes, no newline')
  const iss = String(decodeJwt(stdout).iss)
  t.equal(iss, `${json.issuer.url}/example`)
  const discovery = (await (await fetch(`${iss}/.well-known/openid-configuration`)).json()) as {
    issuer: string
    jwks_uri: string
  }
  t.equal(discovery.issuer, iss)
  const { payload } = await jwtVerify(stdout, createRemoteJWKSet(new URL(discovery.jwks_uri)), {
    issuer: iss,
    audience: 'sts.amazonaws.com',
    algorithms: ['RS256'],
  })
  t.equal(payload.sub, 'example:weather-cat:ancient-snow-4824')
  t.equal(payload.exp! - payload.iat!, 600)
  t.equal(payload.nbf, payload.iat)
  for (const claim of [
    'app_id',
    'app_name',
    'org_id',
    'org_name',
    'machine_id',
    'machine_name',
    'machine_version',
    'image',
    'image_digest',
    'region',
    'jti',
  ]) {
    t.type(payload[claim], 'string', `${claim} is a string`)
    t.not(payload[claim], '')
  }
  t.match(payload, {
    app_name: 'weather-cat',
    org_name: 'example',
    machine_id: cat.id,
    machine_name: 'ancient-snow-4824',
    region: 'yyz',
  })
})

test('every token has its own jti, and an empty body means the default audience', async (t) => {
  const client = new Client('http://localhost', { socketPath: socket })
  t.teardown(() => client.close())
  const ids = new Set<unknown>()
  for (const body of ['', '{}', '{"aud":"https://fly.io/example"}']) {
    const {
      statusCode,
      headers,
      body: answer,
    } = await client.request({ method: 'POST', path: '/v1/tokens/oidc', body })
    const token = await answer.text()
    t.equal(statusCode, 200)
    t.equal(headers['content-type'], 'text/plain; charset=utf-8')
    t.equal(headers['content-length'], String(token.length))
    const claims = decodeJwt(token)
    t.equal(claims.aud, 'https://fly.io/example')
    ids.add(claims.jti)
  }
  t.equal(ids.size, 3)
})

test('node:http with and without content-length, HTTP/1.0, absolute-form, half-close and pipelining all get tokens', async (t) => {
  for (const headers of [{ 'content-length': 2 }, { 'transfer-encoding': 'chunked' }, {}]) {
    const token = await new Promise<string>((done, fail) => {
      const ask = request({ socketPath: socket, path: '/v1/tokens/oidc', method: 'POST', headers }, (answer) => {
        let text = ''
        answer.on('data', (bytes) => (text += String(bytes))).on('end', () => done(text))
      })
      ask.on('error', fail).end('{}')
    })
    t.equal(decodeJwt(token).app_name, 'weather-cat', JSON.stringify(headers))
  }
  const ask = (line: string, more = ''): string => `POST ${line}\r\nHost: flaps\r\nContent-Length: 2\r\n${more}\r\n{}`
  for (const [name, bytes, answers] of [
    ['HTTP/1.0', ask('/v1/tokens/oidc HTTP/1.0'), 1],
    ['absolute-form', ask('http://localhost/v1/tokens/oidc HTTP/1.1', 'Connection: close\r\n'), 1],
    ['half-close', ask('/v1/tokens/oidc HTTP/1.1'), 1],
    ['pipelining', ask('/v1/tokens/oidc HTTP/1.1').repeat(5), 5],
  ] as const) {
    const answer = await new Promise<string>((done, fail) => {
      let text = ''
      connect(socket)
        .on('data', (received) => (text += received.toString('latin1')))
        .on('error', fail)
        .on('close', () => done(text))
        .end(bytes)
    })
    const tokens = answer.match(/eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+/g) ?? []
    t.equal(tokens.length, answers, name)
    t.equal(new Set(tokens.map((token) => decodeJwt(token).jti)).size, answers)
    t.notOk(answer.includes(macaroon.slice(6, 40)), 'no macaroon')
  }
})

test('the Machine routes work through the socket, and stay this Machine’s own', async (t) => {
  const client = new Client('http://flaps', { socketPath: socket })
  t.teardown(() => client.close())
  const at = `/v1/apps/${cat.app}/machines/${cat.id}`
  const call = async (
    method: 'GET' | 'POST' | 'DELETE',
    path: string,
    body?: string,
  ): Promise<{ status: number; text: string }> => {
    const { statusCode, body: answer } = await client.request({ method, path, body: body ?? null })
    return { status: statusCode, text: await answer.text() }
  }
  const machine = await call('GET', at)
  t.equal(machine.status, 200)
  t.match(JSON.parse(machine.text), { id: cat.id, name: cat.name, region: cat.region })
  t.match(await call('POST', `${at}/metadata/colour`, '{"value":"blue"}'), { status: /20[04]/ })
  t.match(await call('GET', `${at}/metadata`), { status: 200, text: /"colour":"blue"/ })
  t.match(await call('GET', `/v1/apps/${cat.app}/machines/${other.id}`), { status: 403, text: /NOT_THIS_MACHINE/ })
  t.match(await call('GET', '/v1/apps/weather-cat/secrets'), { status: 403, text: /ROUTE_NOT_ALLOWED/ })
  t.match(await call('GET', '/.fly/api/v1/tokens/oidc'), { status: 404, text: /ROUTE_NOT_SERVED/ })
  for (const { text } of [machine, await call('GET', '/v1/tokens/current')])
    t.notOk(text.includes(macaroon.slice(6, 40)))
})

test('a macaroon is useless through another Machine’s door, and flyd’s refusal passes', async (t) => {
  const stolen = join(directory, 'stolen')
  const thief = start([
    'proxy',
    '--socket',
    stolen,
    '--flyd',
    other.flyd_url,
    '--macaroon-file',
    cat.macaroon_file,
    '--app',
    cat.app,
    '--machine',
    cat.id,
  ])
  t.teardown(() => thief.end())
  await thief.prints(/listening at/)
  const { stdout } = await run('curl', [
    '-s',
    '-w',
    '\n%{http_code}',
    '--unix-socket',
    stolen,
    '-X',
    'POST',
    'http://localhost/v1/tokens/oidc',
  ])
  t.match(stdout, /"error":"/)
  t.match(stdout, /\n40[13]$/)
  t.notOk(stdout.includes(macaroon.slice(6, 40)))
})

test('nothing that the processes said holds the macaroon, and they end in order', async (t) => {
  t.equal(await proxy.end(), 0)
  t.equal(await mock.end(), 0)
  for (const text of [proxy.output(), mock.output()]) t.notOk(text.includes(macaroon.slice(6, 40)))
  rmSync(directory, { recursive: true })
})
