import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { once } from 'node:events'
import { isAbsolute, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { createRemoteJWKSet, decodeJwt, decodeProtectedHeader, jwtVerify } from 'jose'
import { test } from 'tap'
import { startMock } from '../../src/mock/start.ts'
import type { Mock, MockMachine, MockOptions } from '../../src/mock/start.ts'
import { dial, scratch } from '../flyd/dial.ts'
import type { Answer } from '../flyd/dial.ts'
import { CACHE } from '../support/cache.ts'
import { finder, findFactor, memoryOf, spellings } from './memory.ts'

type Test = { readonly teardown: (run: () => unknown) => void }

async function start(t: Test, options: Partial<MockOptions> = {}): Promise<Mock> {
  const mock = await startMock({ dir: scratch(t), ...options })
  t.teardown(() => mock.stop())
  return mock
}

const macaroon = ({ macaroon_file: file }: MockMachine): string => readFileSync(file, 'utf8')
const door = ({ flyd_url: url }: MockMachine): string => url.replace(/^unix:/, '')
const ask = (at: MockMachine, as: MockMachine = at, body = '{"aud":"sts.amazonaws.com"}'): Promise<Answer> =>
  dial(door(at), '/v1/tokens/oidc', { method: 'POST', body, headers: { authorization: macaroon(as) } })

async function verify(mock: Mock, jwt: string, audience = 'sts.amazonaws.com'): Promise<Record<string, unknown>> {
  const { iss = '' } = decodeJwt(jwt)
  if (!iss.startsWith(`${mock.file.issuer.url}/`)) throw new Error(`a foreign issuer: ${iss}`)
  const discovered: unknown = await (await fetch(`${iss}/.well-known/openid-configuration`)).json()
  const { jwks_uri: uri, issuer } = Object(discovered)
  return (await jwtVerify(jwt, createRemoteJWKSet(new URL(uri)), { issuer, audience, algorithms: ['RS256'] })).payload
}

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

async function until(true_: () => boolean): Promise<boolean> {
  for (let i = 0; i < 100 && !true_(); i++) await new Promise((resolve) => setTimeout(resolve, 50))
  return true_()
}

test('mock.json says where everything is, in the shape of the design', async (t) => {
  const mock = await start(t)
  t.strictSame(JSON.parse(readFileSync(mock.path, 'utf8')), mock.file)
  const [first, ...others] = mock.file.machines
  t.match(first, { org: 'example', app: 'weather-cat', name: 'ancient-snow-4824', region: 'yyz', id: /^[0-9a-f]{14}$/ })
  t.strictSame(
    others.map(({ org, app }) => `${org}:${app}`),
    ['example:weather-cat', 'rival:storm-dog'],
  )
  for (const machine of mock.file.machines) {
    t.strictSame(Object.keys(machine).sort(), ['app', 'flyd_url', 'id', 'macaroon_file', 'name', 'org', 'region'])
    t.ok(isAbsolute(machine.macaroon_file))
    t.match(machine.flyd_url, /^unix:\//)
  }
  t.match(mock.file.flyd.url, /^http:\/\/127\.0\.0\.1:\d+$/)
  t.match(mock.file.issuer.url, /^http:\/\/127\.0\.0\.1:\d+$/)
})

test('macaroon files are for their owner alone and hold one line; doors are open; the signing socket is not', async (t) => {
  const dir = scratch(t)
  const mock = await start(t, { dir })
  const mode = (path: string): string => (statSync(path).mode & 0o777).toString(8)
  for (const machine of mock.file.machines) {
    t.equal(mode(machine.macaroon_file), '600')
    t.match(macaroon(machine), /^FlyV1 [A-Za-z0-9_-]+$/)
    t.equal(mode(door(machine)), '666')
  }
  t.equal(mode(join(dir, 'doors')), '755')
  t.equal(mode(join(dir, 'issuer')), '700')
  t.equal(mode(join(dir, 'issuer', 'sign.sock')), '600')
  t.notMatch(readFileSync(mock.path, 'utf8'), /FlyV1|MDA/)
  t.strictSame(
    readdirSync(dir).sort(),
    ['azure-ca.pem', 'doors', 'issuer', 'macaroons', 'mock.json'],
    'and no temporary file is left',
  )
})

test('each Machine gets tokens of its own, which verify through discovery', async (t) => {
  const mock = await start(t)
  for (const machine of mock.file.machines) {
    const answer = await ask(machine)
    t.equal(answer.status, 200)
    t.match(answer.text, /^eyJ[\w-]+\.[\w-]+\.[\w-]+$/, 'the JWT and no newline')
    t.equal(answer.headers['content-type'], 'text/plain; charset=utf-8')
    t.equal(answer.headers['content-length'], String(answer.text.length))
    t.match(await verify(mock, answer.text), {
      iss: `${mock.file.issuer.url}/${machine.org}`,
      aud: 'sts.amazonaws.com',
      sub: `${machine.org}:${machine.app}:${machine.name}`,
      app_id: /^[1-9][0-9]+$/,
      app_name: machine.app,
      org_id: /^[1-9][0-9]+$/,
      org_name: machine.org,
      machine_id: machine.id,
      machine_name: machine.name,
      machine_version: /^[0-9A-Z]{26}$/,
      image: `registry.fly.io/${machine.app}:latest`,
      image_digest: /^sha256:[0-9a-f]{64}$/,
      region: machine.region,
    })
  }
  const [machine] = mock.file.machines
  t.equal(
    (await verify(mock, (await ask(machine!, machine, '')).text, 'https://fly.io/example'))['aud'],
    'https://fly.io/example',
  )
})

test('no Machine gets a token with another’s macaroon, nor anyone over TCP', async (t) => {
  const mock = await start(t)
  for (const at of mock.file.machines) {
    for (const as of mock.file.machines)
      if (at !== as) t.equal((await ask(at, as)).status, 403, `${as.name} at the door of ${at.name}`)
    const headers = { authorization: macaroon(at) }
    t.equal((await dial(mock.file.flyd.url, '/v1/tokens/oidc', { method: 'POST', headers })).status, 403, 'TCP')
  }
})

test('with discharges, every Machine’s pair of tokens works', async (t) => {
  const mock = await start(t, { macaroonForm: 'discharged' })
  for (const machine of mock.file.machines) {
    t.match(macaroon(machine), /^FlyV1 [\w-]+,[\w-]+$/)
    t.equal((await ask(machine)).status, 200)
  }
})

test('a rotation overlaps: tokens of before and after verify', async (t) => {
  const mock = await start(t)
  const [machine] = mock.file.machines
  const before = (await ask(machine!)).text
  await mock.rotate('example')
  const after = (await ask(machine!)).text
  t.not(decodeProtectedHeader(before).kid, decodeProtectedHeader(after).kid)
  await t.resolves(verify(mock, before))
  await t.resolves(verify(mock, after))
})

test('options: a public base, other Machines, rate limits', async (t) => {
  const machines = [{ org: 'acme', app: 'api', name: 'one', region: 'ams' }]
  const mock = await start(t, { issuerBase: 'https://oidc.fly.io', machines, rateLimits: true })
  const [machine] = mock.file.machines
  t.equal(decodeJwt((await ask(machine!)).text).iss, 'https://oidc.fly.io/acme')
  const statuses: number[] = []
  for (let i = 0; i < 3; i++) statuses.push((await ask(machine!)).status)
  t.strictSame(statuses, [200, 200, 429])
})

test('names that sub could be misread by start nothing', async (t) => {
  const dir = scratch(t)
  for (const names of [
    { org: 'a:b', app: 'c', name: 'd' },
    { org: 'a', app: 'b:c', name: 'd' },
    { org: 'a', app: 'b', name: 'c:d' },
    { org: 'a', app: '', name: 'd' },
    { org: 'a', app: 'b', name: '../d' },
    { org: 'a', app: 'b', name: 'd', region: 'x:y' },
  ]) {
    await t.rejects(startMock({ dir, machines: [names] }), TypeError, JSON.stringify(names))
  }
  await t.rejects(startMock({ dir, machines: [] }))
  const same = { org: 'a', app: 'b', name: 'c' }
  await t.rejects(startMock({ dir, machines: [same, same] }), { message: 'two Machines have the same name' })
})

test('stop ends everything that was started, and leaves no credential behind', async (t) => {
  const dir = scratch(t)
  const mock = await startMock({ dir })
  const { issuerPid } = mock
  t.ok(isAlive(issuerPid))
  await mock.stop()
  t.notOk(isAlive(issuerPid))
  t.notOk(existsSync(mock.path))
  t.strictSame(readdirSync(dir), [])
  await t.rejects(fetch(mock.file.issuer.url))
  await mock.stop()
})

test('directories that it made are gone after it, and those that were there or hold something stay', async (t) => {
  const dir = scratch(t)
  const inner = join(dir, 'a', 'b')
  await (await startMock({ dir: inner, parties: false })).stop()
  t.strictSame(readdirSync(dir), [], 'with those above that it made')

  mkdirSync(join(dir, 'a'))
  mkdirSync(join(dir, 'doors'))
  const mock = await startMock({ dir, parties: false })
  writeFileSync(join(dir, 'issuer', 'mine'), '')
  await mock.stop()
  t.strictSame(readdirSync(dir).sort(), ['a', 'doors', 'issuer'])
})

test('a mock that cannot start leaves nothing behind', async (t) => {
  const dir = scratch(t)
  await t.rejects(startMock({ dir: join(dir, 'fly'), parties: { file: join(dir, 'none') } }))
  t.strictSame(readdirSync(dir), [])
})

test('a second mock in the same directory is refused, and the first goes on', async (t) => {
  const dir = scratch(t)
  const mock = await start(t, { dir })
  await t.rejects(startMock({ dir }), { message: `another mock runs in ${dir}` })
  t.ok(existsSync(mock.path))
  t.equal((await ask(mock.file.machines[0]!)).status, 200)
})

test('a directory that is too deep for a socket is refused with the reason', async (t) => {
  const dir = join(scratch(t), 'x'.repeat(90))
  await t.rejects(startMock({ dir }), { message: /longer than 107 bytes: choose a shorter directory/ })
  t.notOk(existsSync(dir), 'before anything is made')
})

test('when the issuer is gone nobody signs: flyd answers 503 and no token', async (t) => {
  const mock = await start(t)
  process.kill(mock.issuerPid, 'SIGKILL')
  await until(() => !isAlive(mock.issuerPid))
  const answer = await ask(mock.file.machines[0]!)
  t.equal(answer.status, 503)
  t.strictSame(JSON.parse(answer.text), { error: 'the issuer is unavailable' })
})

async function run(t: Test, dir: string): Promise<{ child: ChildProcess; pid: number; issuerPid: number }> {
  const child = spawn(process.execPath, [fileURLToPath(new URL('run.ts', import.meta.url)), dir], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...CACHE },
  })
  t.teardown(() => child.kill('SIGKILL'))
  const [line] = await once(createInterface({ input: child.stdout }), 'line')
  return { child, pid: child.pid ?? 0, issuerPid: JSON.parse(line).issuerPid }
}

