// Directories on the way to a file, one mkdir(2) each. Node's `recursive` never comes back where an existing directory
// answers ENOENT to it, as all of /proc does: as PID 1 that is a Machine that does not boot.

import { mkdirSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { errnoOf } from './errno.ts'

/** Makes what is missing of the absolute `path` and gives the first that it made, as Node's `recursive` does. Throws the
 * system's error. */
export function makeDirectories(path: string, mode: number): string | undefined {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) return undefined
  const above = dirname(path)
  const first = above === path ? undefined : makeDirectories(above, mode)
  try {
    mkdirSync(path, mode)
  } catch (error) {
    // Somebody made it meanwhile; a file of that name is no directory.
    if (errnoOf(error) !== 'EEXIST' || !statSync(path).isDirectory()) throw error
    return first
  }
  return first ?? path
}
