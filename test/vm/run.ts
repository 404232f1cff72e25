// Boots dotfly as the init of a real kernel: of Debian's cloud kernels for x86-64 and for arm64, for an image that wants
// a token, and for a hostile one; and as docs/images.md has it, the single executable in its place, started by the
// kernel itself. Prints TAP. Needs: qemu-system-x86, qemu-system-arm, busybox-static, e2fsprogs, binutils, patchelf,
// curl. Kernels, and what arm64 needs, are fetched by apt-get download and npm pack, and only unpacked.

import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CREDENTIAL, JWT, leaks } from '../support/corpus.ts'
import { startFlyd } from '../support/flyd.ts'
import { ARM64, buildImage, emptyImage, power, X64 } from './machine.ts'
import type { Boot, Image, Kind } from './machine.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const PROGRAMS = [X64.emulator, ARM64.emulator, 'busybox', 'mkfs.ext4', 'strip', 'patchelf', 'curl', 'dpkg-deb', 'npm']

const CURL = `curl -s --retry 20 --retry-all-errors --retry-delay 1 --unix-socket /.fly/api -X POST \\
  http://localhost/v1/tokens/oidc --data '{"aud":"sts.amazonaws.com"}'`
const ENTRY = `id
ASK
echo
orphan=$( (sh -c 'echo $$; exec >&2; kill -USR1 $$' &) )
while kill -0 $orphan; do sleep 0.1; done
exit 42
`
/** What the kernel itself would start for an image that is root, with no filter of ours. */
const HELPER = `(grep CapBnd /proc/self/status; dd if=/proc/$1/mem bs=1 count=0 2>&1 | grep -q denied && echo refused || echo LEAK
/dotfly/node --disable-warning=ExperimentalWarning /calls.mjs $1) > /helper.out 2>&1
echo > /helper.over
`
/** All that hostile.mjs tries, in its order. What is a control must succeed where nothing is defended, or its refusal
 * proves nothing. */
const ATTACKS: Record<string, 'control' | 'tried'> = {
  'init-mem': 'control',
  'init-maps': 'tried',
  'init-descriptor': 'tried',
  'init-ptrace': 'tried',
  'init-pidfd_getfd': 'tried',
  'proxy-mem': 'control',
  'proxy-maps': 'tried',
  'proxy-descriptor': 'tried',
  'proxy-ptrace': 'control',
  'proxy-pidfd_getfd': 'control',
  kcore: 'tried',
  devmem: 'tried',
  bpf: 'control',
  perf: 'control',
  kprobe: 'control',
  insmod: 'control',
  bset: 'tried',
  kexec: 'tried',
  swapon: 'control',
  remount: 'tried',
  helper: 'control',
  overmount: 'control',
}

/** Defences whose work anybody in the Machine can see. */
const SEEN = [
  'capabilities',
  'tracing',
  'swap',
  'usermodehelper',
  'mounts',
  'proxy-user',
  'new-privileges',
  'permission',
]
const seenOn = ({ text }: Boot): string[] => (/^doctor (.*?)\r?$/m.exec(text)?.[1] ?? '').split(' ')

const missing = PROGRAMS.filter((program) => !found(program))
if (missing.length > 0 || process.arch !== 'x64') {
  process.stdout.write(`1..0 # SKIP test:vm needs an x86-64 machine with ${missing.join(', ') || 'its programs'}\n`)
  process.exit(process.env['CI'] === 'true' ? 1 : 0)
}

const ends: (() => Promise<void> | void)[] = []
const scope = { teardown: (end: () => Promise<void> | void): void => void ends.push(end) }
let count = 0
let failures = 0
let explained = 0 // failures whose console was shown
function check(holds: boolean, name: string): void {
  process.stdout.write(`${holds ? 'ok' : 'not ok'} ${++count} - ${name}\n`)
  if (!holds) failures++
}