test('the issuer ends when its parent dies, however it dies, and the directory can be used again', async (t) => {
  const dir = scratch(t)
  const { child, issuerPid } = await run(t, dir)
  child.kill('SIGKILL')
  await once(child, 'close')
  t.ok(await until(() => !isAlive(issuerPid)), 'no orphan with keys is left')
  const mock = await start(t, { dir })
  t.equal((await ask(mock.file.machines[0]!)).status, 200, 'in spite of the dead sockets')
})

test('finder() finds each at every place, and nothing that is not whole', async (t) => {
  const needles = [35, 64, 256].map((length, i) => Buffer.alloc(length, `${i}: no period of these bytes is short `))
  const finds = finder(needles)
  for (const needle of needles) {
    for (let at = 0; at < 40; at++) {
      const piece = Buffer.alloc(at + needle.length)
      needle.copy(piece, at)
      if (!finds(piece)) t.fail(`${needle.length} bytes at ${at}`)
      piece[at + needle.length - 1]! ^= 0x80
      if (finds(piece)) t.fail(`all but the last of ${needle.length} bytes at ${at}`)
      piece[at + needle.length - 1]! ^= 0x80
      piece[at]! ^= 0x80
      if (finds(piece)) t.fail(`all but the first of ${needle.length} bytes at ${at}`)
    }
  }
  t.throws(() => finder([Buffer.alloc(34)]))
})

