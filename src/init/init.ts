// A Machine's first process, as it lives: give up rights, hold the credential's page, open the socket, run the image's
// program, wait for everybody, end. It speaks no HTTP and reads nothing that a guest wrote.

import { appendFileSync, chownSync, readFileSync, writeFileSync } from 'node:fs'
import { errnoOf } from '../os/errno.ts'
import { getLimit } from '../os/limits.ts'
import { mountAll, mountDevice, raise, setHostname } from '../os/mount.ts'
import { adoptOrphans, descendants } from '../os/processes.ts'
import { endMachine, firstOfKernel } from '../os/reboot.ts'
import { listen, send, SIGRTMAX, SIGRTMIN, signalName } from '../os/signals.ts'
import type { Outside } from '../os/tree.ts'
import { lookUp } from '../os/users.ts'
import type { User } from '../os/users.ts'
import { Children, exitCode } from '../os/wait.ts'
import type { Ending } from '../os/wait.ts'
import { Failure } from '../errors.ts'
import type { Event } from '../proxy/event.ts'
import { takeConfig } from './config.ts'
import type { Config } from './config.ts'
import { environment, start } from './entrypoint.ts'
import type { Variables } from './entrypoint.ts'
import { LaunchError } from './error.ts'
import { harden } from './harden.ts'
import { launchProxy, openProxy } from './launch.ts'
import type { Log } from './log.ts'
import type { ProxyOptions } from './options.ts'
import type { Step } from './steps.ts'
import type { MetricsAddress } from '../metrics/address.ts'
import type { Metrics } from './metrics.ts'
import type { Supervised } from './supervise.ts'
import { LOOK } from './watchdog.ts'

export type OnExit = 'exit' | 'poweroff' | 'reboot'

export interface InitOptions {
  proxy: ProxyOptions
  /** May be empty where the configuration file has one. */
  command: readonly string[]
  env: Variables
  /** `user[:group]`; without it, who we are. */
  user?: string
  /** What asks the entrypoint to end, and ms until it is no longer asked. */
  killSignal: number
  killTimeout: number
  /** Without it: a Machine ends when its first process does, a container by itself. */
  onExit?: OnExit
  /** Mount what an empty root lacks. */
  mount: boolean
  /** A file in the form of run.json, read and removed. */
  config?: string
  steps: ReadonlySet<Step>
  /** Where a process of its own serves metrics and health. */
  metrics?: MetricsAddress
  /** What must be there before the entrypoint starts, such as token files. A Failure of it is said as it is, and the
   * entrypoint is not started. */
  prepare?: (boot: Boot) => Promise<Prepared>
}

/** What is known of the entrypoint before it starts. */
export interface Boot {
  /** Its environment: ours, and what the configuration file adds to it. */
  readonly env: Variables
  /** Who it will be; undefined where we are not root, and all is ours anyway. */
  readonly owner: { readonly uid: number; readonly gid: number } | undefined
  readonly children: Children
  /** Where programs of the image are started. */
  readonly outside: Outside
  /** Asked to end: nobody waits for what is prepared any more. Made when it is first asked for, since Node takes 0.6 ms to
   * load what makes it. */
  readonly unwanted: () => AbortSignal
}

export interface Prepared {
  /** These join the entrypoint's environment. */
  readonly variables: Variables
  /** Ended when all programs have. */
  readonly companion?: Supervised
}

const HUP = 1
const INT = 2
const QUIT = 3
const KILL = 9
const USR1 = 10
const USR2 = 12
const TERM = 15
const CONT = 18
const WINCH = 28
const REAL_TIME = Array.from({ length: SIGRTMAX - SIGRTMIN + 1 }, (_, i) => SIGRTMIN + i)

/** What is sent to init is meant for the entrypoint. */
const FORWARDED: readonly number[] = [HUP, INT, QUIT, USR1, USR2, TERM, WINCH, ...REAL_TIME]

