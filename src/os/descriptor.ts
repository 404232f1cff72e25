// Owner, mode and durability of a file that is open. Node has them too, but not under its permission model, which judges
// by paths and so refuses everything by descriptor; in the single executable all of us run under it.

import { failed } from './errno.ts'
import { bind } from './libc.ts'

const libc = bind({
  fchown: { arguments: ['i32', 'u32', 'u32'], return: 'i32' },
  fchmod: { arguments: ['i32', 'u32'], return: 'i32' },
  fsync: { arguments: ['i32'], return: 'i32' },
})

const SAME = 0xffff_ffff // (uid_t) -1

/** Whoever is not named stays. Throws an Error with the errno's name in `code`, as all of these. */
export function own(fd: number, { uid = SAME, gid = SAME }: { uid?: number; gid?: number }): void {
  if (libc.fchown(fd, uid, gid) !== 0) throw failed('change the owner')
}

export function allow(fd: number, mode: number): void {
  if (libc.fchmod(fd, mode) !== 0) throw failed('change the mode')
}

/** Waits for the disk, and with it the whole process: only for who has nobody else to serve. */
export function settle(fd: number): void {
  if (libc.fsync(fd) !== 0) throw failed('write to the disk')
}
