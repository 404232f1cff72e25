// Programs that the kernel itself starts: the one of core_pattern, modprobe, request-key and the like. They are children of
// no init and have none of its filters of system calls, but root chooses them.

import { closeSync, constants, openSync, readFileSync } from 'node:fs'
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

/** The kernel starts no program from now on. The first process of a Machine shares its root directory with the kernel's
 * threads, from which such a program is looked up: theirs becomes a copy of the mounts as they are now, on which nothing can
 * be executed, and which is mounted nowhere, so that nobody can change it. So it does for the threads that Node has besides
 * this one, which execute nothing. Needs CAP_SYS_ADMIN, CAP_SYS_CHROOT and Linux 5.12. Throws where it cannot be had. */
export function stopHelpers(): void {
  const path = process.cwd()
  const ours = { root: openSync('/', DIRECTORY), cwd: openSync('.', DIRECTORY) }
  const flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE
  try {
    const tree = Number(call('copy the mounts', OPEN_TREE, AT_FDCWD, '/', flags))
    try {
      const attributes = Buffer.alloc(32) // struct mount_attr: what to set, to clear, how to propagate
      attributes.writeBigUInt64LE(MOUNT_ATTR_NOEXEC, 0)
      attributes.writeBigUInt64LE(MS_PRIVATE, 16)
      call('execute nothing there', MOUNT_SETATTR, BigInt(tree), '', AT_EMPTY_PATH | AT_RECURSIVE, attributes, 32n)
      enter({ root: tree, cwd: tree })
    } catch (error) {
      libc.fchdir(ours.cwd)
      throw error
    } finally {
      closeSync(tree)
    }
    // It is the same directory there, so that it need not fail; and if it does, this thread does not stay.
    const there = tryTo(() => process.chdir(path))
    if (libc.unshare(CLONE_FS) !== 0) throw failed('leave the other threads')
    enter(ours)
    if (there !== undefined) throw there
  } finally {
    closeSync(ours.root)
    closeSync(ours.cwd)
  }
  // Of kthreadd: the mounts that can be reached from its root.
  if (readFileSync('/proc/2/mountinfo', 'latin1') !== '') throw new Error('the kernel starts them elsewhere')
}

function tryTo(run: () => void): Error | undefined {
  try {
    run()
    return undefined
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error))
  }
}

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
