// What a process gives up for good: to be traced or dumped by its own user, and to gain rights by exec.

import ffi from 'node:ffi'

const PR_GET_DUMPABLE = 3
const PR_SET_DUMPABLE = 4
const PR_SET_NO_NEW_PRIVS = 38
const PR_GET_NO_NEW_PRIVS = 39

const { functions: libc } = ffi.dlopen(null, {
  prctl: { arguments: ['i32', 'u64', 'u64', 'u64', 'u64'], return: 'i32' },
})

/** prctl(2), of which all that is asked here takes one number: -1 where it fails. */
export const prctl = (option: number, value: bigint): number => libc.prctl(option, value, 0n, 0n, 0n)

/** No core dump; /proc/PID/mem, ptrace and pidfd_getfd only for who has CAP_SYS_PTRACE. Throws where it does not hold. */
export function refuseTracers(): void {
  prctl(PR_SET_DUMPABLE, 0n)
  if (prctl(PR_GET_DUMPABLE, 0n) !== 0) throw new Error('cannot become undumpable')
}

/** No set-user-ID program makes this thread, or what it starts, more than it is. */
export function refuseNewRights(): void {
  prctl(PR_SET_NO_NEW_PRIVS, 1n)
  if (prctl(PR_GET_NO_NEW_PRIVS, 0n) !== 1) throw new Error('cannot refuse new rights')
}