test('the private key is in the issuer’s memory and nowhere else: not in flyd’s, and in no file', async (t) => {
  const dir = scratch(t)
  const { pid, issuerPid } = await run(t, dir)
  const { machines, issuer }: { machines: MockMachine[]; issuer: { url: string } } = JSON.parse(
    readFileSync(join(dir, 'mock.json'), 'utf8'),
  )
  for (let i = 0; i < 10; i++) t.equal((await ask(machines[0]!)).status, 200)
  const { keys } = Object(await (await fetch(`${issuer.url}/example/.well-known/jwks`)).json())
  const n = BigInt(`0x${Buffer.from(keys[0].n, 'base64url').toString('hex')}`)

  let p: bigint | undefined
  try {
    p = findFactor(issuerPid, n)
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'EACCES' || error.code === 'EPERM')) {
      return t.plan(0, 'needs root, to read the memory of other processes')
    }
    throw error
  }
  if (p === undefined) throw new Error('the search does not find the key where it must be')
  const secrets = spellings(n, p)
  const holds = finder(secrets)
  t.ok([...memoryOf(issuerPid)].some(holds), 'control: the search finds it in the issuer')
  writeFileSync(join(dir, 'control'), secrets[5]!)
  t.ok(holds(readFileSync(join(dir, 'control'))), 'control: and in a file')
  writeFileSync(join(dir, 'control'), '')

  t.equal(findFactor(pid, n), undefined, 'flyd’s memory holds no factor of the modulus')
  t.notOk([...memoryOf(pid)].some(holds), 'nor any spelling of the private numbers')
  for (const name of readdirSync(dir, { recursive: true, encoding: 'utf8' })) {
    const path = join(dir, name)
    if (statSync(path).isFile()) t.notOk(holds(readFileSync(path)), name)
  }
  for (const proc of ['environ', 'cmdline']) t.notOk(holds(readFileSync(`/proc/${issuerPid}/${proc}`)), proc)
})
