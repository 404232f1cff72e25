import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { request, type IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { test, type Test } from 'tap'
import { version } from '../../src/cli/version.ts'
import { BIN, dotfly, ended, NODE, plain, start, until } from './dotfly.ts'

/** The commands that the help text lists. */
const names = async (): Promise<string> =>
  [...(await dotfly(['--help'])).stdout.matchAll(/^ {4}dotfly ([a-z]+) {2,}/gm)].map(([, name]) => name).join(', ')

test('help is on standard output and exits 0, for all and for each', async (t) => {
  const all = await dotfly(['--help'])
  t.match(all, { code: 0, stderr: '' })
  const commands = [...all.stdout.matchAll(/^ {4}dotfly ([a-z]+) {2,}/gm)].map(([, name]) => name ?? '')
  t.match(commands.join(' '), /^proxy .*init .*token .*mock .*demo/)
  for (const command of commands) {
    const { code, stdout, stderr } = await dotfly([command, '--help'])
    t.equal(code, 0)
    t.equal(stderr, '')
    t.match(stdout, new RegExp(`^Usage: dotfly ${command}`))
    t.match(stdout, /\nExit codes: 0 [^]*?\n\nExample/)
    t.strictSame(
      stdout.split('\n').filter((line) => line.length > 84),
      [],
      'fits a terminal',
    )
  }
  for (const more of ['help', '--help', '--version']) t.strictSame(await dotfly(['--help', more]), all)
  t.strictSame(await dotfly(['help', 'token']), await dotfly(['token', '-h']))
})

test('every option in a help text exists, and names its variable', async (t) => {
  const { stdout } = await dotfly(['proxy', '--help'])
  for (const [, option] of stdout.matchAll(/^ {4}(--[a-z-]+) [A-Z]/gm)) {
    const { code, stderr } = await dotfly(['proxy', option ?? ''])
    t.equal(code, 2)
    t.equal(stderr, `dotfly: ${option} has no value: see dotfly proxy --help\n`)
    t.match(stdout, `DOTFLY_${option?.slice(2).toUpperCase().replaceAll('-', '_')}`)
  }
})

test('the version is that of package.json, with the commit that is checked out', async (t) => {
  const said = await dotfly(['--version'])
  t.match(said, { code: 0, stdout: /^\d+\.\d+\.\d+( \([0-9a-f]{9}\))?\n$/ })
  t.strictSame(await dotfly(['-V']), said)
})

test('the commit: from a clone, a worktree, packed refs, or what a build left; none where nobody knows', async (t) => {
  const dir = directory(t)
  const hash = (digit: string): string => digit.repeat(40)
  const file = (path: string, text: string): void => {
    mkdirSync(dirname(join(dir, path)), { recursive: true })
    writeFileSync(join(dir, path), text)
  }
  file('package.json', '{"version": "1.2.3"}')
  file('src/cli/version.ts', '')
  const from = join(dir, 'src/cli')
  t.equal(version(from), '1.2.3')
  file('.git/HEAD', `${hash('a')}\n`)
  t.equal(version(from), '1.2.3 (aaaaaaaaa)')
  file('.git/HEAD', 'ref: refs/heads/main\n')
  t.equal(version(from), '1.2.3', 'a branch without a commit')
  file('.git/packed-refs', `# pack-refs with: peeled\n${hash('b')} refs/heads/main\n${hash('c')} refs/heads/other\n`)
  t.equal(version(from), '1.2.3 (bbbbbbbbb)')
  file('.git/refs/heads/main', `${hash('d')}\n`)
  t.equal(version(from), '1.2.3 (ddddddddd)', 'a loose ref is newer than a packed one')
  rmSync(join(dir, '.git'), { recursive: true })
  file('.git', `gitdir: ${dir}/clone/.git/worktrees/w\n`)
  file('clone/.git/worktrees/w/HEAD', 'ref: refs/heads/w\n')
  file('clone/.git/worktrees/w/commondir', '../..\n')
  file('clone/.git/refs/heads/w', `${hash('e')}\n`)
  t.equal(version(from), '1.2.3 (eeeeeeeee)')
  file('build.json', `{"commit": "${hash('f')}"}`)
  t.equal(version(from), '1.2.3 (fffffffff)', 'what was built is what runs')
  file('build.json', '{"commit": "unknown"}')
  t.equal(version(from), '1.2.3 (eeeeeeeee)')
})

const WRONG: Record<string, [words: string[], env: Record<string, string>, says: string]> = {
  'an unknown command': [
    ['frobnicate'],
    {},
    `unknown command frobnicate: use one of ${await names()}, or see dotfly --help`,
  ],
  'a mistyped command': [['tokn'], {}, 'unknown command tokn, did you mean token: see dotfly --help'],
  'help on a mistyped command': [
    ['help', 'docter'],
    {},
    'unknown command docter, did you mean doctor: see dotfly --help',
  ],
  'a mistyped option before any command': [
    ['--verison'],
    {},
    'unknown option --verison, did you mean --version: see dotfly --help',
  ],
  'a short option before any command': [
    ['-v'],
    {},
    'unknown option -v, did you mean -V or --version: see dotfly --help',
  ],
  'an option that no command has': [
    ['--foo'],
    {},
    'unknown option --foo: options come after a command, see dotfly --help',
  ],
  'the command of init without --': [
    ['init', '--macaroon-file', '/m', 'true'],
    {},
    'too many words before --: give the command after --: see dotfly init --help',
  ],
  'a token file for an empty audience': [
    ['keep', '--token-file', '/t,aud='],
    {},
    'token file /t: aud has no value: write such as aud=https://vault.example',
  ],
  'version as a command': [['version'], {}, 'unknown command version, did you mean --version: see dotfly --help'],
  'no shell to complete in': [['completion'], {}, 'no shell: name one of bash, zsh, fish'],
  'a shell that is not known': [['completion', 'tcsh'], {}, 'shell tcsh is not one of bash, zsh, fish'],
  'a command named like a property': [
    ['toString'],
    {},
    `unknown command toString: use one of ${await names()}, or see dotfly --help`,
  ],
  'an unknown option': [
    ['proxy', '--sokcet', '/a'],
    {},
    'unknown option --sokcet, did you mean --socket: see dotfly proxy --help',
  ],
  'a value for a flag': [['token', '--claims=yes'], {}, '--claims takes no value: see dotfly token --help'],
  'a value for --help': [['token', '--help=all'], {}, '--help takes no value: see dotfly token --help'],
  'an option for a value': [
    ['proxy', '--macaroon-file', '--flyd', 'unix:/flyd'],
    {},
    '--macaroon-file has no value, the option --flyd follows it: see dotfly proxy --help',
  ],
  'an option and its value for a value': [
    ['init', '--macaroon-file', '--flyd=http://me:hunter2@flyd', '--', 'true'],
    {},
    '--macaroon-file has no value, the option --flyd follows it: see dotfly init --help',
  ],
  'a mistyped option for a value': [
    ['token', '--aud', '--claim'],
    {},
    '--aud has no value, the option --claim follows it: see dotfly token --help',
  ],
  'a key for a value, which is not shown': [
    ['proxy', '--macaroon-file', '/m', '--flyd-ca', '-----BEGIN PRIVATE KEY-----\nMIIB'],
    {},
    'the CA of flyd is not a path: name the PEM file that holds it',
  ],
  'the end of options for a value': [
    ['token', '--aud', '--'],
    {},
    '--aud has no value, only -- follows it: see dotfly token --help',
  ],
  'a word too many': [['token', 'x'], {}, 'too many words on the command line: see dotfly token --help'],
  'the macaroon as an option': [
    ['proxy', '--macaroon=FlyV1 fm2_c2VjcmV0'],
    {},
    'the macaroon is never given on the command line, name its file with --macaroon-file: see dotfly proxy --help',
  ],
  'the macaroon as a word': [
    ['proxy', 'FlyV1 fm2_c2VjcmV0'],
    {},
    'too many words on the command line: see dotfly proxy --help',
  ],
  'the macaroon in a variable': [
    ['proxy'],
    { DOTFLY_MACAROON: 'FlyV1 fm2_c2VjcmV0' },
    'DOTFLY_MACAROON is set, and a macaroon is never taken from the environment: unset it, put the macaroon in a file and name that with --macaroon-file',
  ],
  'no macaroon at all': [
    ['proxy'],
    {},
    'no macaroon: name its file with --macaroon-file, or an open descriptor with --macaroon-fd',
  ],
  'a wrong log level': [
    ['proxy', '--macaroon-file', '/m', '--log-level', 'x'],
    {},
    'log level x is not one of debug, info, warn, error, silent',
  ],
  'a socket that is wrong': [
    ['proxy', '--macaroon-file', '/m', '--socket', '/a,mode=9'],
    {},
    'socket /a: mode 9 is not three octal digits, each 0 to 7, such as 0660',
  ],
  'two forms at once': [
    ['token', '--claims', '--json'],
    {},
    '--claims and --json exclude each other: --json has the claims in it',
  ],
  'a time to wait that is none, in its variable': [
    ['token'],
    { DOTFLY_WAIT: 'soon' },
    'waiting time soon is not such as 30s or 500ms',
  ],
  'a mock without a directory': [['mock'], {}, 'no directory: name one with --dir'],
}

for (const [what, [words, env, says]] of Object.entries(WRONG)) {
  test(`${what} is wrong usage: exit code 2 and one line`, async (t) => {
    t.strictSame(await dotfly(words, env), { code: 2, stdout: '', stderr: `dotfly: ${says}\n` })
  })
}

test('proxy: a macaroon descriptor that is not open is one line and exit code 1', async (t) => {
  // The first are Node's own: queues of events, and pipes from it to itself that nothing but it writes to.
  for (const fd of ['3', '4', '5', '6', '7', '8', '9', '77'])
    t.strictSame(await dotfly(['proxy', '--macaroon-fd', fd]), {
      code: 1,
      stdout: '',
      stderr: `dotfly: macaroon descriptor ${fd} is not open: open it for dotfly, as a shell does by ${fd}< FILE\n`,
    })
})

test('proxy: a macaroon descriptor may be a file or a pipe, also one that comes twice', async (t) => {
  const [, , macaroon = ''] = launchWords(directory(t))
  for (const from of ['3<"$0"', '3< <(cat "$0")', '3< <(cat "$0") 4<&3']) {
    // What is wrong comes after the macaroon.
    const { stderr } = spawnSync(
      'bash',
      [
        '--norc',
        '-c',
        `"$1" --no-warnings "$2" proxy --macaroon-fd 3 --socket /proc/none/api ${from}`,
        macaroon,
        NODE,
        BIN,
      ],
      { encoding: 'utf8', env: plain() },
    )
    t.match(stderr, /^dotfly: the directory of socket \/proc\/none\/api cannot be made/, from)
  }
})

test('a disk that is full is one line and exit code 1, a reader that went away is nothing', async (t) => {
  const shell = (line: string): { status: number | null; stderr: string } =>
    spawnSync('bash', ['--norc', '-c', line, NODE, BIN], { encoding: 'utf8', env: plain() })
  const run = '"$0" --disable-warning=ExperimentalWarning "$1"'
  for (const words of ['--version', 'token --help', 'man', 'completion bash']) {
    t.match(shell(`${run} ${words} >/dev/full`), {
      status: 1,
      stderr: 'dotfly: the output cannot be written (ENOSPC): is the disk full?\n',
    })
    t.match(shell(`${run} ${words} | true; exit \${PIPESTATUS[0]}`), { status: 0, stderr: '' })
  }
})

test('init: --- is as good as --, which the kernel keeps for itself', async (t) => {
  for (const dashes of ['--', '---']) {
    const { code, stderr } = await dotfly(['init', '--no-harden', 'all', '--macaroon-file', '/none', dashes, 'true'])
    t.match({ code, stderr }, { code: 1, stderr: 'ERROR macaroon file /none does not exist\n' }, dashes)
  }
})

test('keep without a file says all that it could be given', async (t) => {
  t.strictSame(await dotfly(['keep'], { AZURE_CLIENT_ID: '' }), {
    code: 1,
    stdout: '',
    stderr:
      'dotfly: there is no file to keep: name one with --token-file, or set AWS_ROLE_ARN, GOOGLE_WORKLOAD_IDENTITY_PROVIDER, AZURE_CLIENT_ID and AZURE_TENANT_ID, or ANTHROPIC_FEDERATION_RULE_ID and ANTHROPIC_ORGANIZATION_ID\n',
  })
})

test('help of init: its defences are told in lines as long as they may be', async (t) => {
  const { stdout } = await dotfly(['init', '--help'])
  const lines = /^NAME is one of\n\n([^]*?)\n\n/m.exec(stdout)?.[1]?.split('\n') ?? []
  t.ok(lines.length > 10)
  for (const [i, line] of lines.entries()) {
    const next = /^ {22}(\S+)/.exec(lines[i + 1] ?? '')?.[1]
    t.ok(line.length <= 80, line)
    if (next !== undefined) t.ok(line.length + 1 + next.length > 80, `${next} would not fit behind: ${line}`)
  }
})

test('a directory that the system makes none in is one line: proxy and mock', async (t) => {
  const words = launchWords(directory(t)).map((word) => (word.endsWith('/api') ? '/proc/nowhere/api' : word))
  t.strictSame(await dotfly(words), {
    code: 1,
    stdout: '',
    stderr:
      'dotfly: the directory of socket /proc/nowhere/api cannot be made (ENOENT): choose another path with --socket\n',
  })
  t.strictSame(await dotfly(['mock', '--dir', '/proc/nowhere']), {
    code: 1,
    stdout: '',
    stderr:
      'dotfly: the mock cannot start in /proc/nowhere: /proc/nowhere cannot be made (ENOENT): choose another directory\n',
  })
  t.match(await dotfly(['mock', '--dir', `${BIN}/x`]), {
    code: 1,
    stderr: `dotfly: the mock cannot start in ${BIN}/x: ${BIN} is not a directory: choose another\n`,
  })
})

test('a file that cannot be read is one line, and says what could be: a trust policy, the parties of the mock', async (t) => {
  const dir = directory(t)
  const none = join(dir, 'none')
  for (const [words, says] of [
    [
      ['doctor', '--trust-policy', none],
      `trust policy ${none} does not exist: write it with aws iam get-role --role-name ROLE > FILE`,
    ],
    [
      ['doctor', '--trust-policy', dir],
      `trust policy ${dir} is a directory: write it with aws iam get-role --role-name ROLE > FILE`,
    ],
    [
      ['mock', '--dir', join(dir, 'fly'), '--parties', none],
      `the mock cannot start in ${join(dir, 'fly')}: parties file ${none} does not exist: name another, or leave it out`,
    ],
  ] as const)
    t.strictSame(await dotfly(words), { code: 1, stdout: '', stderr: `dotfly: ${says}\n` })
})

test('no command at all prints help and exits 2', async (t) => {
  t.match(await dotfly([]), { code: 2, stdout: /^Usage/ })
})

/** Says which modules are loaded. */
const PROBE = `data:text/javascript,${encodeURIComponent(`
  import { registerHooks } from 'node:module'
  import { writeSync } from 'node:fs'
  registerHooks({ load(url, context, next) { writeSync(2, url + '\\n'); return next(url, context) } })
`)}`

test('the proxy loads no HTTP client, the token command no launcher', async (t) => {
  const loaded = async (...words: string[]): Promise<string> =>
    (await dotfly(words, { NODE_OPTIONS: `--import=${PROBE}` })).stderr
  t.notMatch(await loaded('proxy', '--help'), /node_modules\/(undici|jose|fastify)\//)
  t.notMatch(await loaded('token', '--help'), /src\/init\/launch|node_modules\/(pino|fastify)\//)
  t.match(await loaded('token', '--help'), /node_modules\/undici\//, 'the probe sees what is loaded')
})

function directory(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'cli-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

function launchWords(dir: string): string[] {
  writeFileSync(join(dir, 'macaroon'), `FlyV1 fm2_${'A1b2'.repeat(40)}\n`)
  return [
    'proxy',
    '--macaroon-file',
    join(dir, 'macaroon'),
    '--socket',
    join(dir, 'api'),
    '--flyd',
    `unix:${join(dir, 'flyd')}`,
  ]
}

async function askFor(path: string, socketPath: string): Promise<{ status: number; body: string }> {
  const asked = request({ socketPath, path, method: 'GET', agent: false }).end()
  const answer = await new Promise<IncomingMessage>((done, reject) => asked.on('response', done).on('error', reject))
  return { status: answer.statusCode ?? 0, body: await text(answer) }
}

test('proxy: JSON lines, readiness first, one line an exchange, SIGTERM ends it with 0', async (t) => {
  const dir = directory(t)
  const child = start(launchWords(dir))
  const done = ended(child)
  await until(child, /\[fly api proxy\] listening at .*api/)
  const answer = await askFor('/nothing', join(dir, 'api'))
  t.equal(answer.status, 404)
  let lines = ''
  child.stdout!.on('data', (chunk: string) => (lines += chunk))
  child.kill('SIGTERM')
  t.strictSame(await done, { code: 0, signal: null })
  const events: { event: string }[] = lines
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
  t.match(
    events.filter(({ event }) => event === 'exchange'),
    [{ level: 'warn', status: 404, method: 'GET', socket: join(dir, 'api') }],
  )
  t.notOk(readdirSync(dir).includes('api'), 'the socket is gone')
})

test('proxy: when it cannot tidy up after its start it says so, and goes on', async (t) => {
  const dir = directory(t)
  const root = dirname(dirname(BIN))
  for (const part of ['bin', 'src', 'package.json']) cpSync(join(root, part), join(dir, part), { recursive: true })
  symlinkSync(join(root, 'node_modules'), join(dir, 'node_modules'))
  // As where npm replaces the package meanwhile, or no descriptor is left.
  const launcher = join(dir, 'src/init/launch.ts')
  const text = readFileSync(launcher, 'utf8')
  writeFileSync(launcher, text.replace("import('../os/memory.ts')", "import('../os/nowhere.ts')"))
  const child = start(launchWords(dir), {}, false, join(dir, 'bin/dotfly.ts'))
  const done = ended(child)
  const said = await until(child, /"event":"untidy"/)
  t.match(said, /"level":"warn".*\[fly api proxy\] what its start left in memory stays there: Cannot find module/)
  t.equal((await askFor('/nothing', join(dir, 'api'))).status, 404)
  child.kill('SIGTERM')
  t.strictSame(await done, { code: 0, signal: null })
})

test('proxy: SIGINT ends it with 0 too', async (t) => {
  const child = start(launchWords(directory(t)))
  const done = ended(child)
  await until(child, /listening at/)
  child.kill('SIGINT')
  t.strictSame(await done, { code: 0, signal: null })
})

test('proxy: a reader of its lines that goes away does not end it', async (t) => {
  const dir = directory(t)
  const child = start(launchWords(dir))
  const done = ended(child)
  await until(child, /listening at/)
  child.stdout!.destroy()
  for (let i = 0; i < 3; i++) t.equal((await askFor('/nothing', join(dir, 'api'))).status, 404)
  child.kill('SIGTERM')
  t.strictSame(await done, { code: 0, signal: null })
})

test('proxy: a mistake in the set-up is one line and exit code 1', async (t) => {
  const dir = directory(t)
  const words = launchWords(dir)
  writeFileSync(join(dir, 'macaroon'), '')
  t.strictSame(await dotfly(words), {
    code: 1,
    stdout: '',
    stderr: `dotfly: macaroon file ${join(dir, 'macaroon')} is empty\n`,
  })
})
