// Where the guest dials. The sockets are bound here, once, and outlive every process that serves them.

import { lstatSync, mkdirSync, statSync, unlinkSync } from 'node:fs'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import { listenUnix, PATH_LIMIT } from '../os/listen.ts'
import { LaunchError } from './error.ts'
import type { SocketOptions } from './options.ts'

/** A listening descriptor for the socket: the inherited one, or one of ours. Then a stale socket of ours is taken over;
 * a live one, a file that is no socket, or a directory that anyone may write to is refused with a LaunchError. */
export async function bindSocket({ path, fd, mode = 0o755, uid, gid }: SocketOptions): Promise<number> {
  if (fd !== undefined) return fd
  if (Buffer.byteLength(path) > PATH_LIMIT)
    throw new LaunchError(`socket path ${path} is longer than ${PATH_LIMIT} bytes`)
  const directory = dirname(path)
  mkdirSync(directory, { recursive: true, mode: 0o755 })
  const { mode: rights } = statSync(directory)
  const sticky = (rights & 0o1000) !== 0
  if ((rights & 0o002) !== 0 && !sticky)
    throw new LaunchError(`directory ${directory} is writable by everybody: chmod o-w it`)
  await clearStale(path, uid)
  try {
    return listenUnix(path, mode, uid, gid)
  } catch (error) {
    throw new LaunchError(error instanceof Error ? error.message : `cannot listen at ${path}`, { cause: error })
  }
}

/** `owner` is whom an earlier run gave it to. */
async function clearStale(path: string, owner: number | undefined): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found === undefined) return
  if (!found.isSocket()) throw new LaunchError(`${path} exists and is not a socket`)
  if (await answers(path)) throw new LaunchError(`${path} is in use by a live server`)
  if (found.uid !== process.geteuid?.() && found.uid !== owner)
    throw new LaunchError(`${path} is a stale socket of another user: remove it`)
  unlinkSync(path)
}

function answers(path: string): Promise<boolean> {
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
