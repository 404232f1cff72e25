// Socket activation: the service manager has bound the sockets, so that they outlive the service itself. What may be
// asked there is still said by --socket; the two are matched by path, and a difference is an error, never a guess.

import { statSync } from 'node:fs'
import { reason } from '../errors.ts'
import { errnoOf } from '../os/errno.ts'
import { inheritedSockets } from '../os/inherit.ts'
import { LaunchError } from './error.ts'
import type { SocketOptions } from './options.ts'

/** Each socket with the descriptor that listens at its path; as they are where nothing was handed over. Throws a
 * LaunchError where what was handed over is not exactly what is to be served. */
export function activated(
  sockets: readonly SocketOptions[],
  env: Readonly<Record<string, string | undefined>>,
): SocketOptions[] {
  const handed = inherited(env)
  if (handed.length === 0) return [...sockets]
  const byPath = new Map<string, number>()
  for (const { fd, name, path } of handed) {
    if (path === undefined)
      throw new LaunchError(
        `descriptor ${fd} (${name}) of the service manager is no Unix stream socket with a path: use ListenStream=/PATH`,
      )
    if (!sockets.some((socket) => socket.path === path))
      throw new LaunchError(
        `the service manager hands over ${path} (${name}), which no --socket names: add it to DOTFLY_SOCKET`,
      )
    byPath.set(path, fd)
  }
  return sockets.map((socket) => {
    const fd = byPath.get(socket.path)
    if (fd === undefined)
      throw new LaunchError(
        `the service manager hands over ${[...byPath.keys()].join(' and ')}, and not ${socket.path}: name it in ListenStream= of a socket unit`,
      )
    checkFile(socket)
    return { ...socket, fd }
  })
}

function inherited(env: Readonly<Record<string, string | undefined>>): ReturnType<typeof inheritedSockets> {
  try {
    return inheritedSockets(env)
  } catch (error) {
    throw new LaunchError(`no sockets from the service manager: ${reason(error)}`, { cause: error })
  }
}

/** Mode and group are the socket unit's here. Whoever also gives them to --socket believes that they hold. */
function checkFile({ path, mode, gid }: SocketOptions): void {
  if (mode === undefined && gid === undefined) return
  let found
  try {
    found = statSync(path)
  } catch (error) {
    throw new LaunchError(`the mode and group of ${path} cannot be looked at (${errnoOf(error)})`)
  }
  const octal = (bits: number): string => `0${bits.toString(8).padStart(3, '0')}`
  const real = found.mode & 0o777
  if (mode !== undefined && mode !== real)
    throw new LaunchError(`socket ${path} has mode ${octal(real)}, and not ${octal(mode)}: change SocketMode= or mode=`)
  if (gid !== undefined && gid !== found.gid)
    throw new LaunchError(`socket ${path} has group ${found.gid}, and not ${gid}: change SocketGroup= or gid=`)
}
