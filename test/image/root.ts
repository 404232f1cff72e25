// Root file systems as images have them, and a Machine that boots from one: a chroot, as PID 1 of a namespace.

import { execFileSync, spawn } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { childrenOf, kill } from '../init/support.ts'
import { CREDENTIAL } from '../support/corpus.ts'

export interface Scope {
  teardown(end: () => Promise<void> | void): void
}

export const SOURCE = fileURLToPath(new URL('../..', import.meta.url))

const missing = ['strip', 'patchelf', 'busybox', 'unshare', 'chroot'].filter(
  (program) => !(process.env['PATH'] ?? '').split(':').some((directory) => existsSync(join(directory, program))),
)
export const skip =
  process.geteuid?.() !== 0
    ? 'needs root, for a chroot'
    : missing.length > 0 && `needs ${missing.join(', ')}: apt-get install binutils patchelf busybox-static`
if (skip !== false && process.env['CI'] === 'true') throw new Error(`this suite must not be skipped here: it ${skip}`)

/** `npm run build:sea` in a new directory; what it makes, `.fly`. */
export function buildSea(t: Scope): string {
  const out = temporary(t, 'dotfly-sea-')
  const words = ['--disable-warning=ExperimentalWarning', join(SOURCE, 'build/sea.ts'), '--out', out]
  execFileSync(process.execPath, words, { stdio: ['ignore', 'ignore', 'inherit'] })
  return join(out, '.fly')
}

/** Files below it, relative. */
export function filesOf(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(directory, join(entry.parentPath, entry.name)))
    .toSorted()
}

/** The same files under other names: 120 MB are not copied for every root. */
export function linkTree(from: string, to: string): void {
  for (const path of filesOf(from)) {
    mkdirSync(dirname(join(to, path)), { recursive: true })
    linkSync(join(from, path), join(to, path))
  }
}

/** A root with a macaroon for its init, which whoever starts the Machine has put there, and nothing else. */
export function emptyRoot(t: Scope): string {
  const root = temporary(t, 'dotfly-root-')
  chmodSync(root, 0o755)
  mkdirSync(join(root, 'fly'))
  writeFileSync(join(root, 'fly/macaroon'), `${CREDENTIAL}\n`, { mode: 0o600 })
  return root
}

/** The programs of a small distribution, from one static file: none of its libraries is glibc's. */
export function addBusybox(root: string, ...names: string[]): void {
  mkdirSync(join(root, 'bin'), { recursive: true })
  const busybox = (process.env['PATH'] ?? '')
    .split(':')
    .map((directory) => join(directory, 'busybox'))
    .find((path) => existsSync(path))
  execFileSync('cp', [realpathSync(busybox ?? ''), join(root, 'bin/busybox')])
  for (const name of names) linkSync(join(root, 'bin/busybox'), join(root, 'bin', name))
}

export interface Ended {
  code: number | null
  out: string
  log: string
}

/** What whoever starts a container gives it. */
export interface Given {
  env?: Record<string, string>
  /** A /proc and a /dev/null, as containers have. */
  container?: boolean
  /** Directories of this computer, to where they are in the root. */
  shared?: Record<string, string>
  /** Started as this user already. */
  user?: number
}

/** The command that runs it as the first process of a Machine with that root. */
function apart(root: string, words: readonly string[], { env = {}, container, shared = {}, user }: Given): string[] {
  const binds = Object.entries(shared)
  const proc = join(root, 'proc')
  if (container === true) {
    mkdirSync(proc, { recursive: true })
    mkdirSync(join(root, 'dev'), { recursive: true })
    writeFileSync(join(root, 'dev/null'), '')
    binds.push(['/dev/null', '/dev/null'])
  }
  const mounts = binds.map(([from, to]) => `mount --bind ${from} ${join(root, to)} && `).join('')
  // env -i, for tap adds variables of its own to what is started.
  const given = Object.entries({ PATH: process.env['PATH'] ?? '', ...env }).map(([name, value]) => `${name}=${value}`)
  const namespaces = [
    '--pid',
    '--mount',
    '--fork',
    '--kill-child',
    ...(container === true ? [`--mount-proc=${proc}`] : []),
  ]
  const before = mounts === '' ? [] : ['sh', '-c', `${mounts}exec "$@"`, 'sh']
  const who = user === undefined ? [] : [`--userspec=${user}:${user}`]
  return ['env', '-i', ...given, 'unshare', ...namespaces, ...before, 'chroot', ...who, root, ...words]
}

/** Runs it to its end. */
export async function boot(root: string, words: readonly string[], given: Given = {}): Promise<Ended> {
  const [program = '', ...args] = apart(root, words, given)
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const late = setTimeout(() => child.kill('SIGKILL'), 60_000)
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve))
  const [out, log, code] = await Promise.all([text(child.stdout), text(child.stderr), ended])
  clearTimeout(late)
  return { code, out, log }
}

/** Runs it until the test is over. What it says, as it goes. */
export function keepRunning(t: Scope, root: string, words: readonly string[], given: Given = {}): { log(): string } {
  const [program = '', ...args] = apart(root, words, given)
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (more) => (said += more))
  const ended = new Promise((resolve) => child.on('close', resolve))
  t.teardown(async () => {
    // Not unshare: it hears no TERM, and what changed its user since does not end with it.
    for (const pid of childrenOf(child.pid ?? 0)) kill(pid, 'SIGKILL')
    await ended
  })
  return { log: () => said }
}

export function temporary(t: Scope, prefix: string): string {
  const directory = mkdtempSync(join(tmpdir(), prefix))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}
