// Connections that others begin: taken from a listening socket, non-blocking.

import ffi from 'node:ffi'
import { errno } from './errno.ts'

const BACKLOG = 4096 // as src/os/listen.ts has it: whoever calls listen(2) last decides
const NONBLOCK_CLOEXEC = 0x80800
const F_SETFL = 4
const O_NONBLOCK = 0x800
const EINTR = 4
const EAGAIN = 11
const ECONNABORTED = 103
/** ENOMEM, ENFILE, EMFILE, ENOBUFS: there will be room again. */
const FULL: ReadonlySet<number> = new Set([12, 23, 24, 105])

const { functions: libc } = ffi.dlopen(null, {
  accept4: { arguments: ['i32', 'pointer', 'pointer', 'i32'], return: 'i32' },
  fcntl: { arguments: ['i32', 'i32', 'i32'], return: 'i32' },
  listen: { arguments: ['i32', 'i32'], return: 'i32' },
})

/** Makes a descriptor that was handed to us non-blocking. */
export function unblock(fd: number): void {
  libc.fcntl(fd, F_SETFL, O_NONBLOCK)
}

/** Takes over a socket that is bound, and as a rule listens already: from now on this process is the one that whoever
 * connects finds at the other end. False for what is no such socket. */
export function listenAt(fd: number): boolean {
  unblock(fd)
  return libc.listen(fd, BACKLOG) === 0
}

/** The next connection that waits at a listening socket; `none`; `full` when there is one and no room for it; `lost`
 * where nobody will ever come. */
export function accept(fd: number): number | 'none' | 'full' | 'lost' {
  for (;;) {
    const connection = libc.accept4(fd, 0n, 0n, NONBLOCK_CLOEXEC)
    if (connection >= 0) return connection
    const why = errno()
    if (why === EAGAIN) return 'none'
    if (why !== EINTR && why !== ECONNABORTED) return FULL.has(why) ? 'full' : 'lost'
  }
}
