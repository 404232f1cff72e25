// Real clients against the real process; flyd's side is bytes.

import { execFile, execFileSync } from 'node:child_process'
import { request } from 'node:http'
import { promisify } from 'node:util'
import { test } from 'tap'
import { Agent, fetch } from 'undici'
import { CREDENTIAL, JWT, leaks, OWN } from '../support/corpus.ts'
import { healthy, sized, startFlyd } from '../support/flyd.ts'
import { ask, get, MINT, READ } from '../support/guest.ts'
import { startProxy } from '../support/proxy.ts'

const run = promisify(execFile)
const BODY = '{"aud":"sts.amazonaws.com"}'
const has = (command: string): boolean => {
  try {
    execFileSync(command, ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

test('curl', { skip: !has('curl') && 'no curl here' }, async (t) => {
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, { flyd: flyd.url })
  const curl = async (...words: string[]): Promise<string> =>
    (await run('curl', ['-sS', '-m', '5', '--unix-socket', proxy.path, ...words])).stdout
  const url = 'http://localhost/v1/tokens/oidc'
  t.equal(await curl('-X', 'POST', url, '--data', BODY), JWT, 'the documented line')
  t.equal(await curl('--http1.0', '-X', 'POST', url, '--data', BODY), JWT, 'HTTP/1.0')
  t.equal(await curl('-H', 'Transfer-Encoding: chunked', url, '--data', BODY), JWT, 'chunked')
  t.equal(await curl('-H', 'Expect: 100-continue', url, '--data', BODY), JWT, 'waits for 100 Continue')
  t.equal(await curl('-H', 'Connection: close', url, '--data', BODY), JWT, 'close')
  t.equal(await curl('-X', 'POST', url), JWT, 'no body')
  t.equal(await curl('--compressed', url, '--data', BODY), JWT, 'asks for gzip')
  t.equal(
    await curl(url, '--data', BODY, '--next', '-sS', '--unix-socket', proxy.path, url, '--data', BODY),
    JWT + JWT,
    'twice on one connection',
  )
  t.match(await curl('-i', '-X', 'POST', `http://flaps${OWN}/suspend`), 'HTTP/1.1 200 OK')
  t.match(
    await curl('-i', 'http://localhost/.fly/api/v1/tokens/oidc'),
    /^HTTP\/1\.1 404 Not Found\r\n.*ROUTE_NOT_SERVED"\}\n$/s,
  )
  t.match(await curl('-i', url, '--data', '{"aud":"x",}'), 'BODY_MALFORMED')
  t.match(await curl('-i', '--path-as-is', 'http://localhost/v1/tokens/../apps'), 'TARGET_MALFORMED')
  t.match(await curl('-i', '-e', 'http://evil/', url, '--data', BODY), 'FORWARDED_REQUEST')
  t.ok(
    flyd.requests.every(({ raw }) => raw.split(CREDENTIAL).length === 2),
    'flyd has the credential once in each',
  )
})

test('node:http, undici', async (t) => {
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, { flyd: flyd.url })
  const node = (headers: Record<string, string>, parts: string[]): Promise<string> =>
    new Promise((resolve, reject) => {
      const client = request({ socketPath: proxy.path, path: '/v1/tokens/oidc', method: 'POST', headers }, (answer) => {
        let text = ''
        answer
          .setEncoding('utf8')
          .on('data', (part: string) => (text += part))
          .on('end', () => resolve(text))
      })
      client.on('error', reject)
      for (const part of parts) client.write(part)
      client.end()
    })
  t.equal(
    await node({ 'content-length': String(BODY.length), 'content-type': 'application/json' }, [BODY]),
    JWT,
    'with a length',
  )
  t.equal(await node({}, [BODY.slice(0, 5), BODY.slice(5)]), JWT, 'without one')
  t.equal(await node({}, []), JWT, 'with no body')
  t.equal(await node({ expect: '100-continue', 'content-length': String(BODY.length) }, [BODY]), JWT)

  const dispatcher = new Agent({ connect: { socketPath: proxy.path }, pipelining: 4, connections: 1 })
  t.teardown(() => dispatcher.close())
  const minted = async (): Promise<string> => {
    const answer = await fetch('http://localhost/v1/tokens/oidc', { dispatcher, method: 'POST', body: BODY })
    t.equal(answer.headers.get('content-type'), 'text/plain; charset=utf-8')
    return answer.text()
  }
  t.same(
    await Promise.all(Array.from({ length: 12 }, minted)),
    Array.from({ length: 12 }, () => JWT),
    'undici, keep-alive and pipelined',
  )
  const streamed = await fetch(`http://localhost${OWN}/metadata`, {
    dispatcher,
    method: 'PATCH',
    duplex: 'half',
    body: new Blob(['{"metadata":{}}']).stream(),
  })
  t.equal(streamed.status, 200, 'a stream as body')
  t.equal(flyd.connections.filter(({ closed }) => !closed).length <= 2, true, 'connections to flyd are reused')
})

test('python', { skip: !has('python3') && 'no python3 here' }, async (t) => {
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, { flyd: flyd.url })
  const python = `
import http.client, socket, sys
path, body = sys.argv[1], sys.argv[2]
c = http.client.HTTPConnection('localhost')
c.sock = socket.socket(socket.AF_UNIX); c.sock.connect(path)
for headers in ({}, {'Content-Type': 'application/json'}):
    c.request('POST', '/v1/tokens/oidc', body, headers); r = c.getresponse(); print(r.status, r.read().decode())
c.request('POST', '/v1/tokens/oidc', iter([body[:4].encode(), body[4:].encode()]), encode_chunked=True, headers={'Transfer-Encoding': 'chunked'})
r = c.getresponse(); print(r.status, r.read().decode())
s = socket.socket(socket.AF_UNIX); s.connect(path)
s.sendall(b'POST ${OWN}/suspend HTTP/1.1\\r\\nHost: flaps\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n')
data = b''
while True:
    got = s.recv(65536)
    if not got: break
    data += got
print(data.split(b'\\r\\n')[0].decode())
s = socket.socket(socket.AF_UNIX); s.connect(path)
s.sendall(b'POST /v1/tokens/oidc HTTP/1.0\\r\\n\\r\\n'); s.shutdown(socket.SHUT_WR)
data = b''
while True:
    got = s.recv(65536)
    if not got: break
    data += got
print(data.split(b'\\r\\n\\r\\n')[1].decode())
`
  const { stdout } = await run('python3', ['-c', python, proxy.path, BODY])
  t.same(stdout.trim().split('\n'), [`200 ${JWT}`, `200 ${JWT}`, `200 ${JWT}`, 'HTTP/1.1 200 OK', JWT])
})

