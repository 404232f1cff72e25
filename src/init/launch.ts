// Starts the trusted process and keeps it running. The rights it gets are the launch line below and nothing else:
// an empty environment, no inspector, no files but its own source, the page, the sockets, one pipe each way.

import { closeSync, openSync, readFileSync, statSync } from 'node:fs'
import type { Event } from '../proxy/event.ts'
import { reason } from '../errors.ts'
import { errnoOf } from '../os/errno.ts'
import { getLimit } from '../os/limits.ts'
import { executable } from '../os/self.ts'
import { send } from '../os/signals.ts'
import type { Rights } from '../os/spawn.ts'
import { Children } from '../os/wait.ts'
import { loadMacaroon, openMacaroon } from './credential.ts'
import type { OpenSource } from './credential.ts'
import { LaunchError } from './error.ts'
import { ask, probeAt } from './probe.ts'
import { checkReachable } from './reach.ts'
import { STEP_NAMES } from './steps.ts'
import type { Step } from './steps.ts'
import type { ProxyOptions, SocketOptions } from './options.ts'
import { bindSocket, bindSockets } from './sockets.ts'
import type { Bound } from './sockets.ts'
import { supervise } from './supervise.ts'
import type { Supervised } from './supervise.ts'
import { LOOK, PATIENCE, watchdog } from './watchdog.ts'

const SIGKILL = 9
const O_PATH = 0x200000 // to be run, and no right to read it
const FIRST_INHERITED = 3
const START_LIMIT = 10_000 // ms until the first start must have listened
const TIDY_PAUSE = 500 // ms after it has listened: the entrypoint is there, and so is whatever a first log line loads
const STOP_LIMIT = 12_000 // ms for the proxy to drain, a little more than it allows itself
const CONNECTIONS = 16_384 // a socket; an idle one costs a few KiB
const HELD = 64 * 1024 * 1024 // of all guests: 160 KiB for a request that is not whole, 128 for an answer that is not read
const HELD_LEAST = 256 * 1024 // one guest's, whatever the number of sockets
const OTHER_FILES = 128 // that the proxy has open besides, with room; and the probe's
const BESIDE = 192 // connections of a socket beyond its room: root's, flyd's for these, and of who is turned away
const HEAP_LIMIT = 512 // MiB: all the connections that the proxy takes, with room
const CA_LIMIT = 64 * 1024 // bytes: they go on the launch line, and an argument has at most 128 KiB

const self = executable('proxy')

/** What has been made of the options: where flyd is, what the macaroon is read from, and the sockets. They are given up when
 * the proxy stops, or cannot be started. */
interface Opened {
  readonly flyd: Target & { readonly ca?: string }
  readonly macaroon: OpenSource
  readonly bound: readonly Bound[]
}

type Target = { path: string } | { cid: number; port: number } | { host: string; port: number; secure: boolean }

/** What only init has to say about the proxy. */
export interface Surroundings {
  /** Who waits for children. Without it: one that waits for the proxy alone. */
  children: Children
  steps: ReadonlySet<Step>
  /** The proxy ended and is about to be started again. */
  restarting(why: string, pause: number): void
  /** What its start left in our memory stays there: it serves all the same. */
  untidy(why: string): void
  /** Where nobody else watches it: it does not answer and is killed, or it cannot be watched. */
  watched?: (why: string) => void
}

export interface Launched extends Supervised {
  /** Resolves when the first process listens. */
  readonly ready: Promise<void>
  /** Looks whether it hangs, where it is watched: to be called every LOOK ms. */
  look(): void
}

/** Nobody else's number: not "nobody" (65534), whose files and processes others own too, but the `nonroot` of images
 * without one. Its two groups differ, so that no process can pass for it: see src/os/spawn.ts. */
const PROXY_RIGHTS: Rights = { uid: 65532, gid: 65532, effectiveGid: 65533, groups: [] }

/** Binds the sockets, loads the macaroon, starts the trusted process and, whenever it dies, starts it again. Stopping
 * drains it and removes the sockets. Resolves when it listens. Throws a LaunchError for a mistake in the options. */