const LOOK_AGAIN = 20 // ms between looks at who is left

/** Runs a Machine until its entrypoint has ended and nobody else is left. Returns the exit code to end with; where the
 * end of init is the end of the Machine, it does not return. */
export async function init(options: InitOptions, log: Log, report: (event: Event) => void): Promise<number> {
  // From here on nothing may throw its way out: where we are PID 1, our end is a kernel panic.
  const survive = (error: unknown): void => log.line('error', `init goes on after an error: ${describe(error)}`)
  process.on('uncaughtException', survive)
  process.on('unhandledRejection', survive)

  const machine = new Machine(options, log)
  let code = 1
  try {
    code = await machine.run(report)
  } catch (error) {
    log.line(
      'error',
      error instanceof LaunchError || error instanceof Failure ? error.message : `init failed: ${describe(error)}`,
    )
  }
  try {
    await machine.end()
  } catch (error) {
    survive(error)
  }
  const how = options.onExit ?? defaultExit()
  log.line('debug', `init ends by ${how} with code ${code}`)
  await log.flush()
  return how === 'exit' ? code : endMachine(how)
}

class Machine {
  readonly #options: InitOptions
  readonly #log: Log
  readonly #children: Children
  #proxy: Supervised | undefined
  #companion: Supervised | undefined
  #metrics: Metrics | undefined
  #main = 0 // the entrypoint's pid, 0 before and after
  #early: number[] = [] // signals that came before it
  #unwanted: AbortController | undefined // it was asked to end before it was there
  #stopping: NodeJS.Timeout | undefined
  #looking: NodeJS.Timeout | undefined

