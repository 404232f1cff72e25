// Starts the keeper of token files, a client of the socket like any other, and keeps it running: a process of its own,
// so that init stays without HTTP, and nothing of it is loaded where nobody asks for token files.

import { Failure } from '../errors.ts'
import type { IdentityEvent } from '../identity/event.ts'
import type { Launch, Said } from '../identity/main.ts'
import { executable } from '../os/self.ts'
import type { Outside } from '../os/tree.ts'
import type { Children } from '../os/wait.ts'
import { supervise } from './supervise.ts'
import type { Supervised } from './supervise.ts'

export interface Surroundings {
  readonly children: Children
  /** Where the files are to be: a program of the image may mount there what it likes. */
  readonly outside: Outside
  /** Waiting is over: the Machine is asked to end. */
  readonly signal: AbortSignal
  readonly report: (event: IdentityEvent) => void
  /** It ended and is about to be started again. */
  readonly restarting: (why: string, pause: number) => void
}

const START_SLACK = 5_000 // ms beyond the waiting time, for a process that does not even say that it failed
const STOP_LIMIT = 2_000 // ms; it has nothing to finish but a file that it is just writing
const STEADY = 10_000 // ms after which an end is a new story, not the same mistake again

const self = executable('identity')

/** The first of its walls, see src/identity/fence.ts for the others. */
export const FLAGS: readonly string[] = [
  '--disable-warning=ExperimentalWarning',
  '--disable-warning=PERM0003', // it warns of --allow-ffi, which is how owners and modes are set
  '--disable-sigusr1',
  '--disable-proto=throw',
  '--disallow-code-generation-from-strings',
  '--permission',
  '--allow-net',
  '--allow-ffi',
  '--allow-fs-read=*', // its parents are looked at to judge a directory; Landlock is what limits reading
]

/** Resolves when the entrypoint may start: the files are there, or it is not to wait for them any longer. Throws a
 * Failure of one line when it shall not start, and then nothing is left running. */
export async function keepTokens(launch: Launch, surroundings: Surroundings): Promise<Supervised> {
  const { children, outside, signal, report, restarting } = surroundings
  const { limit, otherwise } = launch.wait
  let started = false // ever
  const { promise: ready, resolve: go, reject: refuse } = Promise.withResolvers<void>()

  const keeper = supervise({
    children,
    outside,
    command() {
      // The second of its kind does not say again what is wrong with the environment, and has nobody to fail for.
      const { plan, wait } = launch
      const again: Launch = {
        ...launch,
        plan: { ...plan, problems: [], notices: [] },
        wait: { ...wait, otherwise: 'continue' },
      }
      return {
        file: self.file,
        argv: ['dotfly', ...self.args(FLAGS, [JSON.stringify(started ? again : launch)])],
        // Neither NODE_OPTIONS nor a proxy's address: what it needs it is told.
        env: [],
      }
    },
    hear(line) {
      const said = parse(line)
      if (said !== undefined) hear(said)
      return said !== undefined
    },
    served: (ran) => ran > STEADY,
    restarting,
    patience: STOP_LIMIT,
  })

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
        void keeper.stop() // it ends by itself, and nobody wants another
        refuse(new Failure(said.message))
        return
      default:
        said satisfies never
    }
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
    await ready
    return keeper
  } catch (error) {
    await keeper.stop()
    throw error
  } finally {
    clearTimeout(late)
    signal.removeEventListener('abort', given)
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
