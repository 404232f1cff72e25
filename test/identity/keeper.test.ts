import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'tap'
import { Failure } from '../../src/errors.ts'
import { requestToken } from '../../src/identity/client.ts'
import { type Instant, readClocks } from '../../src/identity/clocks.ts'
import { parseTokenFile } from '../../src/identity/custom.ts'
import type { World } from '../../src/identity/keeper.ts'
import { lifeOf } from '../../src/identity/life.ts'
import { directory, issuer, keeping, mint, pause, until } from './support.ts'

const ROLE = { AWS_ROLE_ARN: 'arn:aws:iam::123456789012:role/weather-cat' }
const FOUR = {
  ...ROLE,
  AZURE_CLIENT_ID: '11111111-2222-4333-8444-555555555555',
  AZURE_TENANT_ID: 'tenant.example',
  ANTHROPIC_FEDERATION_RULE_ID: 'fdrl_x',
  ANTHROPIC_ORGANIZATION_ID: 'org',
  GOOGLE_WORKLOAD_IDENTITY_PROVIDER: 'projects/1/locations/global/workloadIdentityPools/pool/providers/prov',
}

/** The real world with its clocks pushed apart. */
function shifted(): World & { push: { wall: number; suspended: number } } {
  const push = { wall: 0, suspended: 0 }
  const clocks = (): Instant => {
    const { wall, mono, boot } = readClocks()
    return { wall: wall + push.wall, mono, boot: boot + push.suspended }
  }
  return { clocks, random: Math.random, request: requestToken, push }
}

test('AWS_ROLE_ARN alone: the file is there with its token when start() is over', async (t) => {
  const { socket, asked } = await issuer(t)
  const { keeper, events, dir } = keeping(t, socket, ROLE, { awsPrincipalTags: true })
  t.equal(existsSync(dir), false, 'nothing is touched before')
  t.equal(await keeper.start(), 'ready')
  const path = join(dir, 'oidc_token')
  t.equal(keeper.env['AWS_WEB_IDENTITY_TOKEN_FILE'], path)
  t.match(readFileSync(path, 'utf8'), /^[\w-]+\.[\w-]+\.[\w-]+$/, 'no newline')
  t.equal(statSync(path).mode & 0o777, 0o600)
  t.match(asked, [{ aud: 'sts.amazonaws.com', aws_principal_tags: true }])
  t.strictSame(
    events.map(({ kind }) => kind),
    ['written', 'ready'],
  )
  t.match(events[0], { audience: 'sts.amazonaws.com' })
  t.ok(events[0]?.kind === 'written' && Math.abs(events[0].life - 600_000) < 1)
  t.notMatch(JSON.stringify(events), readFileSync(path, 'utf8').slice(0, 20), 'no byte of a token in an event')
})

test('four clouds and a file of one’s own, each its own audience, and not more than flyd takes', async (t) => {
  const { socket, asked } = await issuer(t)
  const dir = directory(t)
  const files = [parseTokenFile(`${dir}/vault.json,aud=https://vault.example,mode=0640,format=json`)]
  const { keeper } = keeping(t, socket, FOUR, { directory: join(dir, 'fly'), files })
  t.equal(await keeper.start(), 'ready')
  t.equal(new Set(asked.map(({ aud }) => aud)).size, 5)
  t.equal(asked.length, 5)
  t.ok(asked[3]!.at - asked[0]!.at > 900, 'the fourth comes a second later')
  const vault = JSON.parse(readFileSync(join(dir, 'vault.json'), 'utf8'))
  t.match(vault, { token: /^eyJ/, audience: 'https://vault.example', expires_at: /Z$/ })
  const google = JSON.parse(readFileSync(join(dir, 'fly/gcp_credentials.json'), 'utf8'))
  t.match(google, { type: 'external_account', credential_source: { file: join(dir, 'fly/gcp_token') } })
})

test('nothing asked for: nothing is done', async (t) => {
  const { keeper, events } = keeping(t, '/nonexistent', {})
  t.equal(await keeper.start(), 'ready')
  t.strictSame([keeper.env, keeper.files, events], [{}, [], []])
})

