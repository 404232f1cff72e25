// What an empty root needs before programs feel at home in it.

import { symlinkSync } from 'node:fs'
import { makeDirectories } from './directory.ts'
import { errno, errnoName, errnoOf, failed } from './errno.ts'
import { bind } from './libc.ts'

const MS_NOSUID = 2n
const MS_NODEV = 4n
const MS_NOEXEC = 8n
const EBUSY = 16
const SIOCGIFFLAGS = 0x8913n
const SIOCSIFFLAGS = 0x8914n
const IFF_UP = 1
const AF_INET_DATAGRAM = [2, 2] as const

const libc = bind({
  mount: { arguments: ['string', 'string', 'string', 'u64', 'string'], return: 'i32' },
  sethostname: { arguments: ['string', 'u64'], return: 'i32' },
  socket: { arguments: ['i32', 'i32', 'i32'], return: 'i32' },
  ioctl: { arguments: ['i32', 'u64', 'buffer'], return: 'i32' },
  close: { arguments: ['i32'], return: 'i32' },
})

interface Mount {
  target: string
  type: string
  flags: bigint
  options: string
}
const SAFE = MS_NOSUID | MS_NODEV | MS_NOEXEC

/** In order: a later one may lie within an earlier one. */
export const MOUNTS: readonly Mount[] = [
  { target: '/proc', type: 'proc', flags: SAFE, options: '' },
  { target: '/sys', type: 'sysfs', flags: SAFE, options: '' },
  { target: '/sys/kernel/security', type: 'securityfs', flags: SAFE, options: '' },
  { target: '/sys/fs/cgroup', type: 'cgroup2', flags: SAFE, options: '' },
  { target: '/dev', type: 'devtmpfs', flags: MS_NOSUID, options: 'mode=0755' },
  { target: '/dev/pts', type: 'devpts', flags: MS_NOSUID | MS_NOEXEC, options: 'mode=0620,gid=5,ptmxmode=0666' },
  { target: '/dev/shm', type: 'tmpfs', flags: MS_NOSUID | MS_NODEV, options: 'mode=1777' },
  { target: '/run', type: 'tmpfs', flags: MS_NOSUID | MS_NODEV, options: 'mode=0755' },
]

/** Mounts them all; what the kernel or an earlier boot stage has mounted stays. What could not be mounted is returned,
 * a sentence each: an image without /sys is still an image. */
export function mountAll(mounts: readonly Mount[] = MOUNTS): string[] {
  const faults: string[] = []
  for (const { target, type, flags, options } of mounts) {
    try {
      makeDirectories(target, 0o777)
    } catch {
      // securityfs and cgroup2 have no directory where the kernel lacks them: mount says so below.
    }
    if (libc.mount(type, target, type, flags, options) === 0) continue
    const why = errno()
    if (why !== EBUSY) faults.push(`cannot mount ${target} (${errnoName(why)})`)
  }
  for (const [link, to] of [
    ['/dev/fd', '/proc/self/fd'],
    ['/dev/stdin', '/proc/self/fd/0'],
    ['/dev/stdout', '/proc/self/fd/1'],
    ['/dev/stderr', '/proc/self/fd/2'],
  ] as const) {
    try {
      symlinkSync(to, link)
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') faults.push(`cannot make ${link}`)
    }
  }
  return faults
}

export function setHostname(name: string): void {
  if (libc.sethostname(name, BigInt(Buffer.byteLength(name))) !== 0) throw failed('set the hostname')
}

/** Brings the interface up; loopback then has its addresses by itself. */
export function raise(name: string): void {
  const request = Buffer.alloc(40) // struct ifreq
  request.write(name, 0, 15, 'latin1')
  const fd = libc.socket(...AF_INET_DATAGRAM, 0)
  if (fd < 0) throw failed('open a socket')
  try {
    if (libc.ioctl(fd, SIOCGIFFLAGS, request) !== 0) throw failed(`read the state of ${name}`)
    request.writeUInt16LE(request.readUInt16LE(16) | IFF_UP, 16)
    if (libc.ioctl(fd, SIOCSIFFLAGS, request) !== 0) throw failed(`bring up ${name}`)
  } finally {
    libc.close(fd)
  }
}

/** A file system of the Machine's own, such as a volume. */
export function mountDevice(device: string, target: string, type: string): void {
  makeDirectories(target, 0o777)
  if (libc.mount(device, target, type, MS_NOSUID | MS_NODEV, '') !== 0) throw failed(`mount ${device} at ${target}`)
}
