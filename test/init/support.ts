// `dotfly init` as a real process: below this one, or PID 1 of a namespace of its own.

import { spawn } from 'node:child_process'
import { mkdtempSync, chmodSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { errnoOf } from '../../src/os/errno.ts'
import { CACHE } from '../support/cache.ts'
import { CREDENTIAL } from '../support/corpus.ts'

interface Scope {
  teardown(end: () => Promise<void> | void): void
}

export const ROOT = process.geteuid?.() === 0
export const SLOW = process.env['DOTFLY_SLOW'] === '1'
const MAIN = fileURLToPath(new URL('main.ts', import.meta.url))
/** A directory that `npm run build:sea` has made: then it is that program which is tested, started through its loader. */
const FLY = process.env['DOTFLY_FLY']
export const NODE = [process.execPath, '--disable-warning=ExperimentalWarning']
const UNSHARE = ['unshare', '--pid', '--mount', '--fork', '--mount-proc', '--kill-child']

/** What tries the page; its words are in its first lines. */
export const ATTACK = fileURLToPath(new URL('attack.py', import.meta.url))
/** What it looks for: the end of the credential, in hex. */
export const NEEDLE = Buffer.from(CREDENTIAL.slice(-40)).toString('hex')

/** That the trusted process, which is nobody, may enter. */
export function directory(t: Scope): string {
  const path = mkdtempSync(join(tmpdir(), 'dotfly-test-'))
  chmodSync(path, 0o755)
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

export interface Ended {
  code: number | null
  signal: NodeJS.Signals | null
}

export interface RunningInit {
  /** Of init itself, as seen from here. */
  readonly pid: number
  readonly directory: string
  /** Of its socket. */
  readonly path: string
  readonly ended: Promise<Ended>
  /** All that init and its children have said. */
  log(): string
  out(): string
  /** Resolves when this is said; rejects when init ends first, or after `ms`. */
  until(said: RegExp, ms?: number): Promise<RegExpExecArray>
  /** Of the trusted process as it is now, from here. */
  proxy(): number
}

export interface InitStart {
  flyd?: string
  options?: string[]
  command: string[]
  env?: Record<string, string>
  node?: string[]
  /** PID 1 of a namespace, or a subreaper below this process. */
  namespace?: boolean
  macaroon?: string[]
  /** A descriptor of ours that becomes its standard input. */
  stdin?: number
  /** Settings of its socket. */
  socket?: string
  /** Another build of test/init/main.ts. */
  main?: string
  /** What a shell does in the namespaces, of mounts and of the host's name, before it becomes init. */
  before?: string
}

/** Starts it. Whoever starts it ends it: it is killed with all that is below it at the end of the test. */
export async function startInit(t: Scope, start: InitStart): Promise<RunningInit> {
  const directory = mkdtempSync(join(tmpdir(), 'dotfly-init-'))
  chmodSync(directory, 0o755)
  const file = join(directory, 'macaroon')
  writeFileSync(file, `${CREDENTIAL}\n`, { mode: 0o600 })
  const path = join(directory, 'api')
  const words = [
    '--socket',
    `${path},mode=0777${start.socket === undefined ? '' : `,${start.socket}`}`,
    '--flyd',
    start.flyd ?? 'http://127.0.0.1:9',
    '--app',
    'weather-cat',
    '--machine',
    'd891234ce56789',
    ...(start.macaroon ?? ['--macaroon-file', file]),
    ...(start.options ?? []),
    '--',
    ...start.command,
  ]
  const [program = '', ...args] = [
    ...((start.namespace ?? true) ? UNSHARE : []),
    ...(start.before === undefined ? [] : ['--uts', 'sh', '-c', `${start.before} && exec "$@"`, 'sh']),
    ...(FLY === undefined || start.node !== undefined || start.main !== undefined
      ? [...NODE, ...(start.node ?? []), start.main ?? MAIN]
      : [`${FLY}/lib/ld-linux-x86-64.so.2`, '--library-path', `${FLY}/lib`, `${FLY}/init`, 'init']),
    ...words,
  ]
  const child = spawn(program, args, {
    stdio: [start.stdin ?? 'ignore', 'pipe', 'pipe'],
    env: { ...CACHE, ...(start.env ?? { PATH: process.env['PATH'] ?? '' }) },
  })
  let out = ''
  let log = ''
  const waiting = new Set<() => void>()
  const heard = (): void => {
    for (const look of waiting) look()
  }
  child.stdout!.setEncoding('utf8').on('data', (text: string) => {
    out += text
    heard()
  })
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    log += text
    heard()
  })
  let over = false
  const ended = new Promise<Ended>((resolve) => {
    child.on('close', (code, signal) => {
      over = true
      resolve({ code, signal })
      heard()
    })
  })
  t.teardown(async () => {
    if (!over) {
      for (const pid of [...childrenOf(child.pid ?? 0), child.pid ?? 0]) kill(pid, 'SIGKILL')
    }
    await ended
    rmSync(directory, { recursive: true, force: true })
  })
  const running: RunningInit = {
    get pid() {
      return (start.namespace ?? true) ? (childrenOf(child.pid ?? 0)[0] ?? 0) : (child.pid ?? 0)
    },
    directory,
    path,
    ended,
    log: () => log,
    out: () => out,
    until: (said, ms = 30_000) =>
      new Promise((resolve, reject) => {
        const late = setTimeout(() => done(new Error(`${said} was not said: ${out}${log}`)), ms)
        const look = (): void => {
          const found = said.exec(out + log)
          if (found !== null) done(found)
          else if (over) done(new Error(`init ended before ${said}: ${out}${log}`))
        }
        const done = (result: RegExpExecArray | Error): void => {
          clearTimeout(late)
          waiting.delete(look)
          if (result instanceof Error) reject(result)
          else resolve(result)
        }
        waiting.add(look)
        look()
      }),
    proxy: () => childrenOf(running.pid).find((pid) => /proxy(?:\/main)?\.c?[jt]s/.test(commandOf(pid))) ?? 0,
  }
  return running
}

export function kill(pid: number, signal: NodeJS.Signals | number): void {
  try {
    if (pid > 0) process.kill(pid, signal)
  } catch (error) {
    if (errnoOf(error) !== 'ESRCH') throw error
  }
}

export function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim().split(' ').filter(Boolean).map(Number)
  } catch {
    return [] // it has ended
  }
}

/** What a shell in init's namespace waits with until the proxy serves: before that it holds nothing yet, and has given up
 * nothing. `$SOCKET` is its socket from then on. */
export const SERVES = `SOCKET=$(tr '\\0' '\\n' < /proc/1/cmdline | grep -o '^/.*/api'); python3 -c 'import socket, sys
guest = socket.socket(socket.AF_UNIX)
guest.connect(sys.argv[1])
guest.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
guest.recv(1)' "$SOCKET"`

/** A field of /proc/PID/status. */
export function status(pid: number, field: string): string {
  return new RegExp(`^${field}:[ \\t]*(.*)$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? ''
}

/** Empty where the process ended while we looked. */
function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1')
  } catch {
    return ''
  }
}

/** The keeper as it is now, from here. */
export const keeperOf = (init: RunningInit): number => childrenOf(init.pid).find(isKeeper) ?? 0

function isKeeper(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('identity/main')
  } catch {
    return false // it ended while we looked
  }
}