export async function superviseProxy(
  options: ProxyOptions,
  report: (event: Event) => void,
  { restarting = untold, untidy = untold }: Partial<Pick<Surroundings, 'restarting' | 'untidy'>> = {},
): Promise<Supervised> {
  // Whose user it runs as stays the launcher's choice here: a service manager has made it already.
  const steps = new Set(STEP_NAMES.filter((name) => name !== 'proxy-user'))
  const opened = await openProxy(options)
  const children = new Children()
  const proxy = await launchProxy(options, opened, report, { children, steps, restarting, untidy })
  const close = async (): Promise<void> => {
    await proxy.stop()
    children.close()
  }
  try {
    await proxy.ready
  } catch (error) {
    await close()
    throw error
  }
  return {
    get pid() {
      return proxy.pid
    },
    tell: proxy.tell,
    stop: close,
  }
}

/** Nobody looks at a proxy that is there for a moment only. */
const untold = (): void => undefined

/** Binds the sockets: whoever connects from now on waits. Throws a LaunchError for a mistake in the options, most of which
 * are found before anything is bound. */
export async function openProxy(options: ProxyOptions): Promise<Opened> {
  const flyd = await withCa(parseFlyd(options.flyd), options.flydCa)
  const macaroon = openMacaroon(options.macaroon)
  try {
    return { flyd, macaroon, bound: await bindSockets(options.sockets) }
  } catch (error) {
    macaroon.close()
    throw error
  }
}

/** What the trusted process is handed: the page, the sockets in this order, and the program where it is not looked up. */
interface Handed {
  readonly page: number
  readonly bound: readonly Bound[]
  /** As many: the probe's is the last, where there is one. */
  readonly served: readonly SocketOptions[]
  readonly program: number | undefined
  readonly rights: Rights | undefined
  /** Gives up all of it. */
  readonly release: () => void
}

/** Loads the macaroon, and gathers what goes with it; where something cannot be had, nothing is kept. */
async function gather(options: ProxyOptions, opened: Opened, { steps, watched }: Surroundings): Promise<Handed> {
  const { flyd, macaroon } = opened
  const bound = [...opened.bound]
  const served = [...options.sockets]
  const open: number[] = []
  const keep = (fd: number): number => {
    open.push(fd)
    return fd
  }
  const release = (): void => {
    for (const socket of bound) socket.release()
    macaroon.close()
    for (const fd of open) closeSync(fd)
  }
  try {
    if ('path' in flyd) refuseLoop(flyd.path, options.sockets)
    const rights = steps.has('proxy-user') && process.geteuid?.() === 0 ? PROXY_RIGHTS : undefined
    if (rights !== undefined) checkReachable(rights, self, 'path' in flyd ? flyd.path : undefined)
    // Before there is anybody who could put something else there.
    const program = rights === undefined ? undefined : keep(openSync(self.file, O_PATH))
    const page = keep(loadMacaroon(options.macaroon, steps.has('secret-page'), macaroon).fd)
    const probe = watched === undefined ? undefined : await bindProbe(options.sockets, watched)
    if (probe !== undefined) {
      bound.push(probe.bound)
      served.push(probe.socket)
    }
    return { page, bound, served, program, rights, release }
  } catch (error) {
    release()
    throw error
  }
}

/** Loads the macaroon and starts the process. Given back as soon as that is on its way: whoever waits is answered when it is
 * `ready`. */
