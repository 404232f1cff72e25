// The single executable as an image has it. `npm run test:image`; needs root, binutils, patchelf and busybox-static.

import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createServer } from 'node:tls'
import tap, { test } from 'tap'
import { errnoOf } from '../../src/os/errno.ts'
import { CREDENTIAL, JWT, leaks } from '../support/corpus.ts'
import { startFlyd } from '../support/flyd.ts'
import { addBusybox, boot, buildSea, emptyRoot, filesOf, linkTree, skip, SOURCE, temporary } from './root.ts'
import type { Scope } from './root.ts'

const fly = skip === false ? buildSea(tap) : ''
const INIT = ['/.fly/init', 'init', '--log-level', 'debug', '--macaroon-file', '/fly/macaroon']
const TOKEN = ['/.fly/init', 'token', '--aud', 'sts.amazonaws.com']
const file = (path: string): Buffer => readFileSync(join(fly, path))
const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')

/** A root with dotfly in it, and a flyd behind a socket in it. */
async function machine(
  t: Scope,
): Promise<{ root: string; flyd: Awaited<ReturnType<typeof startFlyd>>; init: string[] }> {
  const root = emptyRoot(t)
  linkTree(fly, join(root, '.fly'))
  const flyd = await startFlyd(t, 'unix')
  linkSync(flyd.url.replace('unix:', ''), join(root, 'fly/flyd'))
  chmodSync(join(root, 'fly/flyd'), 0o666)
  return { root, flyd, init: [...INIT, '--flyd', 'unix:/fly/flyd'] }
}

/** Exchanges text inside the executable for other text of the same length: it is another program, not rebuilt. */
function exchange(root: string, from: string, to: string): void {
  const path = join(root, '.fly/init')
  const bytes = readFileSync(path)
  const at = bytes.indexOf(from)
  if (at < 0 || bytes.indexOf(from, at + 1) >= 0) throw new Error('the text is not in the executable just once')
  if (Buffer.byteLength(to) > Buffer.byteLength(from)) throw new Error('the other text is too long')
  bytes.write(to.padEnd(from.length, ' '), at)
  // A new file: the old one is a link to the one that was built.
  writeFileSync(`${path}.other`, bytes, { mode: 0o755 })
  renameSync(`${path}.other`, path)
}

test('two builds are the same, byte for byte, and their checksums are right', { skip }, async (t) => {
  const again = buildSea(t)
  t.same(filesOf(again), filesOf(fly))
  t.ok(readFileSync(join(again, 'SHA256SUMS')).equals(file('SHA256SUMS')))
  const sums = new Map(
    file('SHA256SUMS')
      .toString()
      .trim()
      .split('\n')
      .map((line) => line.split('  ').toReversed() as [string, string]),
  )
  t.same(
    [...sums.keys()],
    filesOf(fly).filter((path) => path !== 'SHA256SUMS'),
  )
  for (const [path, sum] of sums) t.equal(sha256(file(path)), sum, path)
  t.equal(sha256(readFileSync(join(again, 'init'))), sums.get('init'))
})

test('the licences of all that is in it are there', { skip }, (t) => {
  const text = file('NOTICES').toString()
  for (const what of ['dotfly ', 'Node.js v', 'undici ', 'glibc '])
    t.match(text, new RegExp(`^={80}\n${what}.*\n={80}\n\n`, 'm'), what)
  t.match(text, /GNU Lesser General Public License|GNU C Library/)
  t.end()
})

test('it says which commit it is', { skip }, async (t) => {
  const { root } = await machine(t)
  const commit = execFileSync('git', ['rev-parse', '--short=9', 'HEAD'], { cwd: SOURCE, encoding: 'utf8' }).trim()
  const { out } = await boot(root, ['/.fly/init', '--version'])
  t.ok(out.includes(commit), out)
})

test('its trusted source is src with the types blanked out, and is in it', { skip }, async (t) => {
  const sources = filesOf(join(fly, 'source'))
  t.ok(sources.includes('proxy/strip.js') && sources.includes('sea/start.js'), sources.join(' '))
  const executable = file('init')
  for (const path of sources) {
    const shipped = readFileSync(join(fly, 'source', path), 'utf8')
    const ours = readFileSync(join(SOURCE, 'src', path.replace(/\.js$/, '.ts')), 'utf8').replaceAll(
      /('\.[^'\n]*)\.ts'/g,
      "$1.js'",
    )
    t.equal(shipped.length, ours.length, `${path}: as long`)
    const changed = ours.split('').filter((c, i) => shipped[i] !== c && !/[\s;]/.test(shipped[i] ?? ''))
    t.equal(changed.length, 0, `${path}: blanks at most`)
    const at = executable.indexOf(shipped)
    t.ok(at > 0 && executable.indexOf(shipped, at + 1) < 0, `${path}: once in the executable`)
  }
})

