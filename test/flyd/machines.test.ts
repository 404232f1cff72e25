import { test } from 'tap'
import { ANCIENT, BOLD, QUIET, bench } from './dial.ts'
import type { Answer, Bench, Call } from './dial.ts'

const MACHINE = `/v1/apps/weather-cat/machines/${ANCIENT.id}`
const SIBLING = `/v1/apps/weather-cat/machines/${QUIET.id}`
interface Body {
  readonly [key: string]: unknown
  readonly error: string
  readonly state: string
  readonly name: string
  readonly id: string
  readonly status: string
  readonly cordoned: boolean
  readonly length: number
  readonly events: object[]
  readonly data: { readonly nonce: string; readonly expires_at: number }
}
const json = ({ text }: Answer): Body => JSON.parse(text)
const list = ({ text }: Answer): Body[] => JSON.parse(text)
const post = (at: Bench, path: string, body?: object, headers: Call['headers'] = {}): Promise<Answer> =>
  at.call(path, { method: 'POST', headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) })
const state = async (at: Bench): Promise<string> => json(await at.call(MACHINE)).state
const reach = (at: Bench, wanted: string): Promise<Answer> =>
  at.call(`${MACHINE}/wait?state=${wanted}&timeout=5&instance_id=${at.flyd.machines[0]!.version}`)

test('list and get show the Machines of the app and no others', async (t) => {
  const at = await bench(t)
  const all = list(await at.call('/v1/apps/weather-cat/machines'))
  t.strictSame(
    all.map(({ id }) => id),
    [ANCIENT.id, QUIET.id],
    'not the app of that name in another org',
  )
  t.match(all[0], {
    name: 'ancient-snow-4824',
    state: 'started',
    region: 'yyz',
    instance_id: /^[0-9A-Z]{26}$/,
    config: { metadata: {} },
  })
  t.match(all[0]?.events, [
    { type: 'start', status: 'started', source: 'flyd' },
    { type: 'launch', status: 'created', source: 'user' },
  ])
  t.strictSame(json(await at.call(SIBLING)).name, 'quiet-river-7311')
  t.strictSame(list(await at.call('/v1/apps/weather-cat/machines?region=ams')), [])
  t.strictSame(list(await at.call('/v1/apps/weather-cat/machines?state=stopped')), [])
  t.match(json(await at.call('/v1/apps/weather-cat')), {
    name: 'weather-cat',
    organization: { slug: 'example' },
    machine_count: 2,
  })
})

test('another app is not there, and another Machine may be read but not changed', async (t) => {
  const at = await bench(t)
  for (const path of [
    '/v1/apps/storm-dog/machines',
    `/v1/apps/storm-dog/machines/${BOLD.id}`,
    '/v1/apps/no-such/machines',
  ]) {
    const answer = await at.call(path)
    t.equal(answer.status, 404, path)
    t.equal(json(answer).error, 'app not found', 'the same, there or not')
  }
  t.equal((await at.call('/v1/apps/weather-cat/machines/00000000000000')).status, 404)
  for (const verb of ['suspend', 'stop', 'start', 'restart', 'cordon', 'signal', 'lease']) {
    t.equal((await post(at, `${SIBLING}/${verb}`)).status, 403, verb)
  }
  t.equal((await post(at, `${SIBLING}/metadata/k`, { value: 'v' })).status, 403)
  t.equal(at.flyd.machines[1]!.state, 'started')
})

test('what a Machine token never may is a 403', async (t) => {
  const at = await bench(t)
  t.equal((await at.call('/v1/apps')).status, 403)
  t.equal((await post(at, MACHINE, { config: {} })).status, 403)
  t.equal((await post(at, `${MACHINE}/exec`, { cmd: ['id'] })).status, 403)
  t.equal((await at.call(MACHINE, { method: 'DELETE' })).status, 403)
})

