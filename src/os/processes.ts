// Everything that runs below an init, as /proc shows it.

import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { bind } from './libc.ts'

const PR_SET_CHILD_SUBREAPER = 36
const KTHREADD = 2

const libc = bind({
  prctl: { arguments: ['i32', 'u64', 'u64', 'u64', 'u64'], return: 'i32' },
})

/** Orphans below us become our children, as they become those of a PID 1. */
export function adoptOrphans(): void {
  if (process.pid !== 1) libc.prctl(PR_SET_CHILD_SUBREAPER, 1n, 0n, 0n, 0n)
}

/** The pids below us that have not ended, without `except`; undefined where /proc is missing or is of another PID
 * namespace, whose numbers mean other processes. */
export function descendants(except: number): number[] | undefined {
  let names
  try {
    if (readlinkSync('/proc/self') !== String(process.pid)) return undefined
    names = readdirSync('/proc')
  } catch {
    return undefined // not mounted
  }
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

function readStat(pid: string): { parent: number; zombie: boolean } | undefined {
  try {
    // The name, in parentheses, may itself hold some: what follows the last one counts.
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1')
    const [state, parent] = text.slice(text.lastIndexOf(')') + 2).split(' ')
    return { parent: Number(parent), zombie: state === 'Z' || state === 'X' }
  } catch {
    return undefined // it ended while we looked
  }
}