/** In the place of the first comment of the trusted process: tries what it must not, and says how that went. */
const PROBE =
  `{const p=process.getBuiltinModule,f=p('fs');for(const [n,g] of Object.entries({` +
  `read:()=>f.readFileSync('/.fly/VERSIONS'),write:()=>f.writeFileSync('/tmp/x',''),` +
  `run:()=>p('child_process').spawnSync('/x'),code:()=>eval('1')}))` +
  `try{g();f.writeSync(2,n+' LEAK\\n')}catch(e){f.writeSync(2,n+' '+(e.code??e.name)+'\\n')}}`

test('what runs is that text, and it has no rights but its own', { skip }, async (t) => {
  const { root, init } = await machine(t)
  mkdirSync(join(root, 'tmp'))
  chmodSync(join(root, 'tmp'), 0o777)
  const [comment = ''] = /^(?:\/\/.*\n)+/.exec(file('source/proxy/main.js').toString()) ?? []
  exchange(root, comment, PROBE)
  const { out, log } = await boot(root, [...init, '--', ...TOKEN])
  t.equal(out.trim(), JWT, log)
  const said = (text: string): string[] => [...text.matchAll(/^(?:read|write|run|code) .*$/gm)].map(([line]) => line)
  t.same(said(log), ['read ERR_ACCESS_DENIED', 'write ERR_ACCESS_DENIED', 'run ERR_ACCESS_DENIED', 'code EvalError'])

  const open = await boot(root, [...init, '--no-harden', 'permission', '--', ...TOKEN])
  t.same(said(open.log), ['read LEAK', 'write LEAK', 'run ERR_ACCESS_DENIED', 'code EvalError'], 'negative control')
})

test('a root with nothing else: a token as PID 1', { skip }, async (t) => {
  const { root, flyd, init } = await machine(t)
  const { code, out, log } = await boot(root, [...init, '--mount', '--', ...TOKEN])
  t.equal(out.trim(), JWT, log)
  t.equal(code, 0)
  t.ok(
    flyd.requests.some(({ raw }) => raw.includes(CREDENTIAL)),
    'flyd saw the credential',
  )
  t.ok(leaks(Buffer.from(out + log)) < 0, 'nobody else did')
  t.notMatch(log, /WARN|ERROR/)
})

test('a root with another C library and hostile files: nothing of it is loaded', { skip }, async (t) => {
  const { root, flyd, init } = await machine(t)
  addBusybox(root, 'sh', 'id', 'sleep', 'kill', 'env')
  const put = (path: string, text: string): void => {
    mkdirSync(join(root, path, '..'), { recursive: true })
    writeFileSync(join(root, path), text, { mode: 0o755 })
  }
  for (const path of ['lib/ld-musl-x86_64.so.1', 'lib/libc.musl-x86_64.so.1']) put(path, 'musl')
  for (const where of ['lib', 'usr/lib', 'lib64', 'lib/x86_64-linux-gnu'])
    for (const name of ['libc.so.6', 'libstdc++.so.6', 'libdl.so.2', 'ld-linux-x86-64.so.2'])
      put(`${where}/${name}`, 'no')
  const evil = `process.stdout.write('EVIL')`
  for (const path of ['evil.mjs', 'node_modules/pino/index.js', '.fly/cli/main.js', 'cli/main.js']) put(path, evil)
  put('package.json', '{"type":"commonjs","imports":{"#a":"./evil.mjs"}}')
  put('etc/passwd', 'app:x:1000:1000::/home/app:/bin/sh\n')
  const script = `id; ${TOKEN.join(' ')}; orphan=$( (sh -c 'echo $$; exec >&2; kill -USR1 $$' &) ); while kill -0 $orphan; do sleep 0.1; done; exit 42`
  const words = [...init, '--mount', '--socket', '/.fly/api,mode=0777', '--user', 'app', '--', '/bin/sh', '-c', script]
  const { code, out, log } = await boot(root, words)
  t.equal(code, 42, log)
  t.match(out, 'uid=1000(app)')
  t.ok(out.includes(JWT), out)
  t.match(log, /Reaped child process with pid: \d+ and signal: SIGUSR1/)
  t.notMatch(out + log, /EVIL/)
  t.ok(flyd.requests.length === 1 && leaks(Buffer.from(out + log)) < 0)
})

