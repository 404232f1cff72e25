// What npm gets, as a user has it: packed, installed into an empty project with nothing of this repository but its Node,
// asked for a token, imported from TypeScript. Prints TAP, and what the installation weighs. Needs npm's registry.

import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { randomBytes } from 'node:crypto'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createRemoteJWKSet, jwtVerify } from 'jose'
import { publint } from 'publint'
import { formatMessage } from 'publint/utils'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const manifest: { engines: { node: string }; dependencies: Record<string, string> } = JSON.parse(
  readFileSync(join(ROOT, 'package.json'), 'utf8'),
)
let count = 0
let failures = 0
function check(holds: boolean, name: string): void {
  process.stdout.write(`${holds ? 'ok' : 'not ok'} ${++count} - ${name}\n`)
  if (!holds) failures++
}
const note = (text: string): void => void process.stdout.write(`# ${text}\n`)

/** Bytes in all files below. */
function weigh(path: string): number {
  const found = lstatSync(path)
  return found.isDirectory() ? readdirSync(path).reduce((sum, name) => sum + weigh(join(path, name)), 0) : found.size
}
const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`

const directory = mkdtempSync(join(tmpdir(), 'dotfly-package-'))
try {
  // npm and what it starts find the Node of this run first, whatever the computer has.
  const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}` }
  const run = (program: string, words: string[], cwd = directory): string =>
    execFileSync(program, words, { cwd, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })

  const [packed]: { filename: string; files: { path: string }[]; size: number }[] = JSON.parse(
    run('npm', ['pack', '--json', '--silent', '--pack-destination', directory], ROOT).replace(/^[^[]*/, ''),
  )
  const { filename = '', files = [], size = 0 } = packed ?? {}
  const strangers = files
    .map(({ path }) => path)
    .filter((path) => !/^(?:dist\/|docs\/|systemd\/|bin\/dotfly\.cjs$|package\.json$|[A-Z]+(?:\.md)?$)/.test(path))
  check(files.length > 0 && strangers.length === 0, `${files.length} files and no stranger ${strangers.join(' ')}`)

  const there = new Set(files.map(({ path }) => path))
  const links = [...there]
    .filter((path) => path.endsWith('.md'))
    .flatMap((path) =>
      [...readFileSync(join(ROOT, path), 'utf8').matchAll(/\]\((?!https?:|#)([^)\s#]+)/g)].map(([, link = '']) =>
        join(dirname(path), link),
      ),
    )
  // A link may name a directory.
  const dead = links.filter((link) => !there.has(link) && ![...there].some((path) => path.startsWith(`${link}/`)))
  check(
    links.length > 20 && dead.length === 0,
    `${links.length} links of its documents, and none is dead ${dead.join(' ')}`,
  )

  // So there are no licences of others to hand on with it: npm brings each package with its own.
  const origins = readdirSync(join(ROOT, 'dist'))
    .filter((name) => /\.c?js$/.test(name))
    .flatMap((name) => [...readFileSync(join(ROOT, 'dist', name), 'utf8').matchAll(/^\/\/ from (\S+)$/gm)])
    .map(([, origin = '']) => origin)
  check(
    origins.length > 100 && !origins.some((origin) => origin.includes('node_modules')),
    `no code of others is joined into its ${origins.length} modules`,
  )

  const { messages, pkg } = await publint({ pkgDir: ROOT, strict: true })
  for (const message of messages) note(formatMessage(message, pkg) ?? message.code)
  check(messages.length === 0, 'publint --strict has nothing to say')

  writeFileSync(join(directory, 'package.json'), '{"name":"empty","type":"module","private":true}')
  run('npm', ['install', '--no-audit', '--no-fund', '--silent', '--omit=dev', `./${filename}`])
  const modules = join(directory, 'node_modules')
  note(
    `the tarball is ${megabytes(size)}, dotfly ${megabytes(weigh(join(modules, 'dotfly')))}, with its ${readdirSync(modules).length - 1} neighbours ${megabytes(weigh(modules))}`,
  )
  const installed = new Set(readdirSync(modules))
  check(
    ['typescript', 'tap', 'rollup', 'node'].every((name) => !installed.has(name)),
    'nothing that only builds or tests is installed',
  )

  check(
    /^0\.\d+\.\d+ \([0-9a-f]{9}\)\n$/.test(run('npx', ['--no-install', 'dotfly', '--version'])),
    'npx dotfly --version names the commit',
  )
  check(
    readFileSync(join(modules, 'dotfly/dist/dotfly.1'), 'utf8') === run('npx', ['--no-install', 'dotfly', 'man']),
    'the manual page is there, and says what dotfly man says',
  )
  for (const command of ['proxy', 'init', 'token', 'keep', 'doctor', 'mock', 'strip', 'canary'])
    check(
      run('npx', ['--no-install', 'dotfly', command, '--help']).startsWith(`Usage: dotfly ${command} `),
      `npx dotfly ${command} --help`,
    )
  await demo(env)
  collected()
  old()
  types(run)
} finally {
  rmSync(directory, { recursive: true, force: true })
}
process.stdout.write(`1..${count}\n`)
process.exitCode = failures > 0 ? 1 : 0

/** The demo's own curl line gets a token that the issuer's published keys verify. */
async function demo(env: NodeJS.ProcessEnv): Promise<void> {
  const child = spawn('npx', ['--no-install', 'dotfly', 'demo'], {
    cwd: directory,
    env,
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve))
  let said = ''
  const ready = new Promise<void>((resolve, reject) => {
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text
      if (said.includes('Ctrl-C ends the demo')) resolve()
    })
    child.on('close', () => reject(new Error(`the demo ended: ${said}`)))
  })
  try {
    await ready
    const line = /^curl --unix-socket .*$/m.exec(said)?.[0] ?? 'false'
    const token = execFileSync('sh', ['-c', `${line} -sS`], { encoding: 'utf8' })
    const discovery = /^curl (\S+openid-configuration)$/m.exec(said)?.[1] ?? ''
    const published: { issuer: string; jwks_uri: string } = JSON.parse(
      execFileSync('curl', ['-sS', discovery], { encoding: 'utf8' }),
    )
    const { payload } = await jwtVerify(token, createRemoteJWKSet(new URL(published.jwks_uri)), {
      issuer: published.issuer,
      audience: 'sts.amazonaws.com',
    })
    check(
      payload.sub === 'example:weather-cat:ancient-snow-4824',
      'npx dotfly demo: its curl line gets a token that verifies',
    )
  } finally {
    process.kill(-(child.pid ?? 0), 'SIGINT')
    await ended
  }
}

