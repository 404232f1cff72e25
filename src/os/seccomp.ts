// System calls that a thread gives up, with all that it starts: seccomp(2), a filter in classic BPF.

import ffi from 'node:ffi'
import { errno, failed } from './errno.ts'
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

export type Call = 'perf_event_open' | 'bpf' | 'swapon'

type Table = readonly [arch: number, numbers: Readonly<Record<Call, number>>]

/** By AUDIT_ARCH_*, our own first: a kernel that runs 32-bit programs has a second door. */
const TABLES: Record<string, readonly [Table, ...Table[]]> = {
  x64: [
    [0xc000003e, { perf_event_open: 298, bpf: 321, swapon: 167 }],
    [0x40000003, { perf_event_open: 336, bpf: 357, swapon: 87 }],
  ],
  arm64: [
    [0xc00000b7, { perf_event_open: 241, bpf: 280, swapon: 224 }],
    [0x40000028, { perf_event_open: 364, bpf: 386, swapon: 87 }],
  ],
}

const libc = bind({
  prctl: { arguments: ['i32', 'u64', 'buffer', 'u64', 'u64'], return: 'i32' },
  syscall: { arguments: ['i64', 'i64', 'i64', 'i64', 'i64', 'i64'], return: 'i64' },
})

/** None of these from now on, for this thread and for whatever it starts: EPERM. Needs CAP_SYS_ADMIN. Throws where the
 * kernel refuses. */
export function refuse(calls: readonly Call[]): void {
  const tables = tablesOfUs()
  const lines: [code: number, k: number, yes: number, no: number][] = []
  for (const [arch, numbers] of tables) {
    lines.push(
      [LOAD, ARCHITECTURE, 0, 0],
      [EQUALS, arch, 0, calls.length + 3], // to the next table
      [LOAD, NUMBER, 0, 0],
      [AND, ~X32 >>> 0, 0, 0],
      ...calls.map((call, i): [number, number, number, number] => {
        const left = calls.length - 1 - i
        return [EQUALS, numbers[call], left, left === 0 ? 1 : 0]
      }),
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

/** Whether root is refused it here, by a filter or by the kernel; undefined for another user, who is refused in any case.
 * Without arguments it has nothing to do. */
export function isRefused(call: Call): boolean | undefined {
  if (process.geteuid?.() !== 0) return undefined
  const [[, numbers]] = tablesOfUs()
  return libc.syscall(BigInt(numbers[call]), 0n, 0n, 0n, 0n, 0n) < 0n && errno() === EPERM
}

function tablesOfUs(): readonly [Table, ...Table[]] {
  const tables = TABLES[process.arch]
  if (tables === undefined) throw new Error(`no system call numbers for ${process.arch}`)
  return tables
}
