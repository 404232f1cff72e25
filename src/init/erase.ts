// Overwrites and removes a file that has been read. Init is root, and what a path names may be another file by now: a link
// to /etc/passwd, say, put there by whoever may write in the directory. So the file that was read is the one overwritten,
// or none is.

import { closeSync, constants, fstatSync, lstatSync, openSync, unlinkSync, writeSync } from 'node:fs'
import type { Stats } from 'node:fs'
import { settle } from '../os/descriptor.ts'
import { errnoOf } from '../os/errno.ts'
import { LaunchError } from './error.ts'

const { O_WRONLY, O_NOFOLLOW, O_NONBLOCK, O_NOCTTY } = constants

/** Overwrites the `length` bytes that were read from the descriptor `from`, opened at `path`, and removes `path`. What is
 * no regular file, a fifo or a device, has nothing to overwrite and loses its name alone. Throws a LaunchError that goes
 * on after `name`, and then nothing is changed, or the error of the system. */
export function erase(path: string, from: number, length: number, name: string): void {
  const read = fstatSync(from)
  if (read.isFile()) {
    if (lstatSync(path).isSymbolicLink())
      throw new LaunchError(`${name} is a symbolic link: name the file itself, or leave out --macaroon-unlink`)
    refuseOther(read, lstatSync(path), name)
    overwrite(path, read, length, name)
  }
  unlinkSync(path)
}

/** Root can read a disk without the name of a file on it. What a file system that copies on write keeps, it keeps. */
function overwrite(path: string, read: Stats, length: number, name: string): void {
  let fd
  try {
    fd = openSync(path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)
  } catch (error) {
    // Of a file that even its owner may only read: who is not root has no disk to hide it from either.
    if (errnoOf(error) === 'EACCES') return
    throw error
  }
  try {
    // What was looked at before was a name; this is what will be written to.
    refuseOther(read, fstatSync(fd), name)
    const zeros = Buffer.alloc(length)
    for (let at = 0; at < length;) at += writeSync(fd, zeros, at, length - at, at)
    settle(fd)
  } finally {
    closeSync(fd)
  }
}

function refuseOther(read: Stats, found: Stats, name: string): void {
  if (found.dev !== read.dev || found.ino !== read.ino)
    throw new LaunchError(`${name} is another file than the one that was read: somebody has put it there meanwhile`)
}
