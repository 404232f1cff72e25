// A Debian that boots its real systemd: systemd-nspawn over an overlay of this computer's own root, in a mount namespace
// of its own, so that nothing here changes and nothing is left behind. dotfly lies in it where a package puts it.

import { execFileSync, spawn } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const BOOT_LIMIT = 60_000
const COMMAND_LIMIT = 90_000

export interface Outcome {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface Container {
  /** Seen from here: its root directory while it runs. A Unix socket in it can be dialled from here, as root. */
  readonly root: string
  /** Runs a shell script in it, as root or as `user`. */
  sh(script: string, user?: string): Promise<Outcome>
  /** The same; throws unless it ends with 0, and gives its output without the last newline. */
  must(script: string, user?: string): Promise<string>
  stop(): Promise<void>
}

/** Path in the container -> content, mode 0644, or with another mode. */
export type Files = Readonly<Record<string, string | { readonly content: string; readonly mode: number }>>

/** Boots it and waits for basic.target. `door` is a directory of ours that it sees as /srv/door; `handed` is a file that
 * the host hands to the system as the credential dotfly.macaroon. */
export async function boot(files: Files, door: string, handed?: string): Promise<Container> {
  const work = mkdtempSync(join(tmpdir(), 'dotfly-nspawn-'))
  const stage = join(work, 'stage')
  cpSync(installed(), stage, { recursive: true, verbatimSymlinks: true })
  for (const [path, file] of Object.entries(files)) {
    const { content, mode } = typeof file === 'string' ? { content: file, mode: 0o644 } : file
    mkdirSync(dirname(join(stage, path)), { recursive: true })
    writeFileSync(join(stage, path), content, { mode })
  }
  mkdirSync(join(work, 'layers'))
  const script = `set -e
mount -t tmpfs -o mode=0755 tmpfs ${work}/layers
mkdir ${work}/layers/upper ${work}/layers/work ${work}/layers/root
mount -t overlay -o lowerdir=/,upperdir=${work}/layers/upper,workdir=${work}/layers/work overlay ${work}/layers/root
cp -a --no-preserve=ownership ${stage}/. ${work}/layers/root/
exec systemd-nspawn --quiet --boot --register=no --keep-unit --console=pipe --directory=${work}/layers/root \\
  --machine=dotfly --bind-ro=${realpathSync(process.execPath)}:/usr/local/bin/node --bind=${door}:/srv/door \\
  --system-call-filter=memfd_secret ${handed === undefined ? '' : `--load-credential=dotfly.macaroon:${handed}`} \\
  systemd.unit=basic.target systemd.firstboot=off`
  const nspawn = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', script], {
    stdio: ['ignore', 'pipe', 'pipe'],
    // tap's and npm's own variables are nothing to an init.
    env: { PATH: process.env['PATH'] ?? '', SYSTEMD_LOG_LEVEL: 'warning' },
  })
  let console = ''
  nspawn.stdout.setEncoding('utf8').on('data', (text: string) => (console += text))
  nspawn.stderr.setEncoding('utf8').on('data', (text: string) => (console += text))
  const over = new Promise<void>((done) => nspawn.on('close', () => done()))
  let gone = false
  void over.then(() => (gone = true))
  const deadline = performance.now() + BOOT_LIMIT
  let leader: number | undefined
  const run = (words: readonly string[]): Promise<Outcome> => {
    if (leader === undefined) throw new Error('the container has not booted')
    const space = ['--mount', '--uts', '--ipc', '--pid', '--root', '--wd']
    return outcome('nsenter', [`--target=${leader}`, ...space, 'env', '-i', PATH, ...words])
  }
  const container: Container = {
    get root() {
      return `/proc/${leader}/root`
    },
    sh: (text, user) =>
      run([
        ...(user === undefined ? [] : ['setpriv', `--reuid=${user}`, `--regid=${user}`, '--init-groups']),
        'sh',
        '-c',
        text,
      ]),
    must: async (text, user) => {
      const { code, stdout, stderr } = await container.sh(text, user)
      if (code !== 0) throw new Error(`${text}: ${code}\n${stdout}${stderr}`)
      return stdout.replace(/\n$/, '')
    },
    stop: async () => {
      // What systemd-nspawn takes for "power off"; then, if need be, the end of its mount namespace takes all with it.
      nspawn.kill('SIGTERM')
      const late = setTimeout(() => nspawn.kill('SIGKILL'), 20_000)
      await over
      clearTimeout(late)
      rmSync(work, { recursive: true, force: true })
    },
  }
  try {
    for (;;) {
      if (gone || performance.now() > deadline) throw new Error(`the container does not boot:\n${console.slice(-4000)}`)
      leader ??= init(nspawn.pid ?? -1)
      if (leader !== undefined && (await container.sh('systemctl is-active basic.target')).code === 0) return container
      await sleep(100)
    }
  } catch (error) {
    await container.stop()
    throw error
  }
}

const PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** The process that is 1 in there. */
function init(nspawn: number): number | undefined {
  try {
    return readFileSync(`/proc/${nspawn}/task/${nspawn}/children`, 'utf8')
      .split(' ')
      .map(Number)
      .find((pid) => pid > 0 && /^NSpid:\s+\d+\s+1$/m.test(readFileSync(`/proc/${pid}/status`, 'utf8')))
  } catch {
    return undefined // it is only just coming, or going
  }
}

function outcome(file: string, words: readonly string[]): Promise<Outcome> {
  const child = spawn(file, words, { stdio: ['ignore', 'pipe', 'pipe'], timeout: COMMAND_LIMIT })
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => resolve({ code: code ?? -1, stdout, stderr }))
  })
}

let packed: string | undefined

/** A root directory with dotfly in it, made once. */
function installed(): string {
  if (packed === undefined) {
    const directory = mkdtempSync(join(tmpdir(), 'dotfly-installed-'))
    process.on('exit', () => rmSync(directory, { recursive: true, force: true }))
    packed = join(directory, 'root')
    install(packed)
  }
  return packed
}

/** dotfly as `npm install --global` puts it, and its units as docs/systemd.md has it. */
function install(stage: string): void {
  const npm = (words: string[]): string =>
    execFileSync('npm', [...words, '--silent', '--no-audit', '--no-fund'], {
      cwd: ROOT,
      // npm and what it starts find the Node of this run first, whatever the computer has.
      env: { ...process.env, PATH: `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}` },
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
    })
  mkdirSync(stage, { mode: 0o755 })
  const tarball = npm(['pack', '--pack-destination', stage]).trim().split('\n').at(-1) ?? ''
  npm([
    'install',
    '--global',
    '--prefix',
    join(stage, 'usr/local'),
    '--omit=dev',
    '--ignore-scripts',
    join(stage, tarball),
  ])
  rmSync(join(stage, tarball))
  const shipped = join(stage, 'usr/local/lib/node_modules/dotfly/systemd')
  for (const name of readdirSync(shipped).filter((entry) => /\.(socket|service)$/.test(entry)))
    cpSync(join(shipped, name), join(stage, 'etc/systemd/system', name))
  cpSync(join(shipped, 'sysusers.d'), join(stage, 'etc/sysusers.d'), { recursive: true })
}
