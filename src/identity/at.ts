// Files by their directory's descriptor: once a directory was judged, it is that directory that is written to, whatever
// somebody puts in its place meanwhile. These are also the only ways in which the keeper of init changes a file: Node's
// own are closed to it, see src/identity/fence.ts.

import ffi from 'node:ffi'
import { constants } from 'node:fs'
import { failed } from '../os/errno.ts'

const O_CLOEXEC = 0x80000

const { functions: libc } = ffi.dlopen(null, {
  openat: { arguments: ['i32', 'string', 'i32', 'u32'], return: 'i32' },
  renameat: { arguments: ['i32', 'string', 'i32', 'string'], return: 'i32' },
  unlinkat: { arguments: ['i32', 'string', 'i32'], return: 'i32' },
  mkdir: { arguments: ['string', 'u32'], return: 'i32' },
})

/** A descriptor of a new file for writing: whatever has that name already, a link above all, is an error. */
export function createAt(directory: number, name: string, mode: number): number {
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants
  const fd = libc.openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode)
  if (fd < 0) throw failed(`create ${name}`)
  return fd
}

export function renameAt(directory: number, from: string, to: string): void {
  if (libc.renameat(directory, from, directory, to) !== 0) throw failed(`rename ${from}`)
}

export function unlinkAt(directory: number, name: string): void {
  if (libc.unlinkat(directory, name, 0) !== 0) throw failed(`remove ${name}`)
}

/** As mkdir(2). */
export function makeDirectory(path: string, mode: number): void {
  if (libc.mkdir(path, mode) !== 0) throw failed(`make the directory ${path}`)
}