  constructor(options: InitOptions, log: Log) {
    this.#options = options
    this.#log = log
    adoptOrphans()
    this.#children = new Children((pid, ending) => this.#buried(pid, ending))
    listen(FORWARDED, (signal) => this.#forward(signal))
  }

  async run(report: (event: Event) => void): Promise<number> {
    const { steps, mount } = this.#options
    if (mount) this.#complain(mountAll())
    const config = this.#options.config === undefined ? undefined : takeConfig(this.#options.config)
    const command = config?.command ?? this.#options.command
    if (command.length === 0) throw new LaunchError('there is nothing to run: give a command after --')
    const user = whoIs(this.#options.user ?? config?.user)
    if (mount || config !== undefined) this.#furnish(config, user)
    const machine = isFirst()
    // Whoever dials waits from here on: it takes none of what is given up next.
    const opened = await openProxy(this.#options.proxy)
    // When all is mounted and before anything is started: what is given up here no child has ever had.
    const { faults, outside } = harden(steps, machine)
    this.#complain(faults)

    // Before the proxy: what is counted is all that it says.
    if (this.#options.metrics !== undefined) await this.#count(this.#options.metrics)
    const tell = (event: Event): void => {
      report(event)
      this.#metrics?.event(event)
    }
    const proxy = await launchProxy(this.#options.proxy, opened, tell, {
      children: this.#children,
      steps,
      restarting: (why, pause) => {
        this.#log.line('warn', `[fly api proxy] ${why}, starting it again in ${Math.round(pause)} ms`)
        this.#metrics?.away()
      },
      untidy: (why) => this.#log.line('warn', `[fly api proxy] ${why}`),
      watched: (why) => this.#log.line('warn', `[fly api proxy] ${why}`),
    })
    this.#proxy = proxy
    this.#looking = setInterval(() => proxy.look(), LOOK)
    proxy.ready.catch((error: unknown) => this.#log.line('error', `[fly api proxy] ${describe(error)}`))

    const env = { ...this.#options.env, ...config?.env }
    const prepared = await this.#options.prepare?.({
      env,
      owner: process.geteuid?.() === 0 ? { uid: user.uid, gid: user.gid } : undefined,
      children: this.#children,
      outside,
      unwanted: () => this.#whenUnwanted(),
    })
    this.#companion = prepared?.companion
    // Who is asked to end while a token is waited for must not wait for it: the host's patience is short.
    const asked = prepared?.companion === undefined ? undefined : this.#early.find((signal) => this.#asksToEnd(signal))
    if (asked !== undefined) {
      this.#log.line('warn', `${signalName(asked)} came before the entrypoint was started: it never is`)
      return 128 + asked
    }
    this.#log.line('info', `Preparing to run: \`${command.join(' ')}\` as ${user.name}`)
    const started = outside(() =>
      start({
        command,
        user,
        env: environment({ ...env, ...prepared?.variables }, user),
        cwd: config?.cwd ?? process.cwd(),
        // Ours is soft 0; a program may dump core as the image's maker wished.
        limits: { core: ORIGINAL_CORE },
      }),
    )
    if ('code' in started) {
      this.#log.line('error', started.why)
      return started.code
    }
    this.#main = started.pid
    const ending = this.#children.ending(started.pid)
    for (const signal of this.#early.splice(0)) this.#forward(signal)
    const ended = await ending
    this.#main = 0
    this.#log.line('info', `Main child exited ${told(ended)}`)
    return exitCode(ended)
  }

  /** Everybody else ends too: asked first, the proxy last, for a program may want a token to say goodbye with; so files
   * are kept until there are no programs. */
  async end(): Promise<void> {
    clearTimeout(this.#stopping)
    this.#log.line('info', 'Starting clean up.')
    await this.#sweep()
    await this.#companion?.stop()
    clearInterval(this.#looking)
    await this.#proxy?.stop()
    await this.#metrics?.stop()
    this.#children.close()
  }

  /** Metrics that cannot be had are said, and the boot goes on. */
  async #count(address: MetricsAddress): Promise<void> {
    const lost = (why: string): void => this.#log.line('error', `[metrics] ${why}: there are none`)
    try {
      const { keepMetrics } = await import('./metrics.ts')
      this.#metrics = await keepMetrics(address, this.#options.proxy.sockets, this.#options.steps.has('proxy-user'), {
        children: this.#children,
        restarting: (why, pause) =>
          this.#log.line('warn', `[metrics] their process ${why}, starting it again in ${Math.round(pause)} ms`),
        failed: lost,
      })
    } catch (error) {
      lost(describe(error))
    }
  }

  #forward(signal: number): void {
    if (this.#main === 0) {
      this.#early.push(signal)
      if (this.#asksToEnd(signal)) this.#unwanted?.abort()
      return
    }
    send(this.#main, signal)
    if (this.#asksToEnd(signal)) this.#stop()
  }

  #whenUnwanted(): AbortSignal {
    this.#unwanted ??= new AbortController()
    if (this.#early.some((signal) => this.#asksToEnd(signal))) this.#unwanted.abort()
    return this.#unwanted.signal
  }

  #asksToEnd(signal: number): boolean {
    return signal === this.#options.killSignal || signal === TERM
  }

  /** Asked to end: after the time that is given for it, everything is, first TERM and then KILL. */
  #stop(): void {
    this.#stopping ??= setTimeout(() => {
      this.#log.line('warn', `the entrypoint did not end within ${this.#options.killTimeout} ms`)
      void this.#sweep()
    }, this.#options.killTimeout)
  }

  /** TERM to everybody but the proxy and its companion, KILL after the same time again, until nobody is left. */
  async #sweep(): Promise<void> {
    const deadline = performance.now() + this.#options.killTimeout
    if (this.#programs() === undefined) {
      await this.#sweepBlind(deadline)
      return
    }
    const asked = new Set<number>()
    for (;;) {
      const left = this.#programs() ?? []
      if (left.length === 0) return
      const late = performance.now() > deadline
      for (const pid of left) {
        if (late) send(pid, KILL)
        else if (!asked.has(pid)) {
          asked.add(pid)
          send(pid, TERM)
          send(pid, CONT) // a stopped process hears nothing else
        }
      }
      await pause(LOOK_AGAIN)
    }
  }

  /** Everybody who is not ours; undefined where /proc does not tell. */
  #programs(): number[] | undefined {
    const ours = [this.#companion?.pid, this.#metrics?.pid]
    return descendants(this.#proxy?.pid ?? -1)?.filter((pid) => !ours.includes(pid))
  }

  /** Without /proc: as PID 1 the kernel itself knows who everybody is, though not who the proxy is. */
  async #sweepBlind(deadline: number): Promise<void> {
    if (process.pid !== 1) return
    await this.#companion?.stop() // or they would be started again
    await this.#metrics?.stop()
    send(-1, TERM)
    send(-1, CONT)
    while (performance.now() < deadline && !this.#children.childless) await pause(LOOK_AGAIN)
    send(-1, KILL)
  }

  #buried(pid: number, ending: Ending): void {
    if ('code' in ending) this.#log.line('debug', `Reaped child process with pid: ${pid}, exit code: ${ending.code}`)
    else
      this.#log.line(
        'warn',
        `Reaped child process with pid: ${pid} and signal: ${signalName(ending.signal)}, core dumped? ${ending.core}`,
      )
  }