test('suspend, stop, start and restart run through their states and leave events', async (t) => {
  const at = await bench(t)
  t.strictSame(json(await post(at, `${MACHINE}/suspend`)), { ok: true })
  t.strictSame(json(await reach(at, 'suspended')), { ok: true })
  t.equal(await state(at), 'suspended')
  t.strictSame(json(await post(at, `${MACHINE}/start`)), { previous_state: 'suspended', migrated: false, new_host: '' })
  await reach(at, 'started')
  await post(at, `${MACHINE}/stop`, { signal: 'SIGTERM', timeout: '5s' })
  await reach(at, 'stopped')
  t.equal((await post(at, `${MACHINE}/stop`)).status, 200, 'stopping the stopped changes nothing')
  const refused = await post(at, `${MACHINE}/suspend`)
  t.equal(refused.status, 412)
  t.equal(json(refused).error, "failed_precondition: unable to suspend machine from current state: 'stopped'")
  await post(at, `${MACHINE}/start`)
  await reach(at, 'started')
  await post(at, `${MACHINE}/restart`)
  t.not(await state(at), 'started')
  await reach(at, 'started')
  const events = list(await at.call(`${MACHINE}/events?limit=3`))
  t.strictSame(
    events.map(({ status }) => status),
    ['started', 'starting', 'stopping'],
  )
  t.equal(at.flyd.machines[1]!.state, 'started', 'the other Machine noticed nothing')
})

test('wait answers when the state comes, and not before', async (t) => {
  const at = await bench(t, { settle: 150 })
  const begun = performance.now()
  await post(at, `${MACHINE}/suspend`)
  t.equal((await reach(at, 'suspended')).status, 200)
  t.ok(performance.now() - begun > 140)
})

test('wait gives up with 408 in the words of the real API, and checks what it is asked', async (t) => {
  const at = await bench(t)
  const late = await at.call(`${MACHINE}/wait?state=suspended&timeout=1`)
  t.equal(late.status, 408)
  t.equal(json(late).error, 'machine failed to reach desired state, suspended, currently started')
  const none = await at.call(`${MACHINE}/wait?state=stopped`)
  t.equal(none.status, 400)
  t.equal(json(none).error, 'instance_id required when waiting for stopped machine')
  t.equal((await at.call(`${MACHINE}/wait?timeout=61`)).status, 400)
  t.equal((await at.call(`${MACHINE}/wait?timeout=0`)).status, 400)
  t.equal((await at.call(`${MACHINE}/wait?timeout=x`)).status, 400)
  t.equal((await at.call(`${MACHINE}/wait?state=happy`)).status, 400)
  t.equal((await at.call(`${MACHINE}/wait?instance_id=01HZJXGTQ084DX0G0V92QH3XW4`)).status, 404)
  t.strictSame(json(await at.call(`${MACHINE}/wait`)), { ok: true }, 'started is the default')
})

test('a flyd with waiting callers stops at once', async (t) => {
  const at = await bench(t)
  const waiting = at.call(`${MACHINE}/wait?state=suspended&timeout=60`).then(
    () => 'answered',
    () => 'cut off',
  )
  await new Promise((resolve) => setTimeout(resolve, 50))
  await at.flyd.stop()
  t.equal(await waiting, 'cut off', 'and not after the minute it was to wait')
})

