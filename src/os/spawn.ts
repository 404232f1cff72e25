// A child process by posix_spawn(3): no fork of this heap, no libuv that would wait for it. The child gets what is
// listed here and nothing else: no other descriptor, no blocked or ignored signal, no other user's rights.

import ffi from 'node:ffi'
import { closeSync } from 'node:fs'
import { executeInChild } from './child.ts'
import type { SystemCall } from './child.ts'
import { prctl } from './confine.ts'
import { errno, errnoName, failed } from './errno.ts'
import { getLimit, setLimit } from './limits.ts'
import type { Limit, Resource } from './limits.ts'
import { bind } from './libc.ts'
import { ALL, setOf } from './signals.ts'

export interface Rights {
  uid: number
  gid: number
  groups: readonly number[]
  /** An effective group other than `gid`. Then no process can pass for it: the kernel lets one trace another only
   * when its one group equals the other's real, effective and saved ones, so without CAP_SYS_PTRACE nobody can, from
   * the first instruction; such a program is not dumpable when it starts, and ld.so and Node distrust their
   * environment. */
  effectiveGid?: number
}

export interface Command {
  /** A path; nothing is looked up. */
  file: string
  /** A descriptor of it, closed on exec: that file is what is run, whatever the path leads to by now, and no handler of
   * binfmt_misc in its place, which root may register for any program. A child that is nobody else's, in our directory. */
  opened?: number
  argv: readonly string[]
  /** `NAME=value` each. */
  env: readonly string[]
  cwd?: string
  /** The child's descriptors 0, 1, 2, …, each one of ours; all others are closed. */
  files: readonly number[]
  /** A terminal that becomes its controlling terminal and its descriptors 0, 1 and 2: one by path, or the one that is
   * first in `files`. */
  terminal?: string | true
  rights?: Rights
  limits?: Partial<Record<Resource, Limit>>
}

const SETSIGDEF = 0x04
const SETSIGMASK = 0x08
const SETSID = 0x80
const O_RDWR = 2
const F_DUPFD_CLOEXEC = 1030
const PR_GET_DUMPABLE = 3
const PR_SET_DUMPABLE = 4

const libc = bind({
  posix_spawn: { arguments: ['buffer', 'string', 'buffer', 'buffer', 'buffer', 'buffer'], return: 'i32' },
  posix_spawnattr_init: { arguments: ['buffer'], return: 'i32' },
  posix_spawnattr_setflags: { arguments: ['buffer', 'i16'], return: 'i32' },
  posix_spawnattr_setsigdefault: { arguments: ['buffer', 'buffer'], return: 'i32' },
  posix_spawnattr_setsigmask: { arguments: ['buffer', 'buffer'], return: 'i32' },
  posix_spawnattr_destroy: { arguments: ['buffer'], return: 'i32' },
  posix_spawn_file_actions_init: { arguments: ['buffer'], return: 'i32' },
  posix_spawn_file_actions_adddup2: { arguments: ['buffer', 'i32', 'i32'], return: 'i32' },
  posix_spawn_file_actions_addopen: { arguments: ['buffer', 'i32', 'string', 'i32', 'u32'], return: 'i32' },
  posix_spawn_file_actions_addchdir_np: { arguments: ['buffer', 'string'], return: 'i32' },
  posix_spawn_file_actions_addclosefrom_np: { arguments: ['buffer', 'i32'], return: 'i32' },
  posix_spawn_file_actions_destroy: { arguments: ['buffer'], return: 'i32' },
  fcntl: { arguments: ['i32', 'i32', 'i32'], return: 'i32' },
  pipe2: { arguments: ['buffer', 'i32'], return: 'i32' },
  syscall: { arguments: ['i64', 'i64', 'i64', 'i64'], return: 'i64' },
  getgroups: { arguments: ['i32', 'buffer'], return: 'i32' },
})
const raw = bind({
  syscall: { arguments: ['i64', 'i64', 'buffer'], return: 'i64' },
})

