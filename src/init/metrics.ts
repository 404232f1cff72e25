// Starts the process that serves init's metrics, and keeps it running and informed.

import type { MetricsAddress } from '../metrics/address.ts'
import type { Launch, Said, Told } from '../metrics/main.ts'
import { executable } from '../os/self.ts'
import type { Rights } from '../os/spawn.ts'
import type { Event } from '../proxy/event.ts'
import type { SocketOptions } from './options.ts'
import { checkReachable } from './reach.ts'
import { bindSocket } from './sockets.ts'
import { supervise } from './supervise.ts'
import type { Supervised, Work } from './supervise.ts'

/** Not the proxy's: who is reached over HTTP must not be able to send it signals. */
const RIGHTS: Rights = { uid: 65531, gid: 65531, groups: [] }
const FLAGS = ['--disable-warning=ExperimentalWarning', '--disable-sigusr1', '--disable-proto=throw']
const STEADY = 10_000 // ms after which an end is a new story
const STOP_LIMIT = 1_000 // ms; it has nothing to finish

export interface Metrics extends Supervised {
  event(event: Event): void
  /** The trusted process has ended by itself. */
  away(): void
}

/** Counts from now on. `failed` is told, once, that it never will. Throws a LaunchError where the socket cannot be
 * bound. */
export async function keepMetrics(
  address: MetricsAddress,
  sockets: readonly SocketOptions[],
  unprivileged: boolean,
  work: Pick<Work, 'children' | 'restarting'> & { readonly failed: (why: string) => void },
): Promise<Metrics> {
  const self = executable('metrics')
  const rights = unprivileged && process.geteuid?.() === 0 ? RIGHTS : undefined
  if (rights !== undefined) checkReachable(rights, self, undefined)
  // Bound here, as the guests' sockets are: a restart refuses no scrape, and the process needs no right to a directory.
  const bound =
    'path' in address
      ? await bindSocket({ path: address.path, mode: 0o755, policy: 'token', allow: [], audiences: [] })
      : undefined
  const launch: Launch = { address: 'host' in address ? address : { fd: 3 }, sockets }
  const served = new Set<number>()
  const tell = (told: Told): void => supervised.tell(JSON.stringify(told))

  const supervised = supervise({
    ...work,
    command: () => ({
      file: self.file,
      argv: ['dotfly', ...self.args(FLAGS, [JSON.stringify(launch)])],
      env: [],
      ...(rights === undefined ? {} : { rights }),
    }),
    files: bound === undefined ? [] : [bound.fd],
    hear(line) {
      const said = parse(line)
      // One that is started anew has missed what there is.
      if (said?.kind === 'listening') for (const socket of served) tell({ kind: 'listening', socket })
      if (said?.kind === 'failed') {
        void supervised.stop()
        work.failed(said.message)
      }
      return said !== undefined
    },
    served: (ran) => ran > STEADY,
    patience: STOP_LIMIT,
  })
  let stopped: Promise<void> | undefined
  return {
    get pid() {
      return supervised.pid
    },
    tell: supervised.tell,
    event(event) {
      if (event.kind === 'listening') served.add(event.socket)
      if (event.kind === 'draining' || event.kind === 'stopped') served.clear()
      tell(event)
    },
    away() {
      served.clear()
      tell({ kind: 'away' })
    },
    stop: () =>
      (stopped ??= (async () => {
        await supervised.stop()
        bound?.release()
      })()),
  }
}

/** Both ends of the pipe are one source tree, so only the kind is looked at. */
function parse(text: string): Said | undefined {
  try {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the edge where lines come in
    const said = JSON.parse(text) as Said
    return ['listening', 'failed'].includes(said?.kind) ? said : undefined
  } catch {
    return undefined
  }
}
