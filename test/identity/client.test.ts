import { chmodSync, closeSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { test, type Test } from 'tap'
import { IdentityError, requestToken, type TokenRequest } from '../../src/identity/client.ts'
import { listenUnix } from '../../src/os/listen.ts'
import { dotfly } from '../cli/dotfly.ts'

const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')
const CLAIMS = {
  iss: 'https://oidc.example/example',
  sub: 'example:weather-cat:ancient-snow-4824',
  aud: 'x',
  exp: 1_795_000_600,
  note: 'a\u202eb',
}
const TOKEN = `${part({ alg: 'RS256' })}.${part(CLAIMS)}.c2lnbmF0dXJl`

function directory(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'identity-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

/** A socket that answers like the proxy, as `answer` says. */
async function serve(
  t: Test,
  answer: (request: IncomingMessage, response: ServerResponse) => unknown,
): Promise<string> {
  const socket = join(directory(t), 'api')
  const server = createServer(answer)
  await new Promise<void>((done) => server.listen(socket, done))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return socket
}

const always =
  (status: number, body: string) =>
  (_: IncomingMessage, response: ServerResponse): void => {
    response.writeHead(status).end(body)
  }

async function trouble(request: Partial<TokenRequest> & { socket: string }): Promise<IdentityError> {
  try {
    await requestToken({ timeout: 5000, ...request })
  } catch (error) {
    if (error instanceof IdentityError) return error
    throw error
  }
  throw new Error('there was a token')
}

test('the token comes back as it was sent, and the request is what the socket documents', async (t) => {
  const seen: unknown[] = []
  const socket = await serve(t, async (request, response) => {
    const { method, url, headers } = request
    seen.push([method, url, headers['content-type'], JSON.parse(await text(request))])
    response.end(TOKEN)
  })
  t.equal(await requestToken({ socket, audience: 'sts.amazonaws.com', timeout: 5000 }), TOKEN)
  t.equal(await requestToken({ socket }), TOKEN, 'the time-out may be left out')
  t.strictSame(seen, [
    ['POST', '/v1/tokens/oidc', 'application/json', { aud: 'sts.amazonaws.com' }],
    ['POST', '/v1/tokens/oidc', 'application/json', {}],
  ])
})

const ANSWERS: Record<string, [status: number, body: string, code: string, says: RegExp]> = {
  'a refused audience': [
    403,
    '{"error":"no","code":"AUDIENCE_NOT_ALLOWED"}',
    'AUDIENCE_REFUSED',
    /refuses the audience x: allow it with --socket .*,aud=…$/,
  ],
  'a caller of the wrong user': [
    403,
    '{"error":"no","code":"CALLER_NOT_ALLOWED"}',
    'NOT_ALLOWED',
    /serves another user than uid \d+$/,
  ],
  'a plain 403': [
    403,
    '{"error":"no"}',
    'NOT_ALLOWED',
    /does not allow this Machine or user to have a token \(403\): see dotfly doctor$/,
  ],
  'a 401': [401, '', 'NOT_ALLOWED', /\(401\)/],
  'a 404 in plain text': [404, '404 page not found', 'NOT_SERVED', /does not serve ID tokens/],
  'a 400': [400, '{"error":"bad"}', 'REQUEST_REFUSED', /is the audience right/],
  'a rate limit': [429, '', 'RATE_LIMITED', /try again in a second/],
  'flyd down': [
    502,
    '{"error":"flyd is unreachable","code":"FLYD_UNREACHABLE"}',
    'FLYD_DOWN',
    /^flyd is unreachable behind .* \(502\): try again, or check --flyd of dotfly proxy$/,
  ],
  'flyd gone in the middle': [
    502,
    '{"error":"closed","code":"FLYD_CLOSED"}',
    'FLYD_DOWN',
    /^flyd hung up behind .* \(502\): try again$/,
  ],
  'a web server that wants a login, in place of flyd': [
    502,
    '{"error":"redirected","code":"FLYD_REDIRECTED"}',
    'UNEXPECTED_ANSWER',
    /^what answers behind .* is not flyd, or faulty \(FLYD_REDIRECTED\): check --flyd of dotfly proxy$/,
  ],
  'a code that dotfly does not have': [502, '{"code":"FLYD_\\n"}', 'FLYD_DOWN', /^flyd is unreachable/],
  'too many connections': [
    503,
    '{"error":"many","code":"TOO_MANY_CONNECTIONS"}',
    'RATE_LIMITED',
    /has too many connections \(503\): close idle ones/,
  ],
  'flyd slow': [504, '{"error":"slow","code":"FLYD_TIMEOUT"}', 'FLYD_SLOW', /did not answer in time/],
  'a redirect, which is not followed': [302, '', 'UNEXPECTED_ANSWER', /answered with status 302: see dotfly doctor$/],
  'an error page with status 200': [200, '{"error":"no"}', 'NOT_A_TOKEN', /not a token/],
  'an empty answer': [200, '', 'NOT_A_TOKEN', /not a token/],
  'a token with a word behind it': [200, `${TOKEN} x`, 'NOT_A_TOKEN', /not a token/],
  'an endless answer': [200, 'a'.repeat(100_000), 'UNEXPECTED_ANSWER', /more than 65536 bytes/],
}

for (const [what, [status, body, code, says]] of Object.entries(ANSWERS)) {
  test(`${what} is ${code}`, async (t) => {
    const error = await trouble({ socket: await serve(t, always(status, body)), audience: 'x' })
    t.match(error, { code, status, message: says })
    t.notMatch(error.message, /\n|error/, 'one line, and nothing of the answer in it')
  })
}

test('a newline behind the token is taken off', async (t) => {
  t.equal(await requestToken({ socket: await serve(t, always(200, `${TOKEN}\n`)), timeout: 5000 }), TOKEN)
})

test('no socket, nobody behind it, not a socket, a path too long', async (t) => {
  const dir = directory(t)
  const socket = join(dir, 'api')
  t.match(await trouble({ socket }), {
    code: 'NO_SOCKET',
    message: `no socket at ${socket}: is this a Machine? start it with dotfly proxy`,
  })
  t.match(await trouble({ socket: join(dir, 'a'.repeat(120)) }), { code: 'SOCKET_PATH_INVALID' })
  writeFileSync(socket, '')
  for (const other of [socket, dir])
    t.match(await trouble({ socket: other }), {
      code: 'NOT_A_SOCKET',
      message: `${other} is not a socket: name that of dotfly proxy with --socket`,
    })
  t.match(await trouble({ socket: join(socket, 'x') }), { code: 'NO_SOCKET' })
  const dead = join(dir, 'dead')
  closeSync(listenUnix(dead, 0o600))
  t.match(await trouble({ socket: dead }), { code: 'NOBODY_LISTENS' })
  symlinkSync(dead, join(dir, 'link'))
  t.match(await trouble({ socket: join(dir, 'link') }), { code: 'NOBODY_LISTENS' }, 'a link is followed, as by connect')
})

test('a connection that ends in the middle is not a token', async (t) => {
  const socket = await serve(t, (_, response) => {
    response.writeHead(200, { 'content-length': '1000' }).write(TOKEN, () => response.destroy())
  })
  t.match(await trouble({ socket }), { code: 'CONNECTION_LOST' })
  const closing = await serve(t, (request) => request.destroy())
  t.match(await trouble({ socket: closing }), { code: 'CONNECTION_LOST' })
})

test('an answer that does not come, or does not end, is a time-out', async (t) => {
  t.match(await trouble({ socket: await serve(t, () => undefined), timeout: 200 }), {
    code: 'TIMEOUT',
    message: /within 0\.2 s/,
  })
  const stalls = await serve(t, (_, response) => void response.writeHead(200).write('ey'))
  t.match(await trouble({ socket: stalls, timeout: 200 }), { code: 'TIMEOUT' })
})

test('a caller may give up', async (t) => {
  const signal = AbortSignal.timeout(50)
  t.match(await trouble({ socket: await serve(t, () => undefined), signal }), { code: 'CANCELLED' })
  t.match(await trouble({ socket: '/nonexistent', signal: AbortSignal.abort() }), { code: 'CANCELLED' })
})

test('dotfly token prints the token and a newline, its claims, or both', async (t) => {
  const socket = await serve(t, always(200, TOKEN))
  t.strictSame(await dotfly(['token', '--socket', socket]), { code: 0, stdout: `${TOKEN}\n`, stderr: '' })
  const claims = await dotfly(['token', '--claims'], { DOTFLY_SOCKET: `${socket},mode=0600;/other` })
  t.strictSame(JSON.parse(claims.stdout), CLAIMS)
  t.notMatch(claims.stdout, '\u202e', 'safe to look at')
  const { stdout } = await dotfly(['token', '--json', '--socket', socket])
  t.strictSame(JSON.parse(stdout), { token: TOKEN, claims: CLAIMS, expires_at: '2026-11-18T11:16:40.000Z' })
})

test('dotfly token says what is wrong in one line, and exits 1', async (t) => {
  const socket = await serve(t, always(502, ''))
  t.strictSame(await dotfly(['token', '--socket', socket]), {
    code: 1,
    stdout: '',
    stderr: `dotfly: flyd is unreachable behind ${socket} (502): try again, or check --flyd of dotfly proxy\n`,
  })
  const garbled = await serve(t, always(200, 'a.b.c'))
  t.match(await dotfly(['token', '--claims', '--socket', garbled]), {
    code: 1,
    stdout: '',
    stderr: /its claims cannot be read/,
  })
})

const FORBIDDEN =
  /connecting needs its write bit, and x on its directories: serve it with --socket .*,mode=0660,gid=\d+$/

test('a socket without the write bit: the message names the fix', async (t) => {
  const socket = await serve(t, always(200, TOKEN))
  chmodSync(join(socket, '..'), 0o755)
  chmodSync(socket, 0o755)
  // Root passes every mode, so the request must be another user's; setpriv and this test need root for that.
  const asNobody = process.getuid?.() === 0
  if (!asNobody) chmodSync(socket, 0o555)
  const error = await trouble({ socket }).catch(() => undefined)
  if (!asNobody) {
    t.match(error, {
      code: 'SOCKET_FORBIDDEN',
      message: FORBIDDEN,
    })
    return
  }
  process.seteuid?.(65534)
  try {
    t.match(await trouble({ socket }), { code: 'SOCKET_FORBIDDEN', message: FORBIDDEN })
  } finally {
    process.seteuid?.(0)
  }
})
