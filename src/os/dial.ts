// Connections that we begin: to a path, to a numeric address, or to the host of a virtual machine; non-blocking.

import ffi from 'node:ffi'
import { closeSync } from 'node:fs'
import { errno } from './errno.ts'

const AF_UNIX = 1
const AF_INET = 2
const AF_INET6 = 10
const AF_VSOCK = 40
const PATH_ROOM = 108 // sun_path
const SOCK_STREAM = 1
const NONBLOCK_CLOEXEC = 0x80800
const EINPROGRESS = 115
const SOL_SOCKET = 1
const SO_KEEPALIVE = 9
const IPPROTO_TCP = 6
const TCP_NODELAY = 1
const TCP_KEEPIDLE = 4

const { functions: libc } = ffi.dlopen(null, {
  connect: { arguments: ['i32', 'buffer', 'u32'], return: 'i32' },
  inet_pton: { arguments: ['i32', 'string', 'buffer'], return: 'i32' },
  setsockopt: { arguments: ['i32', 'i32', 'i32', 'buffer', 'u32'], return: 'i32' },
  socket: { arguments: ['i32', 'i32', 'i32'], return: 'i32' },
})

/** `cid` is a context of vsock(7): the host of a virtual machine has 2. */
type Target = { path: string } | { host: string; port: number } | { cid: number; port: number }

/** A struct sockaddr for a path, for a context and a port, or for a numeric address and a port; undefined for a name, which
 * has to be looked up, and for a path that is too long. */
export function addressOf(target: Target): Buffer | undefined {
  if ('cid' in target) {
    const address = Buffer.alloc(16) // struct sockaddr_vm
    address.writeUInt16LE(AF_VSOCK)
    address.writeUInt32LE(target.port, 4)
    address.writeUInt32LE(target.cid, 8)
    return address
  }
  if ('path' in target) {
    if (Buffer.byteLength(target.path) >= PATH_ROOM) return undefined
    const address = Buffer.alloc(2 + PATH_ROOM)
    address.writeUInt16LE(AF_UNIX)
    address.write(target.path, 2)
    return address
  }
  for (const [family, size, at] of [
    [AF_INET, 16, 4],
    [AF_INET6, 28, 8],
  ] as const) {
    const address = Buffer.alloc(size)
    if (libc.inet_pton(family, target.host, address.subarray(at)) !== 1) continue
    address.writeUInt16LE(family)
    address.writeUInt16BE(target.port, 2)
    return address
  }
  return undefined
}

/** A connection to `address`, which may still be on its way: what is written waits for it. -1 where it is refused at
 * once. A TCP one sends without delay, and finds out within seconds when the other side is gone. */
export function dial(address: Buffer): number {
  const family = address.readUInt16LE()
  const fd = libc.socket(family, SOCK_STREAM | NONBLOCK_CLOEXEC, 0)
  if (fd < 0) return -1
  if (family === AF_INET || family === AF_INET6) {
    setOption(fd, IPPROTO_TCP, TCP_NODELAY)
    setOption(fd, SOL_SOCKET, SO_KEEPALIVE)
    setOption(fd, IPPROTO_TCP, TCP_KEEPIDLE) // s
  }
  if (libc.connect(fd, address, address.length) === 0 || errno() === EINPROGRESS) return fd
  closeSync(fd)
  return -1
}

function setOption(fd: number, level: number, name: number): void {
  libc.setsockopt(fd, level, name, ONE, ONE.length)
}
const ONE = Buffer.from(Int32Array.of(1).buffer)
