// Starts the keeper of token files, a client of the socket like any other, and keeps it running: a process of its own,
// so that init stays without HTTP, and nothing of it is loaded where nobody asks for token files.

import { closeSync } from 'node:fs'
import { Failure } from '../errors.ts'
import type { IdentityEvent } from '../identity/event.ts'
import type { Launch, Said } from '../identity/main.ts'
import { executable } from '../os/self.ts'
import { send, signalName } from '../os/signals.ts'
import { pipe, spawn } from '../os/spawn.ts'
import type { Children } from '../os/wait.ts'
import { readLines } from './lines.ts'

/** A process beside the proxy that init keeps running for as long as there are programs. */
export interface Companion {
  /** As it is now, another after a restart; -1 while there is none. */
  readonly pid: number
  stop(): Promise<void>
}

export interface Surroundings {
  readonly children: Children
  /** Waiting is over: the Machine is asked to end. */
  readonly signal: AbortSignal
  readonly report: (event: IdentityEvent) => void
  /** It ended and is about to be started again. */
  readonly restarting: (why: string, pause: number) => void
}

const SIGKILL = 9
const SIGTERM = 15
const START_SLACK = 5_000 // ms beyond the waiting time, for a process that does not even say that it failed
const STOP_LIMIT = 2_000 // ms; it has nothing to finish but a file that it is just writing
const BACK_OFF_MIN = 50 // ms
const BACK_OFF_MAX = 5_000
const STEADY = 10_000 // ms after which an end is a new story, not the same mistake again

const self = executable('identity')
const FLAGS = ['--disable-warning=ExperimentalWarning', '--disable-sigusr1', '--disable-proto=throw']

/** Resolves when the entrypoint may start: the files are there, or it is not to wait for them any longer. Throws a
 * Failure of one line when it shall not start, and then nothing is left running. */
export async function keepTokens(launch: Launch, surroundings: Surroundings): Promise<Companion> {
  const { children, signal, report, restarting } = surroundings
  const { limit, otherwise } = launch.wait
  let pid = -1
  let stdin = -1 // our end; closing it tells the keeper that we are gone
  let stopping = false
  let started = false // ever
  let pause = BACK_OFF_MIN
  let waiting: NodeJS.Timeout | undefined
  const { promise: ready, resolve: go, reject: refuse } = Promise.withResolvers<void>()
  const { promise: ended, resolve: end } = Promise.withResolvers<void>()

  function start(): void {
    const input = pipe()
    const output = pipe()
    // The second of its kind does not say again what is wrong with the environment, and has nobody to fail for.
    const { plan, wait } = launch
    const again: Launch = {
      ...launch,
      plan: { ...plan, problems: [], notices: [] },
      wait: { ...wait, otherwise: 'continue' },
    }
    const child = spawn({
      file: self.file,
      argv: ['dotfly', ...self.args(FLAGS, [JSON.stringify(started ? again : launch)])],
      // Neither NODE_OPTIONS nor a proxy's address: what it needs it is told.
      env: [],
      files: [input.read, output.write, 2],
    })
    closeSync(input.read)
    closeSync(output.write)
    if ('refused' in child) {
      closeSync(input.write)
      closeSync(output.read)
      restart(`cannot be started (${child.refused})`)
      return
    }
    pid = child.pid
    stdin = input.write
    void watch(child.pid, readLines(output.read, child.pid, judge), performance.now())
  }

  async function watch(from: number, heard: Promise<void>, since: number): Promise<void> {
    const [ending] = await Promise.all([children.ending(from), heard])
    closeSync(stdin)
    pid = -1
    if (performance.now() - since > STEADY) pause = BACK_OFF_MIN
    if (stopping) end()
    else restart('code' in ending ? `ended with code ${ending.code}` : `was killed by ${signalName(ending.signal)}`)
  }

  function judge(line: string): boolean {
    const said = parse(line)
    if (said !== undefined) hear(said)
    return said !== undefined
  }

  function hear(said: Said): void {
    switch (said.kind) {
      case 'event':
        report(said.event)
        return
      case 'started':
        started = true
        go()
        return
      case 'failed':
        stopping = true // it ends by itself, and nobody wants another
        refuse(new Failure(said.message))
        return
      default:
        said satisfies never
    }
  }

  function restart(why: string): void {
    const wait = pause * (0.5 + Math.random())
    pause = Math.min(pause * 2, BACK_OFF_MAX)
    waiting = setTimeout(start, wait)
    restarting(why, wait)
  }

  async function stop(): Promise<void> {
    stopping = true
    clearTimeout(waiting)
    if (pid > 0) send(pid, SIGTERM)
    else end()
    const last = setTimeout(() => pid > 0 && send(pid, SIGKILL), STOP_LIMIT)
    await ended
    clearTimeout(last)
  }

  const late = setTimeout(() => {
    started = true // whoever comes after is not the first
    if (otherwise === 'continue') go()
    else refuse(new Failure('the keeper of token files does not start: see the lines above, or dotfly doctor'))
  }, limit + START_SLACK)
  const given = (): void => go()
  signal.addEventListener('abort', given)
  if (signal.aborted) go()
  try {
    start()
    await ready
  } catch (error) {
    await stop()
    throw error
  } finally {
    clearTimeout(late)
    signal.removeEventListener('abort', given)
  }
  return {
    get pid() {
      return pid
    },
    stop,
  }
}

/** Both ends of the pipe are one source tree, so only the kind is looked at. */
function parse(text: string): Said | undefined {
  try {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the edge where lines come in
    const said = JSON.parse(text) as Said
    return ['event', 'started', 'failed'].includes(said?.kind) ? said : undefined
  } catch {
    return undefined
  }
}
