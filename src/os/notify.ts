// Words to the service manager, sd_notify(3): a datagram each, to the socket that NOTIFY_SOCKET names. The kernel adds
// who we are, and the manager takes none from anybody else.

import { failed } from './errno.ts'
import { bind } from './libc.ts'

const AF_UNIX = 1
const SOCK_DGRAM_CLOEXEC = 0x80002
const MSG_NOSIGNAL = 0x4000
const PATH_LIMIT = 108 // sun_path; neither form needs a NUL at its end

const libc = bind({
  socket: { arguments: ['i32', 'i32', 'i32'], return: 'i32' },
  sendto: { arguments: ['i32', 'buffer', 'u64', 'i32', 'buffer', 'u32'], return: 'i64' },
})

/** Says `NAME=value`, or several such lines. False when nobody took it: the manager's own time limits then decide. */
export type Notify = (state: string) => boolean

/** `address` is a path, or `@name` for an abstract socket. Throws for anything else. */
export function notifier(address: string): Notify {
  const name = Buffer.from(address)
  if (!/^[/@]./.test(address) || name.length > PATH_LIMIT)
    throw new Error('NOTIFY_SOCKET is neither a path nor @ and the name of an abstract socket')
  if (name[0] === 0x40) name[0] = 0
  const to = Buffer.alloc(2 + name.length)
  to.writeUInt16LE(AF_UNIX)
  name.copy(to, 2)
  const fd = libc.socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0)
  if (fd < 0) throw failed('open a socket to the service manager')
  return (state) => {
    const bytes = Buffer.from(state)
    return libc.sendto(fd, bytes, BigInt(bytes.length), MSG_NOSIGNAL, to, to.length) === BigInt(bytes.length)
  }
}
