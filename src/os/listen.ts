// A listening Unix socket as a bare descriptor, that nobody accepts on yet: it outlives the process that serves it,
// so that a restart refuses no connection.

import { chownSync, closeSync, unlinkSync } from 'node:fs'
import { errno, errnoOf, failed } from './errno.ts'
import { bind } from './libc.ts'

const AF_UNIX = 1
const SOCK_STREAM_CLOEXEC = 0x80001
const BACKLOG = 4096
/** Bytes in a socket path, without the NUL: sun_path is 108 bytes. */
export const PATH_LIMIT = 107

const libc = bind({
  socket: { arguments: ['i32', 'i32', 'i32'], return: 'i32' },
  bind: { arguments: ['i32', 'buffer', 'u32'], return: 'i32' },
  listen: { arguments: ['i32', 'i32'], return: 'i32' },
})

/** Binds `path` (absent until now) with exactly `mode`, owned by `uid` and `gid` where given, and listens. Nobody can
 * connect before owner and mode are right: connect(2) is refused until listen(2). Throws, saying which step failed and
 * why, and then leaves no file. */
export function listenUnix(path: string, mode: number, uid?: number, gid?: number): number {
  const address = Buffer.alloc(2 + PATH_LIMIT + 1)
  address.writeUInt16LE(AF_UNIX)
  address.write(path, 2)
  const fd = libc.socket(AF_UNIX, SOCK_STREAM_CLOEXEC, 0)
  if (fd < 0) throw new Error('no descriptor left for a socket')
  const umask = process.umask(0o777 & ~mode)
  const refused = libc.bind(fd, address, 2 + Buffer.byteLength(path) + 1) === 0 ? 0 : errno()
  process.umask(umask)
  if (refused !== 0) {
    closeSync(fd)
    throw failed(`create the socket ${path}`, refused)
  }
  try {
    if (uid !== undefined || gid !== undefined) give(path, uid, gid)
    if (libc.listen(fd, BACKLOG) !== 0) throw failed(`listen at ${path}`)
  } catch (error) {
    closeSync(fd)
    unlinkSync(path)
    throw error
  }
  return fd
}

function give(path: string, uid?: number, gid?: number): void {
  try {
    chownSync(path, uid ?? -1, gid ?? -1)
  } catch (error) {
    const owner = [uid === undefined ? [] : `uid ${uid}`, gid === undefined ? [] : `gid ${gid}`].flat().join(', ')
    throw new Error(`cannot give the socket ${path} to ${owner} (${errnoOf(error)})`, { cause: error })
  }
}
