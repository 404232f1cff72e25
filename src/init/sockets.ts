// Where the guest dials. The sockets are bound here, once, and outlive every process that serves them.

import { closeSync, lstatSync, realpathSync, statSync, unlinkSync } from 'node:fs'
import { dirname } from 'node:path'
import { makeDirectories } from '../os/directory.ts'
import { errnoOf } from '../os/errno.ts'
import { listenUnix, PATH_LIMIT } from '../os/listen.ts'
import { LaunchError } from './error.ts'
import type { SocketOptions } from './options.ts'

/** A listening descriptor, and what gives it up. */
export interface Bound {
  readonly fd: number
  release(): void
}

/** Binds all of them, or none: whoever dials from now on waits for the process that serves them. Throws a LaunchError. */
export async function bindSockets(sockets: readonly SocketOptions[]): Promise<Bound[]> {
  const bound: Bound[] = []
  try {
    for (const socket of sockets) bound.push(await bindSocket(socket))
  } catch (error) {
    for (const socket of bound) socket.release()
    throw error
  }
  return bound
}

/** Binds the socket, or takes the one that a service manager has bound already. A stale socket of ours is taken over; a
 * live one, a file that is no socket, or a place that anyone may change is refused with a LaunchError. */
export async function bindSocket({ path, fd, mode, uid, gid }: SocketOptions): Promise<Bound> {
  if (fd !== undefined) return { fd, release: () => closeSync(fd) }
  if (Buffer.byteLength(path) > PATH_LIMIT)
    throw new LaunchError(`socket path ${path} is longer than ${PATH_LIMIT} bytes`)
  makeDirectory(dirname(path), path)
  refuseShared(realpathSync(dirname(path)))
  await clearStale(path, uid)
  let bound: number
  try {
    bound = listenUnix(path, mode ?? (gid !== undefined && uid === undefined ? 0o660 : 0o755), uid, gid)
  } catch (error) {
    throw new LaunchError(error instanceof Error ? error.message : `cannot listen at ${path}`, { cause: error })
  }
  const { dev, ino } = lstatSync(path)
  return {
    fd: bound,
    release() {
      closeSync(bound)
      // A sandbox may have removed it, or put something else there or over it, on purpose: that is not ours to remove.
      const found = lstatSync(path, { throwIfNoEntry: false })
      if (found?.dev === dev && found.ino === ino) unlinkSync(path)
    },
  }
}

function makeDirectory(directory: string, path: string): void {
  try {
    makeDirectories(directory, 0o755)
  } catch (error) {
    throw new LaunchError(
      `the directory of socket ${path} cannot be made (${errnoOf(error)}): choose another path with --socket`,
    )
  }
}

/** Whoever may rename a directory on the way to the socket may put another server in its place. */
function refuseShared(directory: string): void {
  for (let at = directory; ; at = dirname(at)) {
    const { mode } = statSync(at)
    const sticky = (mode & 0o1000) !== 0
    if ((mode & 0o002) !== 0 && !sticky) throw new LaunchError(`directory ${at} is writable by everybody: chmod o-w it`)
    if (at === dirname(at)) return
  }
}

/** `owner` is whom an earlier run gave it to. */
async function clearStale(path: string, owner: number | undefined): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found === undefined) return
  if (!found.isSocket()) throw new LaunchError(`${path} exists and is not a socket`)
  if (await answers(path))
    throw new LaunchError(`${path} is in use by a live server: end that, or choose another path with --socket`)
  if (found.uid !== process.geteuid?.() && found.uid !== owner)
    throw new LaunchError(`${path} is a stale socket of another user: remove it`)
  unlinkSync(path)
}

async function answers(path: string): Promise<boolean> {
  const { connect } = await import('node:net') // only where something is there already
  return new Promise((resolve, reject) => {
    const probe = connect({ path })
    probe.on('connect', () => {
      probe.destroy()
      resolve(true)
    })
    probe.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(false)
      else reject(new LaunchError(`${path} cannot be probed (${error.code ?? 'unknown'})`))
    })
  })
}