/** Starts it. A refusal is an errno name: ENOENT, EACCES, ENOEXEC and so on, of the program or of `cwd`. */
export function spawn(command: Command): { pid: number } | { refused: string } {
  const actions = Buffer.alloc(512)
  const attributes = Buffer.alloc(512)
  const argv = strings(command.argv)
  const env = strings(command.env)
  const pid = Buffer.alloc(4)
  const moved: number[] = []
  const { opened } = command
  libc.posix_spawn_file_actions_init(actions)
  libc.posix_spawnattr_init(attributes)
  try {
    let ok = libc.posix_spawnattr_setflags(attributes, SETSIGDEF | SETSIGMASK | SETSID)
    ok |= libc.posix_spawnattr_setsigdefault(attributes, setOf(ALL))
    ok |= libc.posix_spawnattr_setsigmask(attributes, setOf([]))
    // Moved above every target first, so that none overwrites a source; not far above: beyond 64 descriptors the kernel
    // grows their table, and in a process with threads waits up to 15 ms for a grace period first.
    const above = Math.max(3, command.files.length)
    for (const fd of command.files) {
      const copy = libc.fcntl(fd, F_DUPFD_CLOEXEC, above)
      if (copy < 0) throw failed('copy a descriptor')
      moved.push(copy)
    }
    for (const [i, fd] of moved.entries()) ok |= libc.posix_spawn_file_actions_adddup2(actions, fd, i)
    if (command.terminal !== undefined) {
      // The first terminal that a session leader opens becomes its controlling one.
      // libc closes 0 before it opens it anew, so the way there is the copy.
      const path = command.terminal === true ? `/proc/self/fd/${moved[0]}` : command.terminal
      ok |= libc.posix_spawn_file_actions_addopen(actions, 0, path, O_RDWR, 0)
      for (const fd of [1, 2]) ok |= libc.posix_spawn_file_actions_adddup2(actions, 0, fd)
    }
    ok |= libc.posix_spawn_file_actions_addclosefrom_np(actions, Math.max(3, moved.length))
    if (command.cwd !== undefined) ok |= libc.posix_spawn_file_actions_addchdir_np(actions, command.cwd)
    if (ok !== 0) throw new Error('cannot prepare a child process')
    const run = (): { pid: number } | { refused: number } => {
      if (opened !== undefined && canClose()) {
        for (const array of [argv, env]) held.add(array)
        return executeInChild(executing(opened, moved, argv, env))
      }
      const error = libc.posix_spawn(pid, command.file, actions, attributes, argv, env)
      return error === 0 ? { pid: pid.readInt32LE() } : { refused: error }
    }
    const started = withLimits(command.limits ?? {}, () => asUser(command.rights, run))
    return 'pid' in started ? started : { refused: errnoName(started.refused) }
  } finally {
    held.clear()
    for (const fd of moved) closeSync(fd)
    libc.posix_spawn_file_actions_destroy(actions)
    libc.posix_spawnattr_destroy(attributes)
  }
}

// Numbers of system calls: those that differ, and one that does not.
type Name = 'setresuid' | 'setresgid' | 'setgroups' | 'setsid' | 'dup3' | 'execveat'
const CALLS: Record<string, Readonly<Record<Name, bigint>>> = {
  x64: {
    setresuid: 117n,
    setresgid: 119n,
    setgroups: 116n,
    setsid: 112n,
    dup3: 292n,
    execveat: 322n,
  },
  arm64: {
    setresuid: 147n,
    setresgid: 149n,
    setgroups: 159n,
    setsid: 157n,
    dup3: 24n,
    execveat: 281n,
  },
}

function callsOfUs(): Readonly<Record<Name, bigint>> {
  const calls = CALLS[process.arch]
  if (calls === undefined) throw new Error(`no system call numbers for ${process.arch}`)
  return calls
}

const CLOSE_RANGE = 436n
const CLOSE_RANGE_CLOEXEC = 4n
const AT_EMPTY_PATH = 0x1000n
const LAST = 0xffff_ffffn
/** Of which only addresses are known just now. */
const held = new Set<Buffer>()
const EMPTY = Buffer.alloc(128) // small ones V8 moves about

/** What posix_spawn does with `moved`, and then execveat(2). The kernel gives a program to a handler of binfmt_misc, or a
 * script to its interpreter, by name: one that leads nowhere once the descriptor is closed makes it refuse (ENOENT). */
function executing(file: number, moved: readonly number[], argv: Buffer, env: Buffer): SystemCall[] {
  const { setsid, dup3, execveat } = callsOfUs()
  return [
    [setsid],
    ...moved.map((fd, i) => [dup3, BigInt(fd), BigInt(i), 0n]),
    [CLOSE_RANGE, BigInt(Math.max(3, moved.length)), LAST, CLOSE_RANGE_CLOEXEC],
    [execveat, BigInt(file), ffi.getRawPointer(EMPTY), ffi.getRawPointer(argv), ffi.getRawPointer(env), AT_EMPTY_PATH],
  ]
}

