// Everything that runs below an init, as /proc shows it.

import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { prctl } from './confine.ts'

const PR_SET_CHILD_SUBREAPER = 36
const KTHREADD = 2

/** Orphans below us become our children, as they become those of a PID 1. */
export function adoptOrphans(): void {
  if (process.pid !== 1) prctl(PR_SET_CHILD_SUBREAPER, 1n)
}

/** Is there a /proc, and of our PID namespace? */
function isOurs(): boolean {
  try {
    return readlinkSync('/proc/self') === String(process.pid)
  } catch {
    return false // not mounted
  }
}

/** The pids below us that have not ended, without `except`; undefined where /proc is missing or is of another PID
 * namespace, whose numbers mean other processes. */
export function descendants(except: number): number[] | undefined {
  if (!isOurs()) return undefined
  const names = readdirSync('/proc')
  const parents = new Map<number, number>()
  const zombies = new Set<number>()
  for (const name of names) {
    if (!/^[1-9][0-9]*$/.test(name)) continue
    const stat = readStat(name)
    if (stat === undefined) continue
    parents.set(Number(name), stat.parent)
    if (stat.zombie) zombies.add(Number(name))
  }
  const below = (pid: number): boolean => {
    for (let at = parents.get(pid); at !== undefined; at = parents.get(at)) if (at === process.pid) return true
    return false
  }
  return [...parents.keys()].filter((pid) => {
    if (pid === process.pid || pid === except || zombies.has(pid)) return false
    // A PID 1 answers for all of its namespace, also for what was sent in from outside; not for the kernel's threads.
    return process.pid === 1 ? pid !== KTHREADD && parents.get(pid) !== KTHREADD : below(pid)
  })
}

/** What a process, or its first thread, is doing. */
export interface Activity {
  /** As in proc_pid_stat(5): R runs or would, S sleeps, D waits for the kernel, T is stopped, t is traced. */
  readonly state: string
  /** Seconds that it has had. */
  readonly cpu: number
}

const TICKS = 100 // a second, USER_HZ: the same on every architecture that Node knows

/** Of its first thread, where all JavaScript runs; undefined where /proc does not tell. */
export function activityOf(pid: number): Activity | undefined {
  const found = isOurs() ? fieldsOf(`${pid}/task/${pid}`) : undefined
  return found && { state: found[0] ?? '', cpu: (Number(found[11]) + Number(found[12])) / TICKS }
}

function readStat(pid: string): { parent: number; zombie: boolean } | undefined {
  const found = fieldsOf(pid)
  return found && { parent: Number(found[1]), zombie: found[0] === 'Z' || found[0] === 'X' }
}

/** Of stat in /proc, from the state on; undefined where it ended while we looked. */
function fieldsOf(pid: string): string[] | undefined {
  try {
    // The name, in parentheses, may itself hold some: what follows the last one counts.
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1')
    return text.slice(text.lastIndexOf(')') + 2).split(' ')
  } catch {
    return undefined
  }
}