// Each: what an image may have set, and whether somebody obeyed it. An ordinary Node does, of which the executable is
// made; the executable does not, and hands the variable on to its entrypoint.
const VARIABLES: Record<
  string,
  { value: string; obeyed: (root: string, said: string) => boolean; control?: string[] }
> = {
  NODE_OPTIONS: { value: '--require=/evil.cjs --import=/evil.mjs', obeyed: (_, said) => said.includes('EVIL') },
  NODE_COMPILE_CACHE: {
    value: '/cache',
    // What is stored is loaded next time, and V8 does not ask who made it.
    obeyed: (root) => filesOf(join(root, 'cache')).length > 0,
    control: ['/good.mjs'],
  },
  LD_LIBRARY_PATH: { value: '/broken', obeyed: (_, said) => said.includes('file too short') },
}

for (const [name, { value, obeyed, control = ['-e', '0'] }] of Object.entries(VARIABLES)) {
  test(`${name} in the environment`, { skip }, async (t) => {
    const { root, init } = await machine(t)
    addBusybox(root, 'env')
    mkdirSync(join(root, 'cache'))
    linkTree(join(fly, 'lib'), join(root, 'broken'))
    unlinkSync(join(root, 'broken/libc.so.6'))
    writeFileSync(join(root, 'broken/libc.so.6'), '')
    writeFileSync(join(root, 'evil.mjs'), `process.stdout.write('EVIL')`)
    writeFileSync(join(root, 'evil.cjs'), `process.stdout.write('EVIL')`)
    writeFileSync(join(root, 'good.mjs'), `import 'node:fs'`)
    const env = { [name]: value }
    const { code, out, log } = await boot(root, [...init, '--', '/bin/env'], { env })
    t.equal(code, 0, log)
    t.notOk(obeyed(root, out + log), `${out}${log}`)
    t.ok(out.includes(`${name}=${value}\n`), 'the entrypoint has it')
    // The loader by name, for an ordinary Node asks for another; and it obeys the variable as any does.
    linkTree(fly, join(root, 'node'))
    copyFileSync(process.execPath, join(root, 'node/node'))
    const library = name === 'LD_LIBRARY_PATH' ? [] : ['--library-path', '/node/lib']
    const node = await boot(root, ['/node/lib/ld-linux-x86-64.so.2', ...library, '/node/node', ...control], { env })
    t.ok(obeyed(root, node.out + node.log), `negative control: ${node.out}${node.log}`)
  })
}

test('OPENSSL_CONF names no library to load', { skip }, async (t) => {
  const { root } = await machine(t)
  // Whoever reads the configuration waits for somebody to write it.
  const pipe = join(temporary(t, 'dotfly-pipe-'), 'conf')
  execFileSync('mkfifo', [pipe])
  linkSync(pipe, join(root, 'conf'))
  const { code } = await boot(root, ['/.fly/init', '--version'], { env: { OPENSSL_CONF: '/conf' } })
  t.equal(code, 0)
  const child = spawn(process.execPath, ['-e', '0'], {
    env: { OPENSSL_CONF: pipe },
    stdio: 'ignore',
  })
  const ended = once(child, 'exit')
  await opened(pipe)
  t.pass('negative control: an ordinary Node reads it')
  await ended
})

/** Resolves when somebody reads from it, and lets them read its end. */
async function opened(pipe: string): Promise<void> {
  for (;;) {
    try {
      closeSync(openSync(pipe, constants.O_WRONLY | constants.O_NONBLOCK))
      return
    } catch (error) {
      if (errnoOf(error) !== 'ENXIO') throw error
      await sleep(20)
    }
  }
}

