// One process that is kept running: started with a pipe each way, started again with back-off and jitter whenever it
// ends, ended in order. It is started by posix_spawn, as everything is here: what child_process starts, libuv waits
// for, and init waits for all.

import { closeSync } from 'node:fs'
import type { Socket } from 'node:net'
import { signalName, send } from '../os/signals.ts'
import { pipe, spawn } from '../os/spawn.ts'
import type { Command } from '../os/spawn.ts'
import type { Outside } from '../os/tree.ts'
import { exitCode } from '../os/wait.ts'
import type { Children } from '../os/wait.ts'
import { readLines } from './lines.ts'
import type { Lines } from './lines.ts'

const SIGKILL = 9
const SIGTERM = 15
const BACK_OFF_MIN = 50 // ms
const BACK_OFF_MAX = 5_000
const UNREAD_LIMIT = 1 << 20 // bytes told and not yet read

/** What to keep running, and what becomes of what it says. */
export interface Work {
  readonly children: Children
  /** Asked at every start. Its descriptors 0, 1 and 2 are our pipes and our standard error, `files` follow. */
  readonly command: () => Omit<Command, 'files'>
  /** Where it is started, if not where we are. */
  readonly outside?: Outside
  readonly files?: readonly number[]
  /** A line of its standard output; false for one that ours cannot say, and then the process is killed. */
  readonly hear: (line: string) => boolean
  /** It ended by itself, `ran` ms after its start: whether it had served. What has served is started again at once, or
   * nearly; what cannot even start, ever more slowly. */
  readonly served: (ran: number) => boolean
  /** The same, told when it is known when the next one starts, in ms. */
  readonly restarting: (why: string, pause: number) => void
  /** ms between TERM and KILL. */
  readonly patience: number
}

export interface Supervised {
  /** As it is now, another after a restart; -1 while there is none. */
  readonly pid: number
  /** Gives it a line on its standard input; dropped where there is nobody, or nobody who reads. */
  readonly tell: (line: string) => void
  /** Ends it, and starts no other. */
  stop(): Promise<void>
}

/** Starts it in the next turn of the event loop, so that this one is for what is more urgent, and keeps it running until
 * it is stopped. */
export function supervise(work: Work): Supervised {
  const { children, files = [], outside = (run) => run() } = work
  let pid = -1
  let input: Socket | undefined // its end tells the process that we are gone
  let pause = BACK_OFF_MIN
  let waiting: NodeJS.Timeout | undefined
  let stopping = false
  const { promise: ended, resolve: end } = Promise.withResolvers<void>()

  function start(): void {
    const told = pipe()
    const output = orClose(told, pipe)
    const started = orClose(told, () =>
      orClose(output, () => outside(() => spawn({ ...work.command(), files: [told.read, output.write, 2, ...files] }))),
    )
    closeSync(told.read)
    closeSync(output.write)
    if ('refused' in started) {
      closeSync(told.write)
      closeSync(output.read)
      again(`cannot be started (${started.refused})`, 0)
      return
    }
    pid = started.pid
    // Only now: its streams take Node as long to load as the entrypoint, which may be waiting for this turn to end, to run.
    const { Socket } = process.getBuiltinModule('node:net')
    const stdin = new Socket({ fd: told.write, readable: false, writable: true })
    stdin.on('error', () => stdin.destroy()) // it has ended, which is heard elsewhere
    input = stdin
    const lines = readLines(output.read, work.hear, () => kill(SIGKILL))
    void watch(pid, stdin, lines)
  }

  /** Out of descriptors, say: tried until it goes, for whoever waits at the socket waits for this. */
  function startAgain(): void {
    try {
      start()
    } catch (error) {
      again(`cannot be started (${error instanceof Error ? error.message : 'for no reason'})`, 0)
    }
  }

  async function watch(from: number, stdin: Socket, lines: Lines): Promise<void> {
    const since = process.uptime() // performance.now() would load a module that nothing else here needs
    const ending = await children.ending(from)
    // From here on the number may be another process's.
    pid = -1
    stdin.destroy()
    input = undefined
    lines.finish()
    await lines.ended
    if (stopping) end()
    else
      again(
        'code' in ending ? `ended with code ${exitCode(ending)}` : `was killed by ${signalName(ending.signal)}`,
        (process.uptime() - since) * 1000,
      )
  }

  function again(why: string, ran: number): void {
    pause = work.served(ran) ? BACK_OFF_MIN : Math.min(pause * 2, BACK_OFF_MAX)
    const wait = pause * (0.5 + Math.random())
    waiting = setTimeout(startAgain, wait)
    work.restarting(why, wait)
  }

  function kill(signal: number): void {
    if (pid > 0) send(pid, signal)
  }

  async function stop(): Promise<void> {
    if (stopping) return ended
    stopping = true
    clearImmediate(first)
    clearTimeout(waiting)
    if (pid > 0) kill(SIGTERM)
    else end()
    const last = setTimeout(kill, work.patience, SIGKILL)
    await ended
    clearTimeout(last)
  }

  const first = setImmediate(startAgain)
  return {
    get pid() {
      return pid
    },
    tell(line) {
      if (input !== undefined && input.writableLength < UNREAD_LIMIT) input.write(`${line}\n`)
    },
    stop,
  }
}

function orClose<T>(ends: ReturnType<typeof pipe>, make: () => T): T {
  try {
    return make()
  } catch (error) {
    closeSync(ends.read)
    closeSync(ends.write)
    throw error
  }
}
