// Copies of all mounts as they are now, which are mounted nowhere: one for us, on which nobody mounts anything, and one for
// the kernel's own threads, on which nothing can be executed.

import { closeSync, constants, existsSync, openSync, readFileSync } from 'node:fs'
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
const MOUNT_ATTR_NOEXEC = 8n
const MS_PRIVATE = 0x40000n
const CLONE_FS = 0x200
const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY

const libc = bind({
  syscall: { arguments: ['i64', 'i64', 'string', 'i64', 'buffer', 'i64'], return: 'i64' },
  unshare: { arguments: ['i32'], return: 'i32' },
  fchdir: { arguments: ['i32'], return: 'i32' },
  chroot: { arguments: ['string'], return: 'i32' },
})

/** Does something where everybody else is. It must not wait: whoever comes next is back in our own tree. */
export type Outside = <T>(run: () => T) => T

/** From now on this process, with all its threads and all that it starts, has a copy of the mounts: the same files, but what
 * anybody mounts over them is not there. It keeps every file system that is mounted, also when others unmount it, as long as
 * nobody removes the directory below it. Needs CAP_SYS_ADMIN, CAP_SYS_CHROOT and Linux 5.12. Throws where it cannot be
 * had. */
export function keepMounts(): Outside {
  // Whoever mounted it later would see it, and we would not.
  if (!existsSync('/proc/self')) throw new Error('/proc is not mounted: use --mount')
  const theirs = here()
  const ours = moveToCopy(theirs, 0n)
  return (run) => {
    // This thread alone goes there: what Node reads on others meanwhile, it reads in our tree.
    leaveOtherThreads()
    try {
      enter(theirs)
      return run()
    } finally {
      enter(ours) // a thread that cannot come back must not go on: this throws
    }
  }
}

/** The kernel starts no program from now on, such as that of core_pattern, modprobe or request-key: it is a child of no init
 * and has none of its filters of system calls, but root chooses it. The first process of a Machine shares its root
 * directory with the kernel's threads, from which such a program is looked up: theirs becomes a copy of the mounts on
 * which nothing can be executed. So it does for the threads that Node has besides this one, which execute nothing. Needs
 * what keepMounts needs, and comes before it. Throws where it cannot be had. */
export function stopHelpers(): void {
  const ours = here()
  try {
    close(moveToCopy(ours, MOUNT_ATTR_NOEXEC))
    try {
      leaveOtherThreads()
    } finally {
      enter(ours)
    }
  } finally {
    close(ours)
  }
  // Of kthreadd: the mounts that can be reached from its root.
  if (readFileSync('/proc/2/mountinfo', 'latin1') !== '') throw new Error('the kernel starts them elsewhere')
}

/** Root and working directory of a thread, and of all that share them with it. */
interface Place {
  readonly root: number
  readonly cwd: number
}

const here = (): Place => ({ root: openSync('/', DIRECTORY), cwd: openSync('.', DIRECTORY) })

function close({ root, cwd }: Place): void {
  closeSync(root)
  closeSync(cwd)
}

/** A chroot(2) does not keep whoever has a descriptor from outside of it. */
function enter({ root, cwd }: Place): void {
  if (libc.fchdir(root) !== 0 || libc.chroot('.') !== 0 || libc.fchdir(cwd) !== 0)
    throw failed('enter a tree of mounts')
}

function leaveOtherThreads(): void {
  if (libc.unshare(CLONE_FS) !== 0) throw failed('leave the other threads')
}

/** This thread, and all that share its place, go to the same directory of a copy. No mount namespace leads there: root may
 * enter any that it finds, by an ioctl(2) since Linux 6.12. Throws, and is in `from` again, where that cannot be. */
function moveToCopy(from: Place, attribute: bigint): Place {
  const path = process.cwd()
  const flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE
  const tree = Number(call('copy the mounts', OPEN_TREE, AT_FDCWD, '/', flags))
  let moved = false
  try {
    const attributes = Buffer.alloc(32) // struct mount_attr: what to set, to clear, how to propagate
    attributes.writeBigUInt64LE(attribute, 0)
    // Where mounts are shared, as systemd has them, each copy hears of what is mounted on the other.
    attributes.writeBigUInt64LE(MS_PRIVATE, 16)
    call('change a copy of the mounts', MOUNT_SETATTR, BigInt(tree), '', AT_EMPTY_PATH | AT_RECURSIVE, attributes, 32n)
    enter({ root: tree, cwd: tree })
    moved = true
    process.chdir(path)
    return here()
  } catch (error) {
    if (moved) enter(from)
    // Without CAP_SYS_CHROOT it came no further than into the directory, and that is the way back as well.
    else if (libc.fchdir(from.cwd) !== 0) throw failed('go back to where we were')
    throw error
  } finally {
    // As `umount -l` does it, who is inside stays. Open, the copy would have a namespace of its own: since Linux 6.15 root may
    // mount on what is in one, and fanotify(7) hands it the very file that a new proxy is started from.
    closeSync(tree)
  }
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