/** libuv and the kernel hold addresses of what init keeps. A build that thought it unused let it be collected, and the
 * next signal was a crash: here collections are as frequent as signals. */
function collected(): void {
  writeFileSync(join(directory, 'macaroon'), `FlyV1 ${randomBytes(300).toString('base64')}`)
  const file = join(directory, 'node_modules/dotfly/bin/dotfly.cjs')
  const words = ['init', '--socket', join(directory, 'api'), '--macaroon-file', join(directory, 'macaroon')]
  words.push('--on-exit', 'exit', '--no-harden', 'all', '--', 'sh', '-c')
  words.push('trap "" USR2; for i in $(seq 1500); do (kill -USR2 $PPID) & done; wait; exit 7')
  const { status, signal } = spawnSync(process.execPath, ['--no-warnings', '--gc-interval=300', file, ...words])
  check(status === 7, `init outlives its collector (${status ?? signal})`)
}

/** A Node that is too old is told so in one line, before it stumbles over node:ffi. */
function old(): void {
  const elder = 'data:text/javascript,Object.defineProperty(process.versions,"node",{value:"20.20.2"})'
  const file = join(directory, 'node_modules/dotfly/bin/dotfly.cjs')
  const { status, stderr } = spawnSync(process.execPath, ['--import', elder, file, 'demo'], { encoding: 'utf8' })
  check(
    status === 1 && /^dotfly: Node\.js 20\.20\.2 is too old, 26\.5\.1 or later is needed: .+\n$/.test(stderr),
    'Node 20 is told which Node is needed',
  )
  const words = /or run (npx .*)$/m.exec(stderr)?.[1] ?? ''
  check(words === `npx --package=node@26 -- node ${file}`, 'and how to get it')
  check(manifest.engines.node === '>=26.5.1', 'which is what engines says')
}

/** Declarations resolve for who imports, with nothing skipped, and a mistake in their use is one. */
function types(run: (program: string, words: string[]) => string): void {
  mkdirSync(join(directory, 'src'))
  const program = (audience: string): string => `
import { IdentityError, requestToken } from 'dotfly'
import { startMock, type MockMachine } from 'dotfly/mock'
const mock = await startMock({ dir: '/tmp/nowhere', parties: false })
const [machine]: readonly MockMachine[] = mock.file.machines
try {
  const token: string = await requestToken({ socket: machine?.flyd_url ?? '', audience: ${audience}, timeout: 1000 })
  process.stdout.write(token)
} catch (error) {
  if (error instanceof IdentityError) process.exitCode = error.status
}
`
  writeFileSync(
    join(directory, 'tsconfig.json'),
    '{"compilerOptions":{"module":"nodenext","target":"esnext","strict":true,"noEmit":true,"types":["node"]},"include":["src"]}',
  )
  run('npm', ['install', '--no-audit', '--no-fund', '--silent', '--save-dev', 'typescript@7.0.2', '@types/node@26.6.6'])
  const compile = (audience: string): { status: number | null; stdout: string } => {
    writeFileSync(join(directory, 'src/main.ts'), program(audience))
    return spawnSync(process.execPath, [join(directory, 'node_modules/typescript/bin/tsc'), '-p', directory], {
      encoding: 'utf8',
    })
  }
  const good = compile("'sts.amazonaws.com'")
  if (good.status !== 0) note(good.stdout.replaceAll('\n', '\n# '))
  check(good.status === 0, 'TypeScript finds the types of dotfly and dotfly/mock')
  check(/TS2322.*'number'/.test(compile('1').stdout), 'and uses them')
}