/** Since Linux 5.11, which is older than memfd_secret(2). */
const canClose = (): boolean => libc.syscall(CLOSE_RANGE, LAST, LAST, CLOSE_RANGE_CLOEXEC) === 0n

/** Both ends of a pipe, closed on exec. */
export function pipe(): { read: number; write: number } {
  const pair = Buffer.alloc(8)
  if (libc.pipe2(pair, 0x80000) !== 0) throw failed('make a pipe')
  return { read: pair.readInt32LE(0), write: pair.readInt32LE(4) }
}

/** A NULL-ended array of C strings, with the strings behind it in the same Buffer: to the collector, which knows nothing
 * of addresses, nobody would use a second one. */
function strings(words: readonly string[]): Buffer {
  // A NUL inside a word would make two of it.
  if (words.some((word) => word.includes('\0'))) throw new Error('an argument or variable has a NUL byte')
  const head = 8 * (words.length + 1)
  const sizes = words.map((word) => Buffer.byteLength(word) + 1)
  const array = Buffer.alloc(sizes.reduce((sum, size) => sum + size, head))
  const start = ffi.getRawPointer(array)
  let at = head
  for (const [i, word] of words.entries()) {
    array.writeBigUInt64LE(start + BigInt(at), 8 * i)
    array.write(word, at)
    at += sizes[i] ?? 0
  }
  return array
}

// posix_spawn cannot set a user. Credentials in Linux belong to a *thread* (it is libc that pretends otherwise), and the
// child is a copy of the thread that makes it. So this thread alone becomes the user by raw system calls, spawns, and
// comes back: its saved uid stays 0, which is the way back, and which exec(2) replaces in the child by the effective
// one. No other thread of ours is touched, no code of the user runs before exec, and with the user 0 given up exec
// clears every capability.
function asUser<T>(rights: Rights | undefined, run: () => T): T {
  if (rights === undefined || areOurs(rights)) return run()
  const calls = callsOfUs()
  const before = currentGroups()
  const gid = process.getgid?.() ?? 0
  const dumpable = prctl(PR_GET_DUMPABLE, 0n)
  const call = (what: string, number: bigint, ...args: (number | bigint)[]): void => {
    const [a = 0, b = 0, c = 0] = args
    if (libc.syscall(number, BigInt(a), BigInt(b), BigInt(c)) !== 0n) throw failed(what)
  }
  const groups = (ids: Uint32Array): void => {
    if (raw.syscall(calls.setgroups, BigInt(ids.length), ids) !== 0n) throw failed('set groups')
  }
  try {
    groups(Uint32Array.from(rights.groups))
    call(
      'set the group',
      calls.setresgid,
      rights.gid,
      rights.effectiveGid ?? rights.gid,
      rights.effectiveGid ?? rights.gid,
    )
    call('set the user', calls.setresuid, rights.uid, rights.uid, 0)
    return run()
  } finally {
    // A thread that cannot come back must not go on: these throw.
    call('become root again', calls.setresuid, 0, 0, 0)
    call('get our group back', calls.setresgid, gid, gid, gid)
    groups(before)
    // A change of user makes the kernel set it anew, from fs.suid_dumpable.
    prctl(PR_SET_DUMPABLE, dumpable === 1 ? 1n : 0n)
  }
}

/** What the child has in any case: to the group, for Node's own list of groups has one more. */
function areOurs({ uid, gid, groups, effectiveGid = gid }: Rights): boolean {
  return (
    [process.getuid?.(), process.geteuid?.()].every((id) => id === uid) &&
    [process.getgid?.(), process.getegid?.(), effectiveGid].every((id) => id === gid) &&
    String(currentGroups().toSorted()) === String(Uint32Array.from(groups).toSorted())
  )
}

/** The kernel has an order of its own, which in a user namespace is of other numbers. */
function currentGroups(): Uint32Array {
  const count = libc.getgroups(0, new Uint32Array(1))
  const ids = new Uint32Array(Math.max(count, 0))
  if (count < 0 || libc.getgroups(count, ids) !== count) throw failed('read our groups', errno())
  return ids
}

/** Limits belong to the process and are copied at the moment of the spawn. */
function withLimits<T>(limits: Partial<Record<Resource, Limit>>, run: () => T): T {
  const before: [Resource, Limit][] = []
  try {
    for (const resource of ['core', 'nofile', 'memlock'] as const) {
      const limit = limits[resource]
      if (limit === undefined) continue
      before.push([resource, getLimit(resource)])
      setLimit(resource, limit)
    }
    return run()
  } finally {
    for (const [resource, limit] of before) setLimit(resource, limit)
  }
}
