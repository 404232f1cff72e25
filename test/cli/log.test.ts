import { test } from 'tap'
import { describe } from '../../src/cli/describe.ts'
import { printable, printableJson, shown } from '../../src/cli/printable.ts'
import type { Exchange } from '../../src/proxy/event.ts'

const SOCKETS = [{ path: '/.fly/api', mode: 0o755, policy: 'self' as const, allow: [], audiences: [] }]
const ASKED = { method: 'POST', route: '/v1/tokens/oidc', audience: 'sts.amazonaws.com' }
const ANSWERED = { status: 200, hits: 0, bytes: 812, ms: 2.5 }
const CALLER = { pid: 7, uid: 1000, gid: 1000 }
const EXCHANGE: Exchange = { kind: 'exchange', time: 1_795_000_000_000, socket: 0, ...CALLER, ...ASKED, ...ANSWERED }

test('the readiness line is the one that deployers grep for', async (t) => {
  t.match(describe({ kind: 'listening', socket: 0 }, SOCKETS), {
    level: 'info',
    message: '[fly api proxy] listening at /.fly/api',
  })
})

test('an exchange is one line', async (t) => {
  t.strictSame(describe(EXCHANGE, SOCKETS), {
    level: 'info',
    fields: { event: 'exchange', at: EXCHANGE.time, socket: '/.fly/api', caller: CALLER, ...ASKED, ...ANSWERED },
    message: '[fly api proxy] POST /v1/tokens/oidc: 200, 812 bytes, 2.5 ms, pid 7 uid 1000',
  })
})

test('the level follows the status', async (t) => {
  const level = (change: Partial<Exchange>): string => describe({ ...EXCHANGE, ...change }, SOCKETS).level
  t.equal(level({ status: 0 }), 'info')
  t.equal(level({ status: 302 }), 'info')
  t.equal(level({ status: 404, code: 'ROUTE_NOT_SERVED' }), 'warn')
  t.equal(level({ status: 502, code: 'FLYD_ENCODED' }), 'error')
  t.equal(level({ hits: 1 }), 'warn', 'a blanked credential is never routine')
})

test('a refusal names its code, and a guest that left is not a status', async (t) => {
  t.match(
    describe({ ...EXCHANGE, route: '', status: 404, code: 'ROUTE_NOT_SERVED' }, SOCKETS).message,
    'POST outside the policy: 404 ROUTE_NOT_SERVED',
  )
  t.match(describe({ ...EXCHANGE, status: 0 }, SOCKETS).message, ': guest went away, ')
})

test('no string of an event can move a cursor or turn text round', async (t) => {
  const line = describe({ ...EXCHANGE, audience: 'a\u001b[2J\u202eb', method: 'GET\n' }, [
    { ...SOCKETS[0]!, path: '/a\u009bb' },
  ])
  t.notMatch(JSON.stringify(line.fields) + line.message, /[\p{Cc}\p{Cf}]/u)
  t.equal(line.fields['audience'], 'a\\u001b[2J\\u202eb')
})

test('printable text is left as it is, and everything unsafe is escaped', async (t) => {
  t.equal(printable('Grüße, 世界 🙂'), 'Grüße, 世界 🙂')
  t.equal(printable(`\u2028\u200b${String.fromCharCode(0xd800)}\u{e0041}`), '\\u2028\\u200b\\ud800\\udb40\\udc41')
})

test('printable JSON is still the same JSON', async (t) => {
  const value = { a: 'x\u202e\u009b\n"\\', b: [1] }
  const text = printableJson(value)
  t.strictSame(JSON.parse(text), value)
  t.notMatch(text.replaceAll('\n', ''), /[\p{Cc}\p{Cf}]/u)
})

test('a word of the command line is shown short, and a credential not at all', async (t) => {
  t.equal(shown('x'.repeat(500)).length, 121)
  for (const credential of [
    'FlyV1 fm2_lJPE',
    'x=fm2_lJPE',
    'fo1_abc',
    Buffer.from('001dlocation https://api').toString('base64url'),
  ])
    t.equal(shown(credential), '(a credential, not shown)')
})
