// Sockets that the service manager opened for us, sd_listen_fds(3): descriptors from 3 on, as many as LISTEN_FDS says,
// meant for the process that LISTEN_PID names and no child of it.

import { failed } from './errno.ts'
import { bind } from './libc.ts'

const FIRST = 3
const F_SETFD = 2
const FD_CLOEXEC = 1
const SOL_SOCKET = 1
const SO_TYPE = 3
const SO_ACCEPTCONN = 30
const SOCK_STREAM = 1
const AF_UNIX = 1
const ADDRESS_SIZE = 110 // sizeof(struct sockaddr_un)

const libc = bind({
  fcntl: { arguments: ['i32', 'i32', 'i32'], return: 'i32' },
  getsockopt: { arguments: ['i32', 'i32', 'i32', 'buffer', 'buffer'], return: 'i32' },
  getsockname: { arguments: ['i32', 'buffer', 'buffer'], return: 'i32' },
})

export interface Inherited {
  readonly fd: number
  /** The unit it came from, or its FileDescriptorName=; `unknown` where the manager gives none. */
  readonly name: string
  /** Where it listens; undefined for what is no listening Unix stream socket with a file. */
  readonly path: string | undefined
}

/** What was handed over, closed on exec from now on; none where it was meant for another process. Throws where a
 * descriptor that was promised is not there. */
export function inheritedSockets(
  variables: Readonly<Record<string, string | undefined>>,
  pid = process.pid,
): Inherited[] {
  if (variables['LISTEN_PID'] !== String(pid)) return []
  const count = variables['LISTEN_FDS'] ?? ''
  if (!/^[0-9]{1,4}$/.test(count)) throw new Error('LISTEN_FDS is not a number')
  const names = (variables['LISTEN_FDNAMES'] ?? '').split(':')
  return Array.from({ length: Number(count) }, (_, i) => {
    const fd = FIRST + i
    if (libc.fcntl(fd, F_SETFD, FD_CLOEXEC) !== 0) throw failed(`use descriptor ${fd} of LISTEN_FDS`)
    return { fd, name: names[i] || 'unknown', path: listeningPath(fd) }
  })
}

function listeningPath(fd: number): string | undefined {
  if (option(fd, SO_TYPE) !== SOCK_STREAM || option(fd, SO_ACCEPTCONN) !== 1) return undefined
  const address = Buffer.alloc(ADDRESS_SIZE)
  const size = Buffer.alloc(4)
  size.writeUInt32LE(ADDRESS_SIZE)
  if (libc.getsockname(fd, address, size) !== 0) return undefined
  const path = address.subarray(2, Math.min(size.readUInt32LE(), ADDRESS_SIZE))
  // An abstract name begins with a NUL; no name at all is empty; neither has a file whose mode would guard it.
  if (address.readUInt16LE() !== AF_UNIX || path.length === 0 || path[0] === 0) return undefined
  const end = path.indexOf(0)
  return path.subarray(0, end < 0 ? path.length : end).toString()
}

function option(fd: number, name: number): number {
  const value = Buffer.alloc(4)
  const size = Buffer.alloc(4)
  size.writeUInt32LE(4)
  return libc.getsockopt(fd, SOL_SOCKET, name, value, size) === 0 ? value.readInt32LE() : -1
}
