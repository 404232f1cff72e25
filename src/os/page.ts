// Memory that holds the credential: memfd_secret(2), pages that the kernel drops from its own map, so that
// /proc/PID/mem, ptrace, core dumps and swap never see them, not even for root. Shared by descriptor only.

import ffi from 'node:ffi'
import { fstatSync } from 'node:fs'
import { errno } from './errno.ts'

const SYS_MEMFD_SECRET = 447n // the same number on x86-64 and arm64
const O_CLOEXEC = 0x80000n
const PROT_READ_WRITE = 3
const MAP_SHARED = 1
const MAP_FIXED = 16
const MFD_CLOEXEC = 1
/** EPERM, ENOSYS: somebody's filter, or the kernel, has no memfd_secret. What it says else will pass, or can be brought about
 * by root, who would be given the next one to look at. */
const NEVER: ReadonlySet<number> = new Set([1, 38])

const { functions: libc } = ffi.dlopen(null, {
  syscall: { arguments: ['i64', 'i64'], return: 'i64' },
  memfd_create: { arguments: ['string', 'u32'], return: 'i32' },
  ftruncate: { arguments: ['i32', 'i64'], return: 'i32' },
  mmap: { arguments: ['pointer', 'u64', 'i32', 'i32', 'i32', 'i64'], return: 'pointer' },
  munmap: { arguments: ['pointer', 'u64'], return: 'i32' },
})

/** A descriptor of `size` zeroed bytes. `secret` is false where the kernel has no memfd_secret, or where it was not
 * wanted: then root can read it. */
export function createPage(size: number, hidden = true): { fd: number; secret: boolean } {
  let fd = hidden ? Number(libc.syscall(SYS_MEMFD_SECRET, O_CLOEXEC)) : -1
  const secret = fd >= 0
  if (!secret && (!hidden || NEVER.has(errno()))) fd = libc.memfd_create('dotfly', MFD_CLOEXEC)
  if (fd < 0 || libc.ftruncate(fd, BigInt(size)) !== 0) throw new Error('no memory for the credential')
  return { fd, secret }
}

/** The descriptor's bytes as a Buffer outside the JS heap, valid until `unmapPage`. Throws where mmap refuses. */
export function mapPage(fd: number): Buffer {
  const size = fstatSync(fd).size
  return ffi.toBuffer(map(fd, size, 0n, MAP_SHARED), size, false)
}

/** Puts the descriptor's bytes in the place of those of `memory`, for as long as that lives: V8 takes no other way to give
 * a WebAssembly.Memory pages of ours. It must be of the same size and have a maximum, or it could be moved. */
export function layOver(memory: ArrayBuffer, fd: number): void {
  const { size } = fstatSync(fd)
  if (size !== memory.byteLength) throw new Error('the memory is of another size')
  map(fd, size, ffi.getRawPointer(memory), MAP_SHARED | MAP_FIXED)
}

function map(fd: number, size: number, place: bigint, flags: number): bigint {
  const at = libc.mmap(place, BigInt(size), PROT_READ_WRITE, flags, fd, 0n)
  if (at === 0xffffffffffffffffn || at === 0n)
    throw new Error('the credential page cannot be mapped: check RLIMIT_MEMLOCK')
  return at
}

/** Gives the mapping back; touching the Buffer after this is a crash, so let go of it first. */
export function unmapPage(page: Buffer): void {
  libc.munmap(ffi.getRawPointer(page), BigInt(page.length))
}
