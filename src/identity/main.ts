// Process entry of the keeper that dotfly init starts: init speaks no HTTP, and a keeper that fails takes no Machine
// with it. It is told what to keep in its one argument and reads no environment: the program's variables, which may hold
// secrets, stay where they are. What happens goes to standard output, a line of JSON each; the end of standard input
// means that init is gone.

import { Failure } from '../errors.ts'
import type { Arrangement } from './cloud.ts'
import type { IdentityEvent } from './event.ts'
import { fence } from './fence.ts'
import { keep } from './keeper.ts'
import type { IdentityOptions } from './options.ts'

/** What init hands down. */
export interface Launch extends Pick<IdentityOptions, 'socket' | 'wait'> {
  readonly plan: Arrangement
}

/** What comes back: events, and once how the start went. */
export type Said =
  | { readonly kind: 'event'; readonly event: IdentityEvent }
  | { readonly kind: 'started' }
  | { readonly kind: 'failed'; readonly message: string }

const say = (said: Said): boolean => process.stdout.write(`${JSON.stringify(said)}\n`)

// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- both ends are one source tree
const { plan, socket, wait } = JSON.parse(process.argv[2] ?? '') as Launch
const outgrown = fence(plan)
const keeper = keep(plan, { socket, wait }, hear)
let ending = false

function hear(event: IdentityEvent): void {
  say({ kind: 'event', event })
  // Somebody has exchanged a directory, or removed it: whoever is started next makes it anew and may write to it.
  if ((event.kind === 'unwritten' || event.kind === 'stuck') && !ending && outgrown()) {
    process.exitCode = 1
    end()
  }
}

function end(): void {
  if (ending) return
  ending = true
  // Requests that are under way are given up; files stay for whoever comes next.
  void keeper.stop().then(() => process.exit())
}
process.on('SIGTERM', end)
process.stdin.on('end', end).on('error', end).resume()
// Without a reader nobody restarts us either.
process.stdout.on('error', end)

async function start(): Promise<void> {
  try {
    await keeper.start()
    if (!ending) say({ kind: 'started' })
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    say({ kind: 'failed', message: error.message })
    process.exitCode = 1
    end()
  }
}
void start()
