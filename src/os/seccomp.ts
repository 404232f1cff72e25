// System calls that a thread gives up, with all that it starts: seccomp(2), a filter in classic BPF.

import ffi from 'node:ffi'
import { failed } from './errno.ts'
import { bind } from './libc.ts'

const PR_SET_SECCOMP = 22
const SECCOMP_MODE_FILTER = 2n
const EPERM = 1
const RET_ALLOW = 0x7fff0000
const RET_ERRNO = 0x00050000
// struct seccomp_data: the number, then the architecture whose table it is in.
const NUMBER = 0
const ARCHITECTURE = 4
const LOAD = 0x20
const EQUALS = 0x15
const AND = 0x54
const RETURN = 0x06
/** Bytes of struct sock_fprog. */
const HEAD = 16
/** Set in the numbers of x32, which are else those of x86-64. */
const X32 = 0x40000000

/** [perf_event_open, bpf] by AUDIT_ARCH_*: a kernel that runs 32-bit programs has a second door. */
const TRACING: Record<string, readonly (readonly [arch: number, perf: number, bpf: number])[]> = {
  x64: [
    [0xc000003e, 298, 321],
    [0x40000003, 336, 357],
  ],
  arm64: [
    [0xc00000b7, 241, 280],
    [0x40000028, 364, 386],
  ],
}

const libc = bind({
  prctl: { arguments: ['i32', 'u64', 'buffer', 'u64', 'u64'], return: 'i32' },
})

/** No bpf(2) and no perf_event_open(2) from now on, for this thread and for whatever it starts: EPERM. A program of either
 * runs in the context of any process, and reads there what that process alone may read. Needs CAP_SYS_ADMIN. Throws
 * where the kernel refuses. */
export function refuseTracing(): void {
  const tables = TRACING[process.arch]
  if (tables === undefined) throw new Error(`no system call numbers for ${process.arch}`)
  const lines: [code: number, k: number, yes: number, no: number][] = []
  for (const [arch, perf, bpf] of tables) {
    lines.push(
      [LOAD, ARCHITECTURE, 0, 0],
      [EQUALS, arch, 0, 5],
      [LOAD, NUMBER, 0, 0],
      [AND, ~X32 >>> 0, 0, 0],
      [EQUALS, perf, 1, 0],
      [EQUALS, bpf, 0, 1],
      [RETURN, RET_ERRNO | EPERM, 0, 0],
    )
  }
  lines.push([RETURN, RET_ALLOW, 0, 0])
  // struct sock_fprog, with the filter that it points to behind it in the same Buffer: to the collector, which knows
  // nothing of addresses, nobody would use a second one.
  const program = Buffer.alloc(HEAD + 8 * lines.length)
  program.writeUInt16LE(lines.length)
  program.writeBigUInt64LE(ffi.getRawPointer(program) + BigInt(HEAD), 8)
  for (const [i, [code, k, yes, no]] of lines.entries()) {
    const at = HEAD + 8 * i
    program.writeUInt16LE(code, at)
    program.writeUInt8(yes, at + 2)
    program.writeUInt8(no, at + 3)
    program.writeUInt32LE(k, at + 4)
  }
  if (libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0n, 0n) !== 0) throw failed('give up system calls')
}