export async function launchProxy(
  options: ProxyOptions,
  opened: Opened,
  report: (event: Event) => void,
  surroundings: Surroundings,
): Promise<Launched> {
  const { children, steps } = surroundings
  const { page, bound, served, program, rights, release } = await gather(options, opened, surroundings)
  const sockets = bound.map(({ fd }) => fd)

  const line = JSON.stringify({
    page: FIRST_INHERITED,
    room: roomFor(options.sockets.length),
    holds: Math.max(HELD / options.sockets.length, HELD_LEAST),
    flyd: opened.flyd,
    sockets: served.map(({ policy, allow, audiences, uid }, i) => ({
      fd: FIRST_INHERITED + 1 + i,
      preset: policy,
      allow,
      audiences,
      uid,
      app: options.app,
      machine: options.machine,
    })),
    tellsAll: options.tellsAll !== false,
    keeps: LEFT_TO_THE_PROXY.filter((name) => !steps.has(name)),
  })
  const argv = ['dotfly', ...self.args(proxyFlags(steps.has('permission')), [line])]

  const { promise: ready, resolve: listens, reject: fails } = Promise.withResolvers<void>()
  let listened = false // ever
  let uncaught = false
  let toListen = 0 // sockets of this start
  const late = setTimeout(() => fails(new LaunchError('the proxy process does not listen')), START_LIMIT)
  // The file may be gone, where the package is replaced just now, or no descriptor be left to read it by.
  const untidied = (error: unknown): void =>
    surroundings.untidy(`what its start left in memory stays there: ${reason(error)}`)
  // What our own start has left behind is a tenth of our memory.
  void ready.then(
    () => setTimeout(() => void tidyUp().catch(untidied), TIDY_PAUSE).unref(),
    () => undefined,
  )

  function tell(event: Event): void {
    if (event.kind === 'fault' && event.code === 'UNCAUGHT') uncaught = true
    if (event.kind === 'listening' && --toListen === 0) {
      listened = true
      clearTimeout(late)
      listens()
    }
    // The probe's are nobody's requests.
    if (!('socket' in event) || event.socket < options.sockets.length) report(event)
  }

  const trusted = supervise({
    children,
    command() {
      toListen = sockets.length
      const { hard } = getLimit('memlock')
      return {
        file: self.file,
        ...(program === undefined ? {} : { opened: program }),
        argv,
        env: [],
        ...(rights === undefined ? {} : { rights }),
        limits: {
          memlock: { soft: hard, hard }, // secret memory counts as locked
          ...(steps.has('core') ? { core: { soft: 0n, hard: getLimit('core').hard } } : {}),
        },
      }
    },
    files: [page, ...sockets],
    hear(line) {
      const event = parseEvent(line)
      if (event !== undefined) tell(event)
      return event !== undefined
    },
    served: () => toListen === 0,
    restarting(why, pause) {
      // It says no more than a code when it fails, and before it serves there is one thing that it can lack.
      const next = uncaught ? 'is RLIMIT_MEMLOCK too low? raise it, or report this' : 'it says why above'
      if (!listened) fails(new LaunchError(`the proxy process ${why} at once: ${next}`))
      surroundings.restarting(why, pause)
    },
    patience: STOP_LIMIT,
  })
  const probe = served[options.sockets.length]
  const look =
    probe === undefined
      ? () => undefined
      : watchdog(
          () => trusted.pid,
          () => ask(probe.path),
          (pid) => {
            surroundings.watched?.(`has not answered for ${(LOOK * PATIENCE) / 1000} s: it is killed`)
            send(pid, SIGKILL)
          },
        )
  let over: Promise<void> | undefined
  return {
    get pid() {
      return trusted.pid
    },
    tell: trusted.tell,
    ready,
    look,
    stop: () =>
      (over ??= (async () => {
        clearTimeout(late)
        await trusted.stop()
        release()
      })()),
  }
}

/** A socket beside the first, for the watchdog alone. Whoever cannot be watched is served all the same. */
async function bindProbe(
  [first]: ProxyOptions['sockets'],
  complain: (why: string) => void,
): Promise<{ socket: SocketOptions; bound: Bound } | undefined> {
  const socket = probeAt(`${first?.path}.probe`)
  try {
    return { socket, bound: await bindSocket(socket) }
  } catch (error) {
    complain(`is not watched: ${error instanceof Error ? error.message : 'for no reason'}`)
    return undefined
  }
}

async function tidyUp(): Promise<void> {
  const { tidy } = await import('../os/memory.ts')
  tidy(collector())
}

/** What has V8 collect. With --expose-gc on its command line Node would start 5 ms later, for it has no code compiled for
 * these flags; set now, a new context has it. */
function collector(): typeof globalThis.gc {
  process.getBuiltinModule('node:v8').setFlagsFromString('--expose-gc')
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- as Node's types have it
  return process.getBuiltinModule('node:vm').runInNewContext('gc') as typeof globalThis.gc
}

/** Connections that a socket takes: where there are several, so few that who holds all of one, with as many to flyd, leaves
 * descriptors for the others. Node raises the soft limit to the hard one. */
function roomFor(sockets: number): number {
  const share = Math.floor((Number(getLimit('nofile').hard) - OTHER_FILES) / sockets)
  return Math.max(1, Math.min(CONNECTIONS, Math.floor((share - BESIDE) / (sockets > 1 ? 2 : 1))))
}

