// The files of a process as they are mounted now, whoever mounts what later.

import { closeSync, constants, existsSync, openSync } from 'node:fs'
import { failed } from './errno.ts'
import { bind } from './libc.ts'

// As numbers, for libc has names for these only since glibc 2.36: the same on every architecture.
const OPEN_TREE = 428n
const MOUNT_SETATTR = 442n
const AT_FDCWD = -100n
const AT_EMPTY_PATH = 0x1000n
const AT_RECURSIVE = 0x8000n
const OPEN_TREE_CLONE = 1n
const OPEN_TREE_CLOEXEC = 0x80000n
const MS_PRIVATE = 0x40000n
const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY
const CLONE_FS = 0x200

const libc = bind({
  syscall: { arguments: ['i64', 'i64', 'string', 'i64', 'buffer', 'i64'], return: 'i64' },
  unshare: { arguments: ['i32'], return: 'i32' },
  fchdir: { arguments: ['i32'], return: 'i32' },
  chroot: { arguments: ['string'], return: 'i32' },
})

/** Does something where everybody else is. It must not wait: whoever comes next is back in our own tree. */
export type Outside = <T>(run: () => T) => T

/** From now on this process, with all its threads and all that it starts, has a copy of the mounts as they are now: the same
 * files, but what anybody mounts over them is not there. The copy is mounted nowhere, as after `umount -l`: no namespace
 * leads to it, and on a file of it, which fanotify(7) hands to root, the kernel mounts nothing. It keeps every file system
 * that is mounted, also when others unmount it. Needs CAP_SYS_ADMIN and CAP_SYS_CHROOT, and Linux 5.12. Throws where it
 * cannot be had. */
export function keepMounts(): Outside {
  // Whoever mounted it later would see it, and we would not.
  if (!existsSync('/proc/self')) throw new Error('/proc is not mounted: use --mount')
  const theirs = { root: openSync('/', DIRECTORY), cwd: openSync('.', DIRECTORY) }
  const path = process.cwd()
  const tree = Number(
    call('copy the mounts', OPEN_TREE, AT_FDCWD, '/', OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE),
  )
  const ours = { root: tree, cwd: tree }
  try {
    // Where mounts are shared, as systemd has them, each copy hears of what is mounted on the other.
    const attributes = Buffer.alloc(32) // struct mount_attr
    attributes.writeBigUInt64LE(MS_PRIVATE, 16)
    call('keep mounts to ourselves', MOUNT_SETATTR, BigInt(tree), '', AT_EMPTY_PATH | AT_RECURSIVE, attributes, 32n)
    enter(ours)
    process.chdir(path)
    ours.root = openSync('/', DIRECTORY)
    ours.cwd = openSync('.', DIRECTORY)
  } catch (error) {
    enter(theirs)
    throw error
  } finally {
    // With it open the copy has a namespace of its own, and since Linux 6.15 root may mount on what is in one.
    closeSync(tree)
  }

  return (run) => {
    // This thread alone goes there: what Node reads on others meanwhile, it reads in our tree.
    if (libc.unshare(CLONE_FS) !== 0) throw failed('leave the other threads')
    try {
      enter(theirs)
      return run()
    } finally {
      enter(ours) // a thread that cannot come back must not go on: this throws
    }
  }
}

/** A chroot(2) does not keep whoever has a descriptor from outside of it. */
function enter({ root, cwd }: { root: number; cwd: number }): void {
  if (libc.fchdir(root) !== 0 || libc.chroot('.') !== 0 || libc.fchdir(cwd) !== 0)
    throw failed('enter a tree of mounts')
}

const NOTHING = Buffer.alloc(1)

function call(
  what: string,
  number: bigint,
  directory: bigint,
  path: string,
  flags: bigint,
  structure = NOTHING,
  size = 0n,
): bigint {
  const result = libc.syscall(number, directory, path, flags, structure, size)
  if (result < 0n) throw failed(what)
  return result
}