test('metadata: one key, many keys, and keys taken away', async (t) => {
  const at = await bench(t)
  const all = async (): Promise<object> => json(await at.call(`${MACHINE}/metadata`))
  t.strictSame(await all(), {})
  const written = await post(at, `${MACHINE}/metadata/role`, { value: 'leader' })
  t.equal(written.status, 204)
  t.equal(written.text, '')
  t.strictSame(await all(), { role: 'leader' })
  t.strictSame(json(await at.call(`${MACHINE}/metadata/role`)), { value: 'leader' })
  t.equal((await at.call(`${MACHINE}/metadata/none`)).status, 404)
  const patched = await at.call(`${MACHINE}/metadata`, {
    method: 'PATCH',
    body: '{"metadata":{"a b/c":"1","role":null,"x":"2"}}',
  })
  t.equal(patched.status, 204)
  t.strictSame(await all(), { 'a b/c': '1', x: '2' })
  t.strictSame(json(await at.call(`${MACHINE}/metadata/a%20b%2Fc`)), { value: '1' })
  await at.call(`${MACHINE}/metadata`, { method: 'PATCH', body: '{"metadata":{"x":""}}' })
  t.equal((await at.call(`${MACHINE}/metadata/a%20b%2Fc`, { method: 'DELETE' })).status, 204)
  t.strictSame(await all(), {})
  for (const body of ['{}', '{"metadata":[]}', '{"metadata":{"a":1}}']) {
    t.equal((await at.call(`${MACHINE}/metadata`, { method: 'PATCH', body })).status, 400, body)
  }
  t.equal((await post(at, `${MACHINE}/metadata/k`, { value: 1 })).status, 400)
  await post(at, `${MACHINE}/metadata/__proto__`, { value: 'plain' })
  t.strictSame(at.flyd.machines[0]!.metadata.get('__proto__'), 'plain')
  t.equal(json(await at.call('/v1/apps/weather-cat/machines?metadata.role=leader')).length, 0)
})

test('a lease is held by its nonce: others get 409, the holder acts, prolongs and releases', async (t) => {
  let now = 1_900_000_000_000
  const at = await bench(t, { now: () => now })
  t.equal((await at.call(`${MACHINE}/lease`)).status, 404)
  const taken = json(await post(at, `${MACHINE}/lease`, { ttl: 30, description: 'deploy' }))
  t.match(taken, {
    status: 'success',
    data: { nonce: /^[0-9a-f]{12}$/, expires_at: 1_900_000_030, description: 'deploy', version: /^[0-9A-Z]{26}$/ },
  })
  const holder = { 'fly-machine-lease-nonce': taken.data.nonce }
  t.equal((await post(at, `${MACHINE}/lease`)).status, 409)
  t.equal((await post(at, `${MACHINE}/suspend`)).status, 409)
  t.equal((await post(at, `${MACHINE}/cordon`)).status, 409)
  t.equal((await at.call(`${MACHINE}/lease`, { method: 'DELETE' })).status, 409)
  t.equal((await post(at, `${MACHINE}/cordon`, {}, holder)).status, 200)
  t.equal(json(await at.call(MACHINE)).cordoned, true)
  const longer = json(await post(at, `${MACHINE}/lease?ttl=60`, undefined, holder))
  t.equal(longer.data.nonce, taken.data.nonce)
  t.equal(longer.data.expires_at, 1_900_000_060)
  t.strictSame(json(await at.call(`${MACHINE}/lease`)), longer)
  t.equal((await at.call(`${MACHINE}/lease`, { method: 'DELETE', headers: holder })).status, 200)
  t.equal((await at.call(`${MACHINE}/lease`)).status, 404)
  await post(at, `${MACHINE}/lease`, { ttl: 5 })
  now += 5000
  t.equal((await post(at, `${MACHINE}/uncordon`)).status, 200, 'a lease that is over binds nobody')
  for (const ttl of [0, -1, 1.5, '1h', {}, 90_000])
    t.equal((await post(at, `${MACHINE}/lease`, { ttl })).status, 400, JSON.stringify(ttl))
})

test('signals: by name or number; SIGKILL ends the Machine; unknown ones are a 400', async (t) => {
  const at = await bench(t)
  t.equal((await post(at, `${MACHINE}/signal`, { signal: 'SIGUSR1' })).status, 200)
  t.equal(await state(at), 'started')
  t.equal((await post(at, `${MACHINE}/signal`, { signal: 'SIGNOPE' })).status, 400)
  t.equal((await post(at, `${MACHINE}/signal`, {})).status, 400)
  t.equal((await post(at, `${MACHINE}/signal`, { signal: 9 })).status, 200)
  await reach(at, 'stopped')
  t.equal((await post(at, `${MACHINE}/signal`, { signal: 'SIGINT' })).status, 412)
})
