// Processes that are measured: started, waited for, looked at through /proc, ended.

import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { connect } from 'node:net'
import type { Launch } from '../peers/peer.ts'

export interface Running {
  readonly pid: number
  /** It and all that it has started. */
  pids(): number[]
  stop(): Promise<void>
}

/** Ended in any case, however this process ends. */
const alive = new Set<number>()
process.on('exit', () => {
  for (const pid of alive) kill(pid, 'SIGKILL')
})
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1))

/** Starts a program; resolves when something accepts at `address`: a path or `127.0.0.1:port`. */
export async function start({ command, args, env }: Launch, address: string): Promise<Running> {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'], env })
  let said = ''
  child.stderr.on('data', (bytes: Buffer) => (said = `${said}${bytes.toString()}`.slice(-2000)))
  const ended = once(child, 'close')
  ended.catch(() => undefined)
  const { pid } = child
  if (pid === undefined) throw new Error(`${command} cannot be started`)
  alive.add(pid)
  let family = [pid]
  const over = (): boolean => child.exitCode !== null || child.signalCode !== null
  async function stop(): Promise<void> {
    family = over() ? [] : treeOf(child.pid ?? 0)
    for (const one of family) alive.add(one)
    if (!over()) child.kill('SIGTERM')
    const late = setTimeout(() => family.forEach((one) => kill(one, 'SIGKILL')), 15_000)
    await ended
    clearTimeout(late)
    for (const one of [pid ?? 0, ...family]) alive.delete(one)
  }
  for (let tries = 0; !(await accepts(address)); tries++) {
    if (over() || tries > 500) {
      await stop()
      throw new Error(`${command} does not listen at ${address}: ${said}`)
    }
    await pause(20)
  }
  return { pid, pids: () => treeOf(pid), stop }
}

export const pause = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms))

function accepts(address: string): Promise<boolean> {
  const [host = '', port = ''] = address.split(':')
  const socket = connect(address.startsWith('/') ? { path: address } : { host, port: Number(port) })
  return new Promise((resolve) => {
    socket.on('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.on('error', () => resolve(false))
  })
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // it ended by itself
  }
}

const numbered = (directory: string): number[] =>
  readdirSync(directory)
    .filter((name) => /^[0-9]+$/.test(name))
    .map(Number)

export function treeOf(root: number): number[] {
  const parents = numbered('/proc').map((pid) => [pid, parentOf(pid)] as const)
  const found = [root]
  for (const parent of found) found.push(...parents.filter(([, of]) => of === parent).map(([pid]) => pid))
  return found
}

function parentOf(pid: number): number {
  try {
    return Number(readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ')[1])
  } catch {
    return -1 // it ended while we looked
  }
}

/** CPU time of the processes so far, ns, all their threads: /proc/PID/stat counts in steps of 10 ms, schedstat does not. */
export function cpuOf(pids: readonly number[]): number {
  let sum = 0
  for (const pid of pids) {
    for (const thread of numbered(`/proc/${pid}/task`)) {
      try {
        sum += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'latin1').split(' ')[0])
      } catch {
        // a thread that ended while we looked
      }
    }
  }
  return sum
}

/** Lets the processes, with all their threads, run on these processors alone, such as `0-1`. */
export function pin(pids: readonly number[], processors: string): void {
  for (const pid of pids) execFileSync('taskset', ['-acp', processors, String(pid)], { stdio: 'ignore' })
}

/** What the whole machine has worked since it was started, ns. */
export function machineCpu(): number {
  const [, user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] =
    readFileSync('/proc/stat', 'latin1').split('\n')[0]?.split(/ +/).map(Number) ?? []
  return (user + nice + system + irq + softirq) * 1e7
}

const KIB = 1024 / 1e6 // in MB

/** Of these processes together, MB: `anonymous` memory, which no file can give back, and `pss`, everything, with the
 * processes' shares of what is shared. */
export function memoryOf(pids: readonly number[]): { anonymous: number; pss: number } {
  const sum = { anonymous: 0, pss: 0 }
  for (const pid of pids) {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1')
    const of = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)?.[1]) * KIB
    sum.anonymous += of('Anonymous')
    sum.pss += of('Pss')
  }
  return sum
}

/** Their anonymous memory alone, MB: cheap enough to ask often. */
export function anonymousOf(pids: readonly number[]): number {
  let sum = 0
  for (const pid of pids) {
    try {
      sum += Number(/^RssAnon:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) * KIB
    } catch {
      // a process that ended while we looked
    }
  }
  return sum
}
