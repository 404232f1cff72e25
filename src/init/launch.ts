// Starts the trusted process and keeps it running. The rights it gets are the launch line below and nothing else:
// an empty environment, no inspector, no files but its own source, the page, the sockets, one pipe each way.

import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { closeSync, unlinkSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Event } from '../proxy/event.ts'
import { errnoOf } from '../os/errno.ts'
import { loadMacaroon } from './credential.ts'
import { LaunchError } from './error.ts'
import type { ProxyOptions } from './options.ts'
import { bindSocket } from './sockets.ts'

const FIRST_INHERITED = 3
const START_LIMIT = 10_000 // ms until the first start must have listened
const BACK_OFF_MIN = 50 // ms
const BACK_OFF_MAX = 5_000
const STEADY = 10_000 // ms after which a start counts as a good one

const extension = import.meta.url.slice(import.meta.url.lastIndexOf('.'))
const ENTRY = fileURLToPath(new URL(`../proxy/main${extension}`, import.meta.url))
const SOURCE = dirname(dirname(ENTRY))

/** The running proxy. */
export interface Proxy {
  /** Of the trusted process as it is now; another one after a restart. */
  readonly pid: number
  /** Drains it and ends it, removes the sockets. */
  stop(): Promise<void>
}

/** Binds the sockets, loads the macaroon, starts the trusted process and, whenever it dies, starts it again with
 * back-off and jitter. Resolves when it listens. Throws a LaunchError for a mistake in the options. */
export async function superviseProxy(options: ProxyOptions, report: (event: Event) => void): Promise<Proxy> {
  const flyd = parseFlyd(options.flyd)
  const ours = options.sockets.map(({ path }) => path)
  if ('path' in flyd && ours.includes(flyd.path)) throw new LaunchError(`flyd is ${flyd.path}, which is our own socket`)
  const { fd: page } = loadMacaroon(options.macaroon)
  const sockets: number[] = []
  const release = (): void => {
    for (const [i, fd] of sockets.entries()) {
      closeSync(fd)
      unlinkQuietly(ours[i] ?? '')
    }
    closeSync(page)
  }
  try {
    for (const socket of options.sockets) sockets.push(await bindSocket(socket))
  } catch (error) {
    release()
    throw error
  }

  const line = JSON.stringify({
    page: FIRST_INHERITED,
    flyd,
    sockets: options.sockets.map(({ policy, allow, audiences, uid }, i) => ({
      fd: FIRST_INHERITED + 1 + i,
      preset: policy,
      allow,
      audiences,
      uid,
      app: options.app,
      machine: options.machine,
    })),
  })

  let child: ChildProcess | undefined
  let stopping = false
  let pause = BACK_OFF_MIN
  let waiting: NodeJS.Timeout | undefined
  const { promise: ready, resolve: listens, reject: fails } = Promise.withResolvers<void>()
  const { promise: ended, resolve: end } = Promise.withResolvers<void>()
  let toListen = sockets.length

  function start(): void {
    const began = performance.now()
    child = spawn(process.execPath, [...FLAGS, ENTRY, line], {
      env: {},
      stdio: ['pipe', 'pipe', 'inherit', page, ...sockets],
    })
    const { stdout } = child
    if (stdout === null) throw new Error('the event pipe is missing')
    createInterface({ input: stdout }).on('line', (text) => {
      const event = parseEvent(text)
      if (event.kind === 'listening' && --toListen === 0) listens()
      report(event)
    })
    child.on('error', (error) => fails(new LaunchError('the proxy process cannot be started', { cause: error })))
    child.on('close', (code, signal) => {
      if (stopping) {
        end()
        return
      }
      if (toListen > 0) fails(new LaunchError(`the proxy process ended at once (${signal ?? code}): it says why above`))
      if (performance.now() - began > STEADY) pause = BACK_OFF_MIN
      waiting = setTimeout(start, pause * (0.5 + Math.random()))
      pause = Math.min(pause * 2, BACK_OFF_MAX)
    })
  }

  async function stop(): Promise<void> {
    stopping = true
    clearTimeout(waiting)
    if (child?.exitCode === null && child.signalCode === null) {
      child.kill('SIGTERM')
      await ended
    }
    release()
  }

  start()
  const late = setTimeout(() => fails(new LaunchError('the proxy process does not listen')), START_LIMIT)
  try {
    await ready
  } catch (error) {
    await stop()
    throw error
  } finally {
    clearTimeout(late)
  }
  return {
    get pid() {
      return child?.pid ?? -1
    },
    stop,
  }
}

/** What the trusted process may do, on one screen. The permission model is a second wall, not the first. */
const FLAGS = [
  '--disable-warning=ExperimentalWarning',
  '--disable-warning=PERM0003', // it warns of --allow-ffi, which is what reaches the secret page
  '--disable-proto=throw',
  '--disallow-code-generation-from-strings',
  '--permission',
  '--allow-net',
  '--allow-ffi',
  `--allow-fs-read=${SOURCE}`,
]

/** `http://host:port`, `https://host:port` or `unix:/path`. A path, a query or a user in it is refused: nothing here
 * would use them. */
function parseFlyd(text: string): { path: string } | { host: string; port: number; secure: boolean } {
  if (text.startsWith('unix:/')) return { path: text.slice('unix:'.length) }
  const [, scheme, host, port] =
    /^(https?):\/\/(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?\/?$/.exec(text) ?? []
  if (host === undefined)
    throw new LaunchError(`flyd URL ${JSON.stringify(text)} is not http://host:port, https://host:port or unix:/path`)
  const secure = scheme === 'https'
  return { host: host.replace(/^\[|\]$/g, ''), port: Number(port ?? (secure ? 443 : 80)), secure }
}

/** The trusted process's own line. Both ends of the pipe are one source tree, so only the kind is looked at. */
function parseEvent(text: string): Event {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the edge where events come in
  const event = JSON.parse(text) as Event
  if (typeof event?.kind !== 'string') throw new Error('the proxy said something that is no event')
  return event
}

function unlinkQuietly(path: string): void {
  try {
    unlinkSync(path)
  } catch (error) {
    // A sandbox may have removed it on purpose.
    if (errnoOf(error) !== 'ENOENT') throw error
  }
}