test('a token is replaced in time, and the file is never without a good one', async (t) => {
  const { socket, asked } = await issuer(t, 5)
  const { keeper, dir } = keeping(t, socket, ROLE)
  await keeper.start()
  let worst = Infinity
  for (const end = performance.now() + 30_000; asked.length < 3 && performance.now() < end; await pause(10)) {
    const life = lifeOf(readFileSync(join(dir, 'oidc_token'), 'utf8'))
    worst = Math.min(worst, life === undefined ? -1 : life.exp - Date.now() / 1000)
  }
  t.ok(worst > 0, `${worst} s were left at worst`)
  t.ok(asked.length >= 3, 'and was replaced twice')
})

test('the issuer goes away: retries back off, the old file stays, is removed with an alarm, and comes back', async (t) => {
  const it = await issuer(t, 4)
  const good = it.answer
  const { keeper, events, dir } = keeping(t, it.socket, ROLE)
  await keeper.start()
  it.answer = (response) => response.writeHead(502).end()
  const path = join(dir, 'oidc_token')
  const life = lifeOf(readFileSync(path, 'utf8'))!
  t.ok(await until(() => events.some(({ kind }) => kind === 'refused')))
  t.ok(existsSync(path), 'the old one is still there after the first failure')
  t.ok(await until(() => !existsSync(path)), 'and then gone')
  t.ok(Date.now() / 1000 < life.exp, 'before its end')
  await pause(300)
  t.equal(events.filter(({ kind }) => kind === 'removed').length, 1)
  it.answer = good
  t.ok(await until(() => existsSync(path)))
})

test('a request that hangs does not keep an old token in its file', async (t) => {
  const it = await issuer(t, 4)
  const { keeper, dir } = keeping(t, it.socket, ROLE)
  await keeper.start()
  it.answer = () => undefined
  const path = join(dir, 'oidc_token')
  const { exp } = lifeOf(readFileSync(path, 'utf8'))!
  t.ok(await until(() => !existsSync(path), 30_000))
  t.ok(Date.now() / 1000 < exp)
  t.equal(it.asked.length, 2, 'and there is one request only')
})

test('suspended, or the clock set: a new token within a second', async (t) => {
  for (const push of [{ suspended: 1_200_000 }, { wall: 3_600_000 }, { wall: -37 * 3_600_000 }]) {
    const { socket, asked } = await issuer(t)
    const world = shifted()
    const { keeper, events, dir } = keeping(t, socket, ROLE, {}, world)
    await keeper.start()
    const before = readFileSync(join(dir, 'oidc_token'), 'utf8')
    Object.assign(world.push, push)
    const since = performance.now()
    t.ok(await until(() => events.filter(({ kind }) => kind === 'written').length === 2, 30_000))
    // That it is a second at most is in the schedule: half of it until the next look, a quarter of jitter.
    t.comment(`${Math.round(performance.now() - since)} ms`)
    t.not(readFileSync(join(dir, 'oidc_token'), 'utf8'), before)
    t.match(
      events.find(({ kind }) => kind === 'woken'),
      { how: 'wall' in push ? 'stepped' : 'suspended' },
    )
    t.equal(asked.length, 2)
    await keeper.stop()
  }
})

test('a request that was under way when the Machine slept is given up for a new one', async (t) => {
  const it = await issuer(t)
  const world = shifted()
  const good = it.answer
  it.answer = () => undefined
  const { keeper } = keeping(t, it.socket, ROLE, {}, world)
  const started = keeper.start()
  await until(() => it.asked.length === 1)
  await pause(20)
  it.answer = good
  world.push.suspended = 60_000
  t.equal(await started, 'ready')
  t.equal(it.asked.length, 2)
})

test('Retry-After is honoured', async (t) => {
  const it = await issuer(t)
  const good = it.answer
  it.answer = (response) => {
    it.answer = good
    response.writeHead(429, { 'retry-after': '1' }).end()
  }
  const { keeper, events } = keeping(t, it.socket, ROLE)
  await keeper.start()
  t.ok(it.asked[1]!.at - it.asked[0]!.at >= 1000)
  t.match(events[0], { kind: 'refused', code: 'RATE_LIMITED', status: 429 })
  t.ok(events[0]?.kind === 'refused' && events[0].again >= 1000)
})