/** What the console said last, where a check has failed: nobody can look at it later. */
function explain({ text }: Boot): void {
  if (failures === explained) return
  explained = failures
  for (const line of text.split(/\r?\n/).slice(-40)) process.stdout.write(`# ${JSON.stringify(line.slice(0, 300))}\n`)
}

try {
  const directory = mkdtempSync(join(tmpdir(), 'dotfly-vm-'))
  ends.push(() => rmSync(directory, { recursive: true, force: true }))
  await serves(X64, directory)
  await servesAlone(directory)
  await serves(ARM64, directory)
} finally {
  for (const end of ends.toReversed()) await end()
}
process.stdout.write(`1..${count}\n`)
process.exitCode = failures > 0 ? 1 : 0

/** From source: an entrypoint that wants a token, a hostile one, and that one again without defences. */
async function serves(kind: Kind, directory: string): Promise<void> {
  const image = buildImage(kind, directory)
  const flyd = await startFlyd(scope, 'tcp')
  const holds = (is: boolean, name: string): void => check(is, `${kind.arch}: ${name}`)
  // curl is what a guest has, and in the image where it is this computer's own.
  const asks = kind.arch === process.arch ? CURL : '/dotfly/node /ask.mjs'
  writeFileSync(join(image.root, 'entry.sh'), ENTRY.replace('ASK', asks))
  writeFileSync(join(image.root, 'helper.sh'), HELPER)
  for (const name of ['ask.mjs', 'calls.mjs', 'hostile.mjs', 'vsock.mjs'])
    cpSync(fileURLToPath(new URL(name, import.meta.url)), join(image.root, name))

  const good = await boot(image, flyd.port, 'an image that wants a token', [
    '--user',
    '1000',
    '--',
    '/bin/sh',
    '/entry.sh',
  ])
  holds(good.text.includes(JWT), 'the entrypoint, uid 1000, got a token over /.fly/api')
  holds(/uid=1000/.test(good.text), 'as uid 1000')
  holds(
    /Reaped child process with pid: \d+ and signal: SIGUSR1, core dumped\? false/.test(good.text),
    'an orphan was reaped',
  )
  holds(/Main child exited normally with code: 42/.test(good.text), 'the exit code came back')
  holds(/Power down/i.test(good.text), 'the machine went off')
  holds(!/Kernel panic/.test(good.text), 'no panic')
  holds(!/memfd_secret/.test(good.text), 'the credential is in secret memory')
  // Said, not judged: emulation on a busy machine is no measure. The goal is 15 s.
  process.stdout.write(`# the entrypoint ran after ${(good.firstLine / 1000).toFixed(1)} s\n`)
  holds(
    flyd.requests.some(({ raw }) => raw.includes(CREDENTIAL)),
    'flyd saw the credential',
  )
  holds(leaks(Buffer.from(good.text)) < 0, 'the console did not')
  explain(good)

  const apart = await boot(image, flyd.port, 'an image whose flyd is at a vsock', [
    '--flyd',
    'vsock:1:4280',
    '--',
    '/dotfly/node',
    '/vsock.mjs',
  ])
  for (const [said, name] of [
    ['vsock asked true macaroon true', 'flyd is asked over vsock, with the macaroon'],
    ['vsock answered 200 by-vsock.a.b', 'and answers the guest'],
    ['vsock sniffed marker true credential false', 'root sees every packet, and no macaroon'],
  ] as const)
    holds(apart.text.includes(said), name)
  holds(leaks(Buffer.from(apart.text)) < 0, 'nothing of the credential on the console')
  explain(apart)

  const hostile = ['--', '/dotfly/node', '/hostile.mjs']
  const bad = await boot(image, flyd.port, 'a hostile image', hostile)
  const results = [...bad.text.matchAll(/attack (\S+) ([^\r\n]*)/g)].map(([, attack = '', result = '']) => ({
    attack,
    result,
  }))
  const tried = results.map(({ attack }) => attack).join(' ')
  holds(
    tried === Object.keys(ATTACKS).join(' ') && bad.text.includes('attacks over'),
    `all attacks were tried: ${tried}`,
  )
  for (const { attack, result } of results) holds(!/LEAK/.test(result), `${attack}: ${result}`)
  holds(leaks(Buffer.from(bad.text)) < 0, 'nothing of the credential on the console')
  for (const step of SEEN) holds(seenOn(bad).includes(step), `doctor sees that ${step} is on`)
  explain(bad)

  const open = await boot(image, flyd.port, 'negative control: the same without defences', [
    '--no-harden',
    'all',
    ...hostile,
  ])
  const had = [...open.text.matchAll(/attack (\S+) .*LEAK/g)].map(([, attack]) => attack)
  for (const [attack, control] of Object.entries(ATTACKS))
    if (control === 'control') holds(had.includes(attack), `without defences, ${attack} succeeds`)
  for (const step of SEEN)
    holds(!seenOn(open).includes(step), `without defences, doctor does not say that ${step} is on`)
  explain(open)
}

