// dotfly keep and dotfly token as processes: signals, disks, many starts at once.

import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { test, type Test } from 'tap'
import { describeIdentity } from '../../src/cli/keep.ts'
import { lifeOf } from '../../src/identity/life.ts'
import { BIN, dotfly, ended, NODE, until as untilSaid } from '../cli/dotfly.ts'
import { childrenOf, kill } from '../init/support.ts'
import { directory, issuer, keeping, mint, pause, until } from './support.ts'

const root = process.getuid?.() === 0

/** A real keeper is stopped for longer than its token lives, up to three times: a computer that is busy may be late once.
 * `inside` is what it is started through. */
async function stopped(t: Test, inside: readonly string[]): Promise<void> {
  const { socket } = await issuer(t, 2)
  const path = join(directory(t), 'token')
  const words = ['keep', '--socket', socket, '--token-file', `${path},aud=x`]
  const flags = ['--disable-warning=ExperimentalWarning', BIN]
  const child = spawn('env', ['-i', ...inside, NODE, ...flags, ...words])
  // `env` was replaced by what it starts; the keeper is that itself, or its child where it is in a namespace.
  const keeper = (): number => (inside.length === 0 ? (child.pid ?? 0) : (childrenOf(child.pid ?? 0)[0] ?? 0))
  t.teardown(() => [keeper(), child.pid ?? 0].forEach((pid) => kill(pid, 'SIGKILL')))
  await untilSaid(child, /is ready|files are ready/)
  if (inside.length > 0) t.match(readFileSync(`/proc/${keeper()}/timens_offsets`, 'utf8'), /boottime +1000000 /)
  const late: number[] = []
  while (late.length < 3 && (late.at(-1) ?? Infinity) >= 1000) {
    kill(keeper(), 'SIGSTOP')
    await pause(2500)
    const old = existsSync(path) ? readFileSync(path, 'utf8') : ''
    if (old !== '') t.ok(lifeOf(old)!.exp < Date.now() / 1000, 'it expired meanwhile')
    kill(keeper(), 'SIGCONT')
    const since = performance.now()
    t.ok(await until(() => existsSync(path) && readFileSync(path, 'utf8') !== old, 30_000), 'there is a new one')
    late.push(Math.round(performance.now() - since))
  }
  t.ok(Math.min(...late) < 1000, `within a second of going on: ${late.join(', ')} ms`)
  kill(keeper(), 'SIGTERM')
  t.match(await ended(child), { code: 0 })
}

test('dotfly keep: stopped for longer than a token lives, it has a new one within a second of going on', (t) =>
  stopped(t, []))

test(
  'dotfly keep: the same where the clocks are days apart, as on a Machine that was suspended before',
  { skip: root ? false : 'needs root, for a time namespace' },
  (t) => stopped(t, ['unshare', '--time', '--monotonic', '1000', '--boottime', '1000000', '--fork', '--kill-child']),
)

test('dotfly keep --once writes and ends; and says in one line why it cannot', async (t) => {
  const it = await issuer(t)
  const dir = directory(t)
  const words = ['keep', '--once', '--socket', it.socket, '--token-file', `${dir}/t,aud=x`]
  const done = await dotfly(words)
  t.match(done, { code: 0, stderr: '' })
  for (const line of done.stdout.trim().split('\n')) t.match(JSON.parse(line), { msg: /^\[token files\] / })
  t.match(readFileSync(join(dir, 't'), 'utf8'), /^eyJ/)
  it.answer = (response) => response.writeHead(502).end()
  t.match(await dotfly([...words, '--wait-token', '3s']), {
    code: 1,
    stderr: /^dotfly: no token in .* \(FLYD_DOWN\).*\n$/,
  })
  t.match(await dotfly(['keep', '--socket', it.socket]), { code: 1, stderr: /there is no file to keep/ })
  t.match(await dotfly(['keep', '--token-file', 'x']), { code: 2, stderr: /from \/ on/ })
  t.match(await dotfly(['keep', '--once', '--socket', it.socket], { AWS_ROLE_ARN: 'cat' }), {
    code: 1,
    stdout: /is not the ARN of a role/,
    stderr: /^dotfly: AWS_ROLE_ARN is wrong/,
  })
})

