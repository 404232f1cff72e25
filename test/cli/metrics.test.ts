// The metrics listener, over a real socket: what a scrape sees after events.

import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { test } from 'tap'
import { parseMetricsAddress } from '../../src/metrics/address.ts'
import { serveMetrics } from '../../src/metrics/serve.ts'
import { UsageError } from '../../src/errors.ts'
import type { SocketOptions } from '../../src/init/options.ts'
import type { Exchange } from '../../src/proxy/event.ts'
import { ended, start, until } from './dotfly.ts'

const SOCKET: SocketOptions = { path: '/.fly/api', mode: 0o755, policy: 'self', allow: [], audiences: [] }
const exchange = (over: Partial<Exchange>): Exchange => ({
  kind: 'exchange',
  time: 0,
  socket: 0,
  pid: 1,
  uid: 0,
  gid: 0,
  method: 'POST',
  route: '/v1/tokens/oidc',
  status: 200,
  hits: 0,
  bytes: 700,
  ms: 2,
  ...over,
})

test('a scrape counts exchanges by route, status and code, and never by what a guest wrote', async (t) => {
  const metrics = await serveMetrics({ host: '127.0.0.1', port: 0 }, [SOCKET])
  t.teardown(() => metrics.close())
  const get = async (path: string): Promise<{ status: number; text: string }> => {
    const response = await fetch(`http://127.0.0.1:${metrics.port}${path}`)
    return { status: response.status, text: await response.text() }
  }
  t.equal((await get('/healthz')).status, 503, 'not serving before the proxy listens')
  metrics.event({ kind: 'listening', socket: 0 })
  t.equal((await get('/healthz')).status, 200)
  metrics.event(exchange({ audience: 'evil\n"} 1' }))
  metrics.event(exchange({ hits: 3, bytes: 10 }))
  metrics.event(exchange({ method: 'X'.repeat(500), route: '', status: 404, code: 'ROUTE_NOT_SERVED', bytes: 0 }))
  metrics.event({ kind: 'fault', code: 'UNCAUGHT' })
  metrics.event({ kind: 'listening', socket: 0 })
  const { text } = await get('/metrics')
  t.match(
    text,
    'dotfly_exchanges_total{socket="/.fly/api",method="POST",route="/v1/tokens/oidc",status="200",code=""} 2',
  )
  t.match(text, 'dotfly_exchanges_total{socket="/.fly/api",method="",route="",status="404",code="ROUTE_NOT_SERVED"} 1')
  t.match(text, 'dotfly_strip_hits_total 3')
  t.match(text, 'dotfly_answer_bytes_total 710')
  t.match(text, 'dotfly_faults_total{code="UNCAUGHT"} 1')
  t.match(text, 'dotfly_proxy_starts_total 2')
  t.match(text, 'dotfly_sockets_served 1')
  t.notMatch(text, /evil|XXXX/)
  metrics.away()
  t.equal((await get('/healthz')).status, 503, 'a killed process serves nobody')
  t.match((await get('/metrics')).text, 'dotfly_sockets_served 0')
  metrics.event({ kind: 'listening', socket: 0 })
  t.equal((await get('/healthz')).status, 200)
  metrics.event({ kind: 'draining' })
  t.equal((await get('/healthz')).status, 503)
  t.equal((await get('/')).status, 404)
})

test('an address is loopback or a Unix socket', async (t) => {
  t.same(parseMetricsAddress('127.0.0.1:9091'), { host: '127.0.0.1', port: 9091 })
  t.same(parseMetricsAddress('[::1]:1'), { host: '::1', port: 1 })
  t.same(parseMetricsAddress('unix:/run/m.sock'), { path: '/run/m.sock' })
  for (const word of ['0.0.0.0:9091', '9091', '127.0.0.1:99999', 'unix:rel', ''])
    t.throws(() => parseMetricsAddress(word), UsageError, word)
  const first = await serveMetrics({ host: '127.0.0.1', port: 0 }, [SOCKET])
  t.teardown(() => first.close())
  await t.rejects(serveMetrics({ host: '127.0.0.1', port: first.port ?? 0 }, [SOCKET]), {
    message: /cannot serve metrics at .*: it is in use, choose another/,
  })
})

test('dotfly proxy --metrics: a real exchange is in the scrape', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'metrics-'))
  t.teardown(() => rmSync(directory, { recursive: true }))
  const at = (name: string): string => join(directory, name)
  writeFileSync(at('macaroon'), `FlyV1 ${'x'.repeat(80)}`)
  const words = ['proxy', '--socket', at('api'), '--macaroon-file', at('macaroon'), '--flyd', `unix:${at('flyd')}`]
  const child = start([...words, '--metrics', `unix:${at('metrics')}`])
  t.teardown(() => child.kill('SIGKILL'))
  const done = ended(child)
  await until(child, /listening at/)
  const get = async (socket: string, path: string): Promise<string> =>
    (await promisify(execFile)('curl', ['-s', '--unix-socket', at(socket), `http://localhost${path}`])).stdout
  const told = until(child, /ROUTE_NOT_SERVED/) // a moment after the answer
  t.match(await get('api', '/nowhere'), 'ROUTE_NOT_SERVED')
  t.equal(await get('metrics', '/healthz'), 'serving\n')
  await told
  t.match(
    await get('metrics', '/metrics'),
    /dotfly_exchanges_total\{socket="[^"]*api",method="",route="",status="404",code="ROUTE_NOT_SERVED"\} 1/,
  )
  const [trusted = 0] = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'latin1')
    .trim()
    .split(' ')
    .map(Number)
  const restarts = until(child, /"event":"restarting"[^]*"event":"listening"/)
  process.kill(trusted, 'SIGKILL')
  t.match(await restarts, /"level":"warn".*was killed by SIGKILL, starting it again in \d+ ms/)
  t.equal(await get('metrics', '/healthz'), 'serving\n')
  t.match(await get('metrics', '/metrics'), /dotfly_proxy_starts_total 2/)
  child.kill('SIGTERM')
  t.equal((await done).code, 0)
})