/** Steps that a process can only take for itself. */
const LEFT_TO_THE_PROXY: readonly Step[] = ['dumpable', 'new-privileges']

/** What the trusted process may do, on one screen. The permission model is a second wall, not the first. */
export function proxyFlags(permission: boolean): string[] {
  const readable = self.readable.map((path) => `--allow-fs-read=${path}`)
  return [
    '--disable-warning=ExperimentalWarning',
    '--disable-warning=PERM0003', // it warns of --allow-ffi, which is what reaches the secret page
    '--disable-sigusr1', // or the inspector opens for whoever signals it before main.ts has a handler
    '--disable-proto=throw',
    '--disallow-code-generation-from-strings',
    // Less memory for the same speed; and a proxy that leaks ends itself, before the kernel ends somebody else.
    '--max-semi-space-size=1',
    '--v8-pool-size=1',
    '--expose-gc', // main.ts tidies up when it has nothing to do
    '--no-maglev', // the compiler before the last: what it makes is 4 MiB, and soon made again
    `--max-old-space-size=${HEAP_LIMIT}`,
    ...(permission ? ['--permission', '--allow-net', '--allow-ffi', ...readable] : []),
  ]
}

/** `http://host:port`, `https://host:port`, `unix:/path` or `vsock:cid:port`. A path, a query or a user in it is refused:
 * nothing here would use them. */
function parseFlyd(text: string): Target {
  if (text.startsWith('unix:/')) return { path: text.slice('unix:'.length) }
  const [vsock, cid, to] = /^vsock:([0-9]{1,10}):([0-9]{1,10})$/.exec(text) ?? []
  if (vsock !== undefined) return { cid: Number(cid), port: Number(to) }
  const [, scheme, host, port] =
    /^(https?):\/\/(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?\/?$/.exec(text) ?? []
  if (host === undefined)
    throw new LaunchError(
      `flyd URL ${JSON.stringify(text)} is not http://host:port, https://host:port, unix:/path or vsock:cid:port`,
    )
  const secure = scheme === 'https'
  return { host: host.replace(/^\[|\]$/g, ''), port: Number(port ?? (secure ? 443 : 80)), secure }
}

/** Only for https: a plain connection has nobody to verify. The proxy may read no file, so it is given the text. */
async function withCa<T extends object>(flyd: T, file: string | undefined): Promise<T & { ca?: string }> {
  if (file === undefined || !('secure' in flyd) || flyd.secure !== true) return flyd
  const { X509Certificate } = await import('node:crypto')
  const wrong = (what: string): LaunchError => new LaunchError(`flyd CA file ${file} ${what}`)
  let text
  try {
    const found = statSync(file)
    if (!found.isFile()) throw wrong('is not a file')
    if (found.size > CA_LIMIT) throw wrong(`is larger than ${CA_LIMIT} bytes`)
    text = readFileSync(file, 'latin1')
  } catch (error) {
    if (error instanceof LaunchError) throw error
    throw wrong(`cannot be read (${errnoOf(error)})`)
  }
  // The certificates and nothing beside them: a key in the same file must not come into an argument.
  const certificates = text.match(/-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]*-----END CERTIFICATE-----/g) ?? []
  try {
    for (const certificate of certificates) void new X509Certificate(certificate)
  } catch {
    throw wrong('holds a certificate that cannot be read')
  }
  if (certificates.length === 0) throw wrong('holds no certificate in PEM')
  return { ...flyd, ca: `${certificates.join('\n')}\n` }
}

/** By whatever name: a request to ourselves would be one more to ourselves. */
function refuseLoop(path: string, sockets: ProxyOptions['sockets']): void {
  const flyd = statSync(path, { throwIfNoEntry: false })
  for (const socket of sockets) {
    const ours = statSync(socket.path, { throwIfNoEntry: false })
    if (path === socket.path || (flyd !== undefined && flyd.dev === ours?.dev && flyd.ino === ours.ino))
      throw new LaunchError(`flyd is ${path}, which is our own socket`)
  }
}

/** The trusted process's own line. Both ends of the pipe are one source tree, so only the kind is looked at. */
function parseEvent(text: string): Event | undefined {
  try {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the edge where events come in
    const event = JSON.parse(text) as Event
    return typeof event?.kind === 'string' ? event : undefined
  } catch {
    return undefined
  }
}