/** The single executable where it belongs, a shell, and nothing else: no disk in memory before it, no script, no driver
 * that is not in the kernel, so no network either. */
async function servesAlone(directory: string): Promise<void> {
  const image = emptyImage(X64, directory)
  const build = ['--disable-warning=ExperimentalWarning', join(ROOT, 'build/sea.ts'), '--out', image.root]
  execFileSync(process.execPath, build, { cwd: ROOT, stdio: 'ignore' })
  writeFileSync(
    join(image.root, 'entry.sh'),
    'id\n/.fly/init token --timeout 60\n[ -e /fly/macaroon ] || echo macaroon: none\nexit 42\n',
  )
  writeFileSync(join(image.root, 'fly/macaroon'), `${CREDENTIAL}\n`)
  const words = ['init', '--mount', '--user', '1000:1000', '--socket', '/.fly/api,uid=1000', '--macaroon-file']
  words.push('/fly/macaroon', '--macaroon-unlink', '--flyd', 'http://127.0.0.1:9', '---', '/bin/sh', '/entry.sh')
  const append = ['root=/dev/nvme0n1', 'rootfstype=ext4', 'rw', 'init=/.fly/init', '--', ...words]
  const single = await power(image, 'the single executable, by init= on the command line', append)
  check(/dotfly: flyd is unreachable/.test(single.text), 'init=/.fly/init: the socket is served, to uid 1000 too')
  check(/uid=1000/.test(single.text), 'by the words on the command line of the kernel')
  check(/^(?:.*\s)?macaroon: none\s*$/m.test(single.text), 'the macaroon is off the disk')
  check(/Main child exited normally with code: 42/.test(single.text), 'the exit code came back')
  check(/Power down/i.test(single.text) && !/Kernel panic/.test(single.text), 'the machine went off')
  check(leaks(Buffer.from(single.text)) < 0, 'nothing of the credential on the console')
  process.stdout.write(`# the entrypoint ran after ${(single.firstLine / 1000).toFixed(1)} s\n`)
  explain(single)
}

function boot(image: Image, port: number, name: string, words: readonly string[]): Promise<Boot> {
  const options = ['--mount', '--log-level', 'debug', '--socket', '/.fly/api,mode=0777']
  options.push('--macaroon-file', '/fly/macaroon', '--macaroon-unlink')
  if (!words.includes('--flyd')) options.push('--flyd', 'http://10.0.2.100:4280')
  const line = [
    '/dotfly/node',
    '--disable-warning=ExperimentalWarning',
    '/dotfly/test/init/main.ts',
    ...options,
    ...words,
  ]
  writeFileSync(join(image.root, 'fly/macaroon'), `${CREDENTIAL}\n`)
  // PATH and nothing else; the shell is gone with the exec, and dotfly is PID 1.
  writeFileSync(join(image.root, 'dotfly/init'), `#!/bin/sh\nexec ${line.join(' ')}\n`, { mode: 0o755 })
  return power(image, name, [], port)
}

function found(program: string): boolean {
  return (process.env['PATH'] ?? '').split(':').some((directory) => existsSync(join(directory, program)))
}
