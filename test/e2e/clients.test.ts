// Clients as people have them, unchanged: each asks for a token, reads a chunked JSON answer that comes in pieces, sets
// metadata and suspends its Machine, and sees what it would see of any HTTP server.

import { execFile, spawnSync } from 'node:child_process'
import { request } from 'node:http'
import { test } from 'tap'
import { Agent, fetch } from 'undici'
import { JWT, OWN } from '../support/corpus.ts'
import { startFlyd } from '../support/flyd.ts'
import type { FlydConnection, Seen } from '../support/flyd.ts'
import { startProxy } from '../support/proxy.ts'

const AUD = '{"aud":"sts.amazonaws.com"}'
const PART = '{"state":"started",'
const REST = '"region":"yyz"}'
const METADATA = '{"metadata":{"colour":"blue","old":"","gone":null}}'

interface Asked {
  method: string
  path: string
  body?: string
}
/** Its requests in order, each with the body that it must see. */
const CALLS: readonly (Asked & { sees: string })[] = [
  { method: 'POST', path: '/v1/tokens/oidc', body: AUD, sees: JWT },
  { method: 'GET', path: OWN, sees: PART + REST },
  { method: 'POST', path: `${OWN}/metadata/colour`, body: '{"value":"blue"}', sees: '' },
  { method: 'PATCH', path: `${OWN}/metadata`, body: METADATA, sees: '' },
  { method: 'GET', path: `${OWN}/wait?state=started&timeout=60`, sees: PART + REST },
  { method: 'POST', path: `${OWN}/suspend`, sees: '{"ok":true}' },
]

/** As the real API does: JSON in chunks, 204 for what has nothing to say. */
function answer({ method, target }: Seen, { socket }: FlydConnection): void {
  if (target === '/v1/tokens/oidc')
    socket.write(
      `HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: ${JWT.length}\r\n\r\n${JWT}`,
    )
  else if (target.includes('/metadata')) socket.write('HTTP/1.1 204 No Content\r\nfly-request-id: 01J-yyz\r\n\r\n')
  else if (method === 'POST')
    socket.write('HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{"ok":true}')
  else {
    const chunk = (text: string): string => `${text.length.toString(16)}\r\n${text}\r\n`
    socket.write(
      `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n${chunk(PART)}`,
    )
    setTimeout(() => socket.write(`${chunk(REST)}0\r\n\r\n`), 50)
  }
}

type Client = (socket: string, asked: Asked) => Promise<string>

const run = (program: string, words: readonly string[]): Promise<string> =>
  new Promise((done, fail) => {
    execFile(program, words, { encoding: 'utf8' }, (error, out, said) =>
      error === null ? done(out) : fail(new Error(`${program}: ${said}`, { cause: error })),
    )
  })
const curl =
  (...options: string[]): Client =>
  (socket, { method, path, body }) =>
    run('curl', [
      '-sS',
      '--fail',
      '--max-time',
      '20',
      '--unix-socket',
      socket,
      '-X',
      method,
      ...options,
      ...(body === undefined ? [] : ['--data', body]),
      `http://flaps${path}`,
    ])
const chunked: Client = (socket, asked) =>
  curl('--compressed', ...(asked.body === undefined ? [] : ['-H', 'Transfer-Encoding: chunked']))(socket, asked)
const script =
  (program: string, flag: string, text: string): Client =>
  (socket, { method, path, body }) =>
    run(program, [flag, text, socket, method, path, ...(body === undefined ? [] : [body])])
/** False where this computer has no such program, or the program not the library. */
const has = (program: string, ...words: string[]): boolean => spawnSync(program, words).status === 0

