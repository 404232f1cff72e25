// The image's program: found as a shell would find it, with the environment that a program of a Machine expects.

import { statSync } from 'node:fs'
import type { Limit, Resource } from '../os/limits.ts'
import { spawn } from '../os/spawn.ts'
import { releaseTerminal } from '../os/terminal.ts'
import type { User } from '../os/users.ts'

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

export type Variables = Readonly<Record<string, string | undefined>>

/** `NAME=value` each. Ours stay ours: options by variable, and the directory where systemd keeps the macaroon. */
export function environment(variables: Variables, user: User): string[] {
  const env = new Map<string, string>([
    ['PATH', PATH],
    ['HOME', user.home],
  ])
  for (const [name, value] of Object.entries(variables)) {
    if (value === undefined || name.startsWith('DOTFLY_') || name === 'CREDENTIALS_DIRECTORY') continue
    // HOME is that of whoever started init; the program may be somebody else.
    if (name === 'HOME' && user.uid !== process.geteuid?.()) continue
    env.set(name, value)
  }
  return [...env].map(([name, value]) => `${name}=${value}`)
}

export interface Entrypoint {
  command: readonly string[]
  user: User
  env: readonly string[]
  cwd: string
  limits: Partial<Record<Resource, Limit>>
}

/** Starts it; or the exit code that a shell would give, 127 not found and 126 not to be run, and why. */
export function start(entrypoint: Entrypoint): { pid: number } | { code: 126 | 127; why: string } {
  const { command, user, env, cwd, limits } = entrypoint
  const [name = ''] = command
  // posix_spawn would say ENOENT for both.
  if (statSync(cwd, { throwIfNoEntry: false })?.isDirectory() !== true)
    return { code: 127, why: `there is no directory ${cwd}` }
  const root = process.geteuid?.() === 0
  const terminal = releaseTerminal(user.uid)
  let worst = 'ENOENT'
  for (const file of candidates(name, env)) {
    if (!isThere(file)) continue
    const started = spawn({
      file,
      argv: command,
      env,
      cwd,
      files: [0, 1, 2],
      limits,
      ...(terminal === undefined ? {} : { terminal }),
      ...(root ? { rights: { uid: user.uid, gid: user.gid, groups: user.groups } } : {}),
    })
    if ('pid' in started) return started
    // As execvp(3): a directory without it, or one not to be entered, is not the end of the search.
    if (started.refused === 'ENOENT' || started.refused === 'ENOTDIR') continue
    worst = started.refused
    if (worst !== 'EACCES') break
  }
  return worst === 'ENOENT'
    ? { code: 127, why: `${name} is not found, or the interpreter on its first line is not` }
    : { code: 126, why: `${name} cannot be run (${worst})` }
}

/** Not to start a process for nothing, which takes as long as to look 30 times. Whoever cannot look, lets the kernel. */
function isThere(file: string): boolean {
  try {
    return statSync(file, { throwIfNoEntry: false }) !== undefined
  } catch {
    return true
  }
}

function candidates(name: string, env: readonly string[]): string[] {
  if (name === '') return []
  if (name.includes('/')) return [name]
  const path = env.findLast((entry) => entry.startsWith('PATH='))?.slice('PATH='.length) ?? PATH
  return path.split(':').map((directory) => `${directory === '' ? '.' : directory}/${name}`)
}