  /** Names, hosts, volumes: what a Machine's own configuration says of it. What fails is said, and the boot goes on. */
  #furnish(config: Config | undefined, user: User): void {
    const attempt = (what: string, run: () => void): void => {
      try {
        run()
      } catch (error) {
        this.#complain([`${what}: ${describe(error)}`])
      }
    }
    attempt('loopback', () => raise('lo'))
    if (config === undefined) return
    const { hostname, nameservers, hosts, mounts } = config
    if (hostname !== undefined) attempt('hostname', () => setHostname(hostname))
    if (nameservers.length > 0)
      attempt('resolv.conf', () =>
        writeFileSync('/etc/resolv.conf', nameservers.map((ip) => `nameserver ${ip}\n`).join('')),
      )
    if (hosts.length > 0)
      attempt('hosts', () => appendFileSync('/etc/hosts', hosts.map(({ ip, host }) => `${ip} ${host}\n`).join('')))
    for (const { device, path } of mounts) {
      attempt(`volume ${path}`, () => {
        mountDevice(device, path, 'ext4')
        chownSync(path, user.uid, user.gid)
      })
    }
  }

  #complain(faults: readonly string[]): void {
    for (const fault of faults) this.#log.line('warn', fault)
  }
}

// Read before any step lowers it.
const ORIGINAL_CORE = getLimit('core')

function whoIs(word: string | undefined): User {
  const uid = process.geteuid?.() ?? 0
  try {
    const user = lookUp(word ?? String(uid))
    if (uid !== 0 && user.uid !== uid) throw new Error(`only root can run a program as ${user.name}`)
    // Who is not root keeps what it has: its groups cannot be set anyway.
    return user
  } catch (error) {
    throw new LaunchError(describe(error), { cause: error })
  }
}

function told(ending: Ending): string {
  return 'code' in ending
    ? `normally with code: ${ending.code}`
    : `with signal (with signal '${signalName(ending.signal)}', core dumped? ${ending.core})`
}

/** A Machine's kernel panics when its init just ends. Firecracker's has `reboot=k` and takes a reboot for its end. */
function defaultExit(): OnExit {
  if (!isFirst()) return 'exit'
  try {
    return /(?:^|\s)reboot=k/.test(readFileSync('/proc/cmdline', 'utf8')) ? 'reboot' : 'poweroff'
  } catch {
    return 'poweroff'
  }
}

/** Without /proc nobody can tell; a PID 1 that has none, and was not asked to mount it, is a container's. */
function isFirst(): boolean {
  try {
    return firstOfKernel()
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false
    throw error
  }
}

const describe = (error: unknown): string => (error instanceof Error ? error.message : String(error))
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
