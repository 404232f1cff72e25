// Notices a trusted process that is there and does not serve: stopped, or caught in a loop, which no end of it tells.
// It is asked again and again, over a socket of its own. Time is counted in looks, not by a clock: a Machine that was
// suspended, or a whole computer that stood still, is one look further, however late it is.

import { activityOf } from '../os/processes.ts'
import type { Activity } from '../os/processes.ts'

/** ms between two looks. */
export const LOOK = 5_000
/** Looks in a row that find no answer, after which it hangs: 30 s. */
export const PATIENCE = 6
/** s of CPU that it must have had meanwhile, where it wants more: with less it is starved, and not in a loop. */
const FAIR = 5

/** Judges one process after another by what each look finds: true when it hangs. `answered`: since the last look.
 * `seen` is undefined where /proc does not tell. */
export function judge(): (pid: number, answered: boolean, seen: Activity | undefined) => boolean {
  let of = -1
  let silent = 0
  let cpu = 0
  return (pid, answered, seen) => {
    if (pid !== of || answered) {
      of = pid
      silent = 0
      cpu = seen?.cpu ?? 0
      return false
    }
    if (++silent < PATIENCE || pid < 0) return false
    // It runs, or would if it were let: others take the CPU, and a new one would get no more of it.
    if (seen?.state === 'R') return seen.cpu - cpu >= FAIR
    // D: the kernel keeps it, for a disk or a page. t: somebody debugs it. Else it is stopped, or asleep with a question
    // before it.
    return seen?.state !== 'D' && seen?.state !== 't'
  }
}

/** One look: sees how `pid` fares, asks the next question once the last is answered, and tells of a process that hangs. */
export function watchdog(pid: () => number, ask: () => Promise<boolean>, hangs: (pid: number) => void): () => void {
  const isHung = judge()
  let asking = false
  let answered = false
  async function next(): Promise<void> {
    answered = await ask()
    asking = false
  }
  return () => {
    const of = pid()
    if (isHung(of, answered, activityOf(of))) hangs(of)
    if (asking) return
    asking = true
    answered = false
    void next()
  }
}