test('a full disk and a read-only one: the old file is untouched, and the line says so', { skip: !root }, async (t) => {
  const { socket } = await issuer(t)
  const dir = directory(t)
  mkdirSync(join(dir, 'm'))
  const path = join(dir, 'm/token')
  const old = mint(600)
  const keep = `env -i '${NODE}' --disable-warning=ExperimentalWarning '${BIN}' keep --once --wait-token 400ms --socket '${socket}' --token-file '${path},aud=x'`
  for (const [make, says] of [
    [
      `mount -t tmpfs -o size=16k t '${dir}/m' && printf %s "$OLD" > '${path}' && { cat /dev/zero > '${dir}/m/fill' || :; }`,
      /DISK_FULL/,
    ],
    [`mount -t tmpfs t '${dir}/m' && printf %s "$OLD" > '${path}' && mount -o remount,ro '${dir}/m'`, /READ_ONLY/],
  ] as const) {
    // A mount namespace of its own: nothing is left behind, whatever happens.
    const script = `${make} 2>/dev/null; ${keep}; echo "code $?"; cat '${path}'; ls -A '${dir}/m' | wc -l`
    const child = spawn('unshare', ['-m', 'sh', '-c', script], { env: { PATH: process.env['PATH'], OLD: old } })
    const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)])
    t.match(out, /code 1/)
    t.match(err, says)
    t.ok(out.includes(old), 'the old file is as it was')
    t.match(out, says.source === 'DISK_FULL' ? /\n?2\n$/ : /\n?1\n$/, 'and nothing beside it')
  }
})

test('200 starts: whatever the moment the socket appears, the token is there when start() is over', async (t) => {
  const dir = directory(t)
  const socket = join(dir, 'api')
  const server = createServer((request, response) => {
    void text(request).then(() => response.end(mint(600)))
  })
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  // All of them before anybody listens.
  const early = Array.from({ length: 100 }, (_, i) => keeping(t, socket, {}, files(`${dir}/e${i}/token`)))
  const first = early.map(({ keeper }) => keeper.start())
  await pause(150)
  await new Promise<void>((done) => server.listen(socket, done))
  const late = Array.from({ length: 100 }, (_, i) => keeping(t, socket, {}, files(`${dir}/l${i}/token`)))
  const since = performance.now()
  const how = await Promise.all([...first, ...late.map(({ keeper }) => keeper.start())])
  t.comment(`200 starts in ${Math.round(performance.now() - since)} ms`)
  t.ok(how.every((one) => one === 'ready'))
  for (const { options } of [...early, ...late])
    if (lifeOf(readFileSync(options.files[0]!.path, 'utf8')) === undefined) t.fail('a file without a token')
  await Promise.all([...early, ...late].map(({ keeper }) => keeper.stop()))
})

const files = (path: string): Pick<Parameters<typeof keeping>[3] & object, 'files' | 'directory' | 'wait'> => ({
  directory: '/nonexistent',
  files: [{ cloud: 'custom', path, mode: 0o600, audience: 'x', format: 'raw' }],
  wait: { limit: 15_000, otherwise: 'fail' },
})

test('dotfly token --wait outlasts a socket that is not there yet; without it, it fails at once', async (t) => {
  const dir = directory(t)
  const socket = join(dir, 'api')
  t.match(await dotfly(['token', '--socket', socket]), { code: 1, stderr: /no socket/ })
  t.match(await dotfly(['token', '--socket', socket, '--wait', '300ms']), { code: 1, stderr: /no socket/ })
  const waiting = dotfly(['token', '--socket', socket, '--wait', '10s'])
  await pause(500)
  const server = createServer((_, response) => response.end(mint(600)))
  await new Promise<void>((done) => server.listen(socket, done))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  t.match(await waiting, { code: 0, stdout: /^eyJ/ })
})

