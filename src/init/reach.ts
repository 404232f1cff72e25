// A user of its own has no rights of its own: what the proxy must read or dial has to be open to everybody. Found out
// here, where it can be said, rather than by a process that cannot start.

import { realpathSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { errnoOf } from '../os/errno.ts'
import type { Executable } from '../os/self.ts'
import type { Rights } from '../os/spawn.ts'
import { LaunchError } from './error.ts'

const READ = 4
const WRITE = 2
const RUN = 1
const SEARCH = 1

/** Throws a LaunchError that names the first path which `rights` cannot read, run or dial. */
export function checkReachable(rights: Rights, program: Executable, toDial: string | undefined): void {
  check(rights, program.file, READ | RUN)
  for (const path of program.readable) check(rights, path, statSync(path).isDirectory() ? READ | SEARCH : READ)
  // A socket that is not there yet may come later; one that is there and closed would never open by itself.
  if (toDial !== undefined && exists(toDial)) check(rights, toDial, WRITE)
}

function check(rights: Rights, path: string, wanted: number): void {
  for (let at = realpathSync(path), needs = wanted; ; at = dirname(at), needs = SEARCH) {
    const { uid, gid, mode } = statSync(at)
    const groups = [rights.effectiveGid ?? rights.gid, ...rights.groups]
    const shift = uid === rights.uid ? 6 : groups.includes(gid) ? 3 : 0
    if (((mode >> shift) & needs) !== needs) {
      const bits = needs === SEARCH ? 'x' : needs === WRITE ? 'w' : needs === READ ? 'r' : 'rx'
      throw new LaunchError(
        `the proxy's user ${rights.uid} cannot use ${at}: chmod o+${bits} it, or keep the launcher's user with --no-harden=proxy-user`,
      )
    }
    if (at === '/') return
  }
}

function exists(path: string): boolean {
  try {
    statSync(path)
    return true
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false
    throw error
  }
}
