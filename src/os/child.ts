// A child process by vfork(2), which makes system calls one after another, the last of which executes a program.
// posix_spawn(3) knows most of what a child may have to do before that, and not execveat(2). No code of ours runs there:
// libc's contexts, makecontext(3), lead from one call to the next, on stacks of their own in memory that both share.

import ffi from 'node:ffi'
import { errno } from './errno.ts'
import { bind } from './libc.ts'
import { ALL, setOf } from './signals.ts'

const CLONE_VM = 0x100
const CLONE_VFORK = 0x4000
const SIGCHLD = 17
const SIG_SETMASK = 2
// ucontext_t: at most 4,560 bytes; where in it are the context that follows, its stack, and the size of that.
const CONTEXT = 8192
const STACK = 8192
const LINK_AT = 8
const STACK_AT = 16
const STACK_SIZE_AT = 32
const PAGE = 4096

const libc = bind({
  clone: { arguments: ['pointer', 'pointer', 'i32', 'pointer'], return: 'i32' },
  getcontext: { arguments: ['pointer'], return: 'i32' },
  makecontext: {
    arguments: ['pointer', 'pointer', 'i32', 'u64', 'u64', 'u64', 'u64', 'u64', 'u64', 'u64'],
    return: 'void',
  },
  pthread_sigmask: { arguments: ['i32', 'buffer', 'buffer'], return: 'i32' },
  wait4: { arguments: ['i32', 'pointer', 'i32', 'pointer'], return: 'i32' },
})

/** Its number, and at most six arguments. What a pointer among them points to must live until then. */
export type SystemCall = readonly bigint[]

/** Starts a child that makes these calls, and comes back when the last one has executed something, or with what the kernel
 * said to it. The child has all signals blocked, and so has what it executes, which must see to that. */
export function executeInChild(calls: readonly SystemCall[]): { pid: number } | { refused: number } {
  const library = new ffi.DynamicLibrary(null)
  const at = (name: string): bigint => library.getSymbol(name)
  // A page to align it, with a mark in front; a context and a stack for each call, for two more, and for the start.
  const memory = Buffer.alloc(PAGE + (calls.length + 3) * (CONTEXT + STACK))
  const start = ffi.getRawPointer(memory)
  const steps = [
    ...calls.map((call) => [at('syscall'), ...call]),
    // Only where nothing was executed does anything follow.
    [at('memset'), start, 1n, 1n],
    [at('_exit'), 127n],
  ]
  const contexts = steps.map((_, i) => ((start + BigInt(PAGE)) & ~BigInt(PAGE - 1)) + BigInt(i * (CONTEXT + STACK)))
  const before = setOf([])
  const all = setOf(ALL)
  // A handler that ran in the child would run in our memory.
  libc.pthread_sigmask(SIG_SETMASK, all, before)
  try {
    for (const [i, [run = 0n, a = 0n, b = 0n, c = 0n, d = 0n, e = 0n, f = 0n, g = 0n]] of steps.entries()) {
      const context = contexts[i] ?? 0n
      const offset = Number(context - start)
      libc.getcontext(context)
      memory.writeBigUInt64LE(contexts[i + 1] ?? 0n, offset + LINK_AT)
      memory.writeBigUInt64LE(context + BigInt(CONTEXT), offset + STACK_AT)
      memory.writeBigUInt64LE(BigInt(STACK), offset + STACK_SIZE_AT)
      libc.makecontext(context, run, 7, a, b, c, d, e, f, g)
    }
    const top = (contexts.at(-1) ?? 0n) + BigInt(2 * (CONTEXT + STACK))
    const pid = libc.clone(at('setcontext'), top, CLONE_VM | CLONE_VFORK | SIGCHLD, contexts[0] ?? 0n)
    // The child's as well: until it executed something it was this thread in all but name.
    const why = errno()
    if (pid > 0 && memory[0] === 0) return { pid }
    if (pid > 0) libc.wait4(pid, 0n, 0, 0n) // nobody else hears of it
    return { refused: why }
  } finally {
    libc.pthread_sigmask(SIG_SETMASK, before, all)
  }
}