test('the credential is blanked at every split of a body', async (t) => {
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, { flyd: flyd.url })
  const text = `{"error":"bad token ${CREDENTIAL}"}`
  for (let at = 0; at <= text.length; at += 3) {
    flyd.answer = (_, { socket }) => {
      const [first, second] = [text.slice(0, at), text.slice(at)]
      socket.write(
        `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n${at === 0 ? '' : `${at.toString(16)}\r\n${first}\r\n`}`,
      )
      setImmediate(() =>
        socket.write(`${second === '' ? '' : `${second.length.toString(16)}\r\n${second}\r\n`}0\r\n\r\n`),
      )
    }
    const [answer] = await ask(proxy.path, READ)
    const body = answer?.body ?? ''
    if (leaks(Buffer.from(body, 'latin1')) >= 0 || body.length !== text.length) t.fail(`split at ${at}: ${body}`)
  }
  t.ok(
    proxy.exchanges().every(({ hits }) => hits > 0),
    'and counted',
  )
})

test('events hold nothing of the wire', async (t) => {
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, { flyd: flyd.url })
  const evil = '\u001b[2J\u202e'
  flyd.answer = healthy
  await ask(proxy.path, get('/v1/%1b[2J\x7f'))
  await ask(proxy.path, get(`${OWN}/metadata/${'k'.repeat(500)}`))
  await ask(proxy.path, READ.replace('GET', 'NASTYMETHOD'))
  const body = JSON.stringify({ aud: `${evil}\n${'a'.repeat(400)}` })
  await ask(
    proxy.path,
    Buffer.from(
      `POST /v1/tokens/oidc HTTP/1.1\r\nHost: a\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    ),
  )
  flyd.answer = (_, { socket }) => socket.write(sized('{}', 'text/plain', `500 ${CREDENTIAL}`))
  await ask(proxy.path, READ)
  await proxy.until(() => proxy.exchanges().length === 5)
  const methods = new Set(['', 'GET', 'POST', 'PUT', 'PATCH', 'DELETE'])
  for (const { method, route, status, ...event } of proxy.exchanges()) {
    t.ok(methods.has(method), `method ${JSON.stringify(method)} is of a closed set`)
    t.ok(route === '' || route.startsWith('/v1/'), route)
    t.type(status, 'number')
    t.equal(leaks(Buffer.from(JSON.stringify(event))), -1)
  }
  t.match(proxy.exchanges()[1], { route: '/v1/apps/:app/machines/:machine/metadata/:key' })
})

test('where nobody wants to hear of exchanges that went well, the others are still told of', async (t) => {
  const flyd = await startFlyd(t)
  const told: Record<string, string[]> = {}
  for (const tellsAll of [true, false]) {
    const proxy = await startProxy(t, { flyd: flyd.url, tellsAll })
    flyd.answer = healthy
    await ask(proxy.path, MINT)
    await ask(proxy.path, get('/v1/apps'))
    flyd.answer = (_, { socket }) => socket.write(sized(`{"error":"${CREDENTIAL}"}`))
    await ask(proxy.path, READ)
    flyd.answer = (_, { socket }) => socket.write(sized('no', 'text/plain', '500 No'))
    await ask(proxy.path, READ)
    await proxy.until(() => proxy.exchanges().some(({ status }) => status === 500))
    told[String(tellsAll)] = proxy.exchanges().map(({ status, hits }) => `${status} ${hits}`)
  }
  t.same(told, { true: ['200 0', '403 0', '200 2', '500 0'], false: ['403 0', '200 2', '500 0'] })
})

test('HTTP/1.0 knows no chunks: it gets a length, or a refusal, and never half an answer that looks whole', async (t) => {
  const flyd = await startFlyd(t)
  const proxy = await startProxy(t, { flyd: flyd.url })
  const chunk = (text: string): string => `${text.length.toString(16)}\r\n${text}\r\n`
  const head = 'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n'
  const old = READ.replace('HTTP/1.1', 'HTTP/1.0')

  flyd.answer = (_, { socket }) => {
    socket.write(head + chunk('{"first":'))
    setTimeout(() => socket.write(`${chunk(`"${CREDENTIAL}"}`)}0\r\n\r\n`), 50)
  }
  const [whole] = await ask(proxy.path, old)
  t.equal(whole?.fields.get('content-length'), String(`{"first":"${CREDENTIAL}"}`.length))
  t.match(whole?.body, /^\{"first":"FlyV1 .*\*{16}.*"\}$/)
  t.equal(leaks(Buffer.from(whole?.body ?? '')), -1)

  flyd.answer = (_, { socket }) => {
    socket.write(head + chunk('{"first":'))
    setTimeout(() => socket.destroy(), 50)
  }
  t.match(await ask(proxy.path, old), [{ status: 502, body: /FLYD_CLOSED/ }], 'cut')

  flyd.answer = (_, { socket }) => {
    socket.write(head + chunk('x'.repeat(1024 * 1024)))
    setTimeout(() => socket.write(`${chunk('y')}0\r\n\r\n`), 50)
  }
  t.match(await ask(proxy.path, old), [{ status: 502, body: /FLYD_TOO_LARGE/ }], 'more than is held')

  flyd.answer = (_, { socket }) => socket.write(sized('z'.repeat(2 * 1024 * 1024)))
  const [large] = await ask(proxy.path, old)
  t.equal(large?.body.length, 2 * 1024 * 1024, 'what has a length is held by nobody')
})