test('no variable makes it trust a flyd that is not ours', { skip }, async (t) => {
  const { root, init } = await machine(t)
  const at = (name: string): string => join(root, name)
  const made = [
    '-subj',
    '/CN=localhost',
    '-addext',
    'subjectAltName=DNS:localhost,IP:127.0.0.1',
    '-days',
    '2',
    '-nodes',
  ]
  const files = ['-keyout', at('key.pem'), '-out', at('cert.pem')]
  execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', ...made, ...files], { stdio: 'ignore' })
  let heard = ''
  const server = createServer({ key: readFileSync(at('key.pem')), cert: readFileSync(at('cert.pem')) }, (socket) => {
    socket.on('error', () => undefined)
    socket.on('data', (bytes) => {
      heard += bytes.toString('latin1')
      socket.end('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok')
    })
  }).on('tlsClientError', () => undefined)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => void server.close())
  const { port } = server.address() as AddressInfo
  const hostile = (where: string): Record<string, string> => ({
    NODE_EXTRA_CA_CERTS: `${where}/cert.pem`,
    SSL_CERT_FILE: `${where}/cert.pem`,
    NODE_TLS_REJECT_UNAUTHORIZED: '0',
  })
  const https = [...init, '--flyd', `https://127.0.0.1:${port}`]
  const { log } = await boot(root, [...https, '--', ...TOKEN], { env: hostile('') })
  t.match(log, /502 FLYD_\w+/)
  t.equal(heard, '', 'nothing was sent')
  const known = await boot(root, [...https, '--flyd-ca', '/cert.pem', '--', ...TOKEN])
  t.ok(heard.includes(CREDENTIAL), `it is sent to whom the operator names: ${known.log}`)
  heard = ''
  const ask = `await fetch('https://127.0.0.1:${port}')`
  const node = spawn(process.execPath, ['--input-type=module', '-e', ask], { env: hostile(root), stdio: 'ignore' })
  await once(node, 'exit')
  t.match(heard, /^GET /, 'negative control: an ordinary Node is talked into it')
})

test('an argument is no flag for Node, wherever it stands', { skip }, async (t) => {
  const { root, init } = await machine(t)
  addBusybox(root, 'echo')
  writeFileSync(join(root, 'evil.cjs'), `process.stdout.write('EVIL')`)
  const flag = '--node-options=--require=/evil.cjs'
  const { out } = await boot(root, [...init, '--', '/bin/echo', 'one', flag, 'two'])
  t.equal(out, `one ${flag} two\n`)

  // Why the flags of the proxy do not come this way, though Node would let them.
  const directory = temporary(t, 'dotfly-cli-')
  writeFileSync(join(directory, 'main.js'), 'process.stdout.write(process.argv.slice(2).join(" "))')
  writeFileSync(
    join(directory, 'sea.json'),
    JSON.stringify({ main: 'main.js', output: 'cli', execArgvExtension: 'cli', disableExperimentalSEAWarning: true }),
  )
  execFileSync(process.execPath, ['--build-sea', 'sea.json'], { cwd: directory, stdio: 'ignore' })
  const evil = `--node-options=--require=${join(root, 'evil.cjs')}`
  const cli = spawnSync(join(directory, 'cli'), ['--', 'echo', 'one', evil, 'two'], { encoding: 'utf8' })
  t.match(cli.stdout, /EVIL/, 'negative control: an argument of the entrypoint runs code in init')
  t.notMatch(cli.stdout, /node-options/, 'and is taken from it')
})

test('a variable that it cannot live with ends it with a reason, before it holds anything', { skip }, async (t) => {
  const { root, init } = await machine(t)
  const { code, log } = await boot(root, [...init, '--', ...TOKEN], { env: { NODE_REPL_EXTERNAL_MODULE: '/evil.mjs' } })
  t.not(code, 0)
  t.match(log, /NODE_REPL_EXTERNAL_MODULE can't be used/)
})

test('what is not in it says so', { skip }, async (t) => {
  const { root } = await machine(t)
  const { code, log } = await boot(root, ['/.fly/init', 'mock', '--dir', '/m'])
  t.equal(code, 1)
  t.match(log, /^dotfly: .*the mocks are not in this executable: use the npm package/)
  const part = await boot(root, ['/.fly/init', '--part=cli/main', '--'])
  t.not(part.code, 0)
  t.match(part.log, /there is no part cli\/main/)
  const flags = await boot(root, ['/.fly/init', '--part=proxy/main', '--permission', '--allow-wasi', '--', '{}'])
  t.match(flags.log, /was not built with --allow-wasi/)
})