test('no token in time: fail says why in one line, continue goes on and keeps trying', async (t) => {
  const it = await issuer(t)
  const good = it.answer
  it.answer = (response) => response.writeHead(503).end()
  const fails = keeping(t, it.socket, ROLE, { wait: { limit: 1500, otherwise: 'fail' } })
  await t.rejects(fails.keeper.start(), {
    name: Failure.name,
    message: /^no token in .*oidc_token after \d+(?:\.\d)? s \(FLYD_DOWN\): see dotfly doctor/,
  })
  const count = it.asked.length
  const goesOn = keeping(t, it.socket, ROLE, { wait: { limit: 1500, otherwise: 'continue' } })
  t.equal(await goesOn.keeper.start(), 'late')
  t.match(goesOn.events.at(-1), { kind: 'late', missing: [join(goesOn.dir, 'oidc_token')] })
  it.answer = good
  t.ok(await until(() => existsSync(join(goesOn.dir, 'oidc_token'))))
  t.ok(it.asked.length > count + 1)
})

test('an audience that is refused is not waited for', async (t) => {
  const it = await issuer(t)
  it.answer = (response) => response.writeHead(403).end('{"code":"AUDIENCE_NOT_ALLOWED"}')
  const since = performance.now()
  const wait = { limit: 50_000, otherwise: 'fail' } as const
  await t.rejects(keeping(t, it.socket, ROLE, { wait }).keeper.start(), { message: /AUDIENCE_REFUSED/ })
  t.ok(performance.now() - since < 25_000)
})

test('a malformed ARN: one line, and the entrypoint’s fate as configured', async (t) => {
  const { socket, asked } = await issuer(t)
  const env = { AWS_ROLE_ARN: 'arn:aws:iam::1234:role/x' }
  const fails = keeping(t, socket, env)
  await t.rejects(fails.keeper.start(), { message: /^AWS_ROLE_ARN is wrong \(ROLE_ARN_MALFORMED\)/ })
  const goesOn = keeping(t, socket, env, { wait: { limit: 100, otherwise: 'continue' } })
  t.equal(await goesOn.keeper.start(), 'late')
  t.match(goesOn.events[0], { kind: 'problem', problem: { code: 'ROLE_ARN_MALFORMED', variable: 'AWS_ROLE_ARN' } })
  t.strictSame([goesOn.keeper.env, asked], [{}, []])
})

test('a directory behind a link: the old file is untouched', async (t) => {
  const { socket } = await issuer(t)
  const dir = directory(t)
  mkdirSync(join(dir, 'real'))
  const old = mint(600)
  writeFileSync(join(dir, 'real/oidc_token'), old)
  symlinkSync(join(dir, 'real'), join(dir, 'fly'))
  const { keeper } = keeping(t, socket, ROLE, { directory: join(dir, 'fly') })
  await t.rejects(keeper.start(), { message: /DIRECTORY_IS_LINK/ })
  t.equal(readFileSync(join(dir, 'real/oidc_token'), 'utf8'), old)
})

test('what an earlier run left: a good token stays until there is a new one, an expired one goes at once', async (t) => {
  const it = await issuer(t)
  it.answer = (response) => response.writeHead(502).end()
  for (const [left, stays] of [
    [mint(600), true],
    [mint(-10, { iat: Date.now() / 1000 - 700 }), false],
    ['half a tok', false],
  ] as const) {
    const dir = directory(t)
    writeFileSync(join(dir, 'oidc_token'), left)
    const { keeper } = keeping(t, it.socket, ROLE, { directory: dir, wait: { limit: 50, otherwise: 'continue' } })
    t.equal(await keeper.start(), 'late')
    t.equal(existsSync(join(dir, 'oidc_token')), stays)
    await keeper.stop()
  }
})

test('what cannot be a token is not written', async (t) => {
  const it = await issuer(t)
  const answers = [mint(600, { exp: undefined }), mint(-5)]
  it.answer = (response) => response.end(answers.shift() ?? mint(600))
  const { keeper, events } = keeping(t, it.socket, ROLE)
  t.equal(await keeper.start(), 'ready')
  t.strictSame(
    events.flatMap((event) => (event.kind === 'refused' ? [event.code] : [])),
    ['TIMELESS_TOKEN', 'TIMELESS_TOKEN'],
  )
})

test('stop() while a request is under way, and while start() waits', async (t) => {
  const it = await issuer(t)
  it.answer = () => undefined
  const { keeper } = keeping(t, it.socket, ROLE)
  const started = keeper.start()
  await until(() => it.asked.length === 1)
  await keeper.stop()
  t.equal(await started, 'late')
})