test('dotfly token --format: what kubectl, Google’s libraries and the AWS CLI run a command for', async (t) => {
  const { socket, asked } = await issuer(t)
  const run = async (format: string, env = {}): Promise<unknown> =>
    JSON.parse((await dotfly(['token', '--socket', socket, '--format', format], env)).stdout)
  t.match(await run('k8s-exec', { KUBERNETES_EXEC_INFO: '{"apiVersion":"client.authentication.k8s.io/v1beta1"}' }), {
    apiVersion: 'client.authentication.k8s.io/v1beta1',
    kind: 'ExecCredential',
    status: { token: /^eyJ/, expirationTimestamp: /^\d{4}-.*:\d\dZ$/ },
  })
  t.match(await run('gcp-executable', { GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE: '//iam.googleapis.com/p' }), {
    version: 1,
    success: true,
    token_type: 'urn:ietf:params:oauth:token-type:id_token',
    id_token: /^eyJ/,
    expiration_time: Number,
  })
  t.equal(asked.at(-1)?.aud, '//iam.googleapis.com/p')
  t.match(await run('json'), { token: /^eyJ/, claims: { iss: String } })

  const sts = createServer(async (request, response) => {
    const form = new URLSearchParams(await text(request))
    if (form.get('RoleArn')?.endsWith('/no') === true) {
      response
        .writeHead(403)
        .end('<ErrorResponse><Error><Code>AccessDenied</Code><Message>eyJ</Message></Error></ErrorResponse>')
      return
    }
    response.end(
      `<R><Credentials><AccessKeyId>ASIA${form.get('RoleSessionName')}</AccessKeyId><SecretAccessKey>s/e+c=</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2026-11-23T00:00:00Z</Expiration></Credentials></R>`,
    )
  })
  await new Promise<void>((done) => sts.listen(0, '127.0.0.1', done))
  t.teardown(() => {
    sts.closeAllConnections()
    sts.close()
  })
  const address = sts.address()
  const port = typeof address === 'object' ? address?.port : 0
  const env = { AWS_ENDPOINT_URL_STS: `http://127.0.0.1:${port}`, AWS_ROLE_ARN: 'arn:aws:iam::123456789012:role/cat' }
  t.strictSame(await run('aws-credential-process', env), {
    Version: 1,
    AccessKeyId: 'ASIAdotfly',
    SecretAccessKey: 's/e+c=',
    SessionToken: 't',
    Expiration: '2026-11-23T00:00:00Z',
  })
  const words = ['token', '--socket', socket, '--format', 'aws-credential-process']
  t.match(await dotfly(words, { ...env, AWS_ROLE_ARN: 'arn:aws:iam::123456789012:role/no' }), {
    code: 1,
    stdout: '',
    stderr: /^dotfly: AWS STS refused the token \(AccessDenied\)/,
  })
  t.match(await dotfly(words), { code: 2, stderr: /set AWS_ROLE_ARN/ })
  t.match(await dotfly(['token', '--format', 'gcp-executable', '--socket', '/nonexistent']), {
    code: 1,
    stdout: /^\{"version":1,"success":false,"code":"NO_SOCKET"/,
  })
  t.match(await dotfly(['token', '--aud', 'a'.repeat(513)]), { code: 2, stderr: /513 bytes long: 512 is the most/ })
  t.match(await dotfly(['token', '--format', 'yaml']), { code: 2, stderr: /not one of raw, json/ })
})

test('every event has its line, and the alarms are errors', async (t) => {
  const path = '/run/\u001b[2Jt'
  const level = (event: Parameters<typeof describeIdentity>[0]): string => {
    const { level: of, message, fields } = describeIdentity(event)
    t.notMatch(message, /[\u001b\n]/)
    for (const [name, value] of Object.entries(fields))
      if (typeof value === 'number') t.ok(Number.isInteger(value), `${event.kind}: ${name} is ${value}`)
    return of
  }
  t.equal(level({ kind: 'removed', path }), 'error')
  t.equal(level({ kind: 'stuck', path, code: 'READ_ONLY', errno: 'EROFS' }), 'error')
  t.equal(level({ kind: 'unwritten', path, code: 'DISK_FULL', errno: 'ENOSPC', again: 1500 }), 'error')
  t.equal(level({ kind: 'late', missing: [path], ms: 1 }), 'error')
  t.equal(level({ kind: 'fault' }), 'error')
  t.equal(level({ kind: 'woken', how: 'suspended', ms: 60_000.5 }), 'info')
  t.equal(level({ kind: 'woken', how: 'stepped', ms: -60_000 }), 'info')
  t.equal(level({ kind: 'written', path, audience: 'x', life: 600_000.5, skew: 0.5, ms: 28.98318000137806 }), 'info')
  t.equal(level({ kind: 'written', path, audience: 'x', life: 600_000, skew: -60_000, ms: 1 }), 'warn')
  t.equal(level({ kind: 'refused', path, audience: undefined, code: 'TIMEOUT', status: 0, again: 1.5 }), 'warn')
  t.equal(level({ kind: 'ready', files: 1, ms: 1.5 }), 'info')
})