const HTTP_CLIENT = `
import http.client, socket, sys
class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(sys.argv[1])
c = Unix("localhost", timeout=20)
c.request(sys.argv[2], sys.argv[3], *sys.argv[4:], headers={"Content-Type": "application/json"})
r = c.getresponse()
assert 200 <= r.status < 300, r.status
print(r.read().decode(), end="")`
const AIOHTTP = `
import aiohttp, asyncio, sys
async def main():
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=sys.argv[1])) as session:
        body = {"data": sys.argv[4]} if len(sys.argv) > 4 else {}
        async with session.request(sys.argv[2], "http://localhost" + sys.argv[3], headers={"Content-Type": "application/json"}, **body) as r:
            r.raise_for_status()
            print(await r.text(), end="")
asyncio.run(main())`
// A raw socket, as scale_to_zero.py has it: to the end, and the body is what stands behind the head.
const RAW = `
import socket, sys
body = sys.argv[4] if len(sys.argv) > 4 else ""
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(f"{sys.argv[2]} {sys.argv[3]} HTTP/1.0\\r\\nHost: flaps\\r\\nContent-Length: {len(body)}\\r\\nConnection: close\\r\\n\\r\\n{body}".encode())
got = b""
while part := s.recv(65536):
    got += part
head, _, rest = got.partition(b"\\r\\n\\r\\n")
assert b" 20" in head.split(b"\\r\\n")[0], head
print(rest.decode(), end="")`
const RUBY = `
require 'net/http'
require 'socket'
class Unix < Net::HTTP
  def connect
    @socket = Net::BufferedIO.new(UNIXSocket.new(ARGV[0]), read_timeout: 20, write_timeout: 20, continue_timeout: nil, debug_output: nil)
    on_connect
  end
end
r = Unix.new('localhost').start { |http| http.send_request(ARGV[1], ARGV[2], ARGV[3], 'Content-Type' => 'application/json') }
r.value
print r.body`
const PHP = `
$c = curl_init('http://localhost' . $argv[3]);
curl_setopt_array($c, [CURLOPT_UNIX_SOCKET_PATH => $argv[1], CURLOPT_CUSTOMREQUEST => $argv[2], CURLOPT_RETURNTRANSFER => true, CURLOPT_FAILONERROR => true, CURLOPT_TIMEOUT => 20]);
if (isset($argv[4])) curl_setopt($c, CURLOPT_POSTFIELDS, $argv[4]);
$got = curl_exec($c);
if ($got === false) { fwrite(STDERR, curl_error($c)); exit(1); }
echo $got;`
const python = ['/usr/bin/python3', 'python3'].find((one) => has(one, '-c', 'import aiohttp')) ?? ''

const CLIENTS: readonly (readonly [name: string, here: boolean, client: Client])[] = [
  ['curl', has('curl', '--version'), curl()],
  ['curl --http1.0', has('curl', '--version'), curl('--http1.0')],
  ['curl, chunked, compressed', has('curl', '--version'), chunked],
  ['python http.client', has('python3', '--version'), script('python3', '-c', HTTP_CLIENT)],
  ['python raw socket, HTTP/1.0, no parser', has('python3', '--version'), script('python3', '-c', RAW)],
  ['python aiohttp', python !== '', script(python, '-c', AIOHTTP)],
  ['ruby Net::HTTP', has('ruby', '--version'), script('ruby', '-e', RUBY)],
  ['php curl', has('php', '-r', 'exit(function_exists("curl_init") ? 0 : 1);'), script('php', '-r', PHP)],
  [
    'undici fetch',
    true,
    async (socketPath, { method, path, body }) => {
      const dispatcher = new Agent({ connect: { socketPath } })
      const got = await fetch(`http://localhost${path}`, {
        method,
        dispatcher,
        ...(body === undefined ? {} : { body }),
      })
      const text = await got.text()
      await dispatcher.close()
      if (!got.ok) throw new Error(`${got.status} ${text}`)
      return text
    },
  ],
  [
    'node:http',
    true,
    (socketPath, { method, path, body }) =>
      new Promise((done, fail) => {
        const ask = request({ socketPath, method, path, agent: false }, (got) => {
          let text = ''
          got.setEncoding('utf8').on('data', (part: string) => (text += part))
          got.on('end', () =>
            got.complete && got.statusCode !== undefined && got.statusCode < 300 ? done(text) : fail(new Error(text)),
          )
        })
        ask.on('error', fail).end(body)
      }),
  ],
]

test('each client, unchanged, gets what it asks for', { timeout: 60_000 }, async (t) => {
  const flyd = await startFlyd(t)
  flyd.answer = answer
  const proxy = await startProxy(t, { flyd: flyd.url })
  for (const [name, here, client] of CLIENTS) {
    t.test(name, { skip: here ? false : `needs ${name}` }, async (t) => {
      for (const { sees, ...asked } of CALLS) {
        t.equal(await client(proxy.path, asked), sees, `${asked.method} ${asked.path}`)
        const seen = flyd.requests.at(-1)
        t.equal(`${seen?.method} ${seen?.target}`, `${asked.method} ${asked.path}`)
        t.equal(seen?.body, asked.body ?? '')
      }
    })
  }
})
