// Root's single powers. What is dropped from the bounding set here no child can ever have again, root or not.

import { failed } from './errno.ts'
import { bind } from './libc.ts'

const NUMBER = {
  chown: 0,
  dac_override: 1,
  fowner: 3,
  sys_module: 16,
  sys_rawio: 17,
  sys_ptrace: 19,
  sys_admin: 21,
  sys_boot: 22,
  syslog: 34,
  perfmon: 38,
  bpf: 39,
  checkpoint_restore: 40,
} as const
export type Capability = keyof typeof NUMBER

const PR_CAPBSET_READ = 23
const PR_CAPBSET_DROP = 24
const PR_CAP_AMBIENT = 47
const PR_CAP_AMBIENT_CLEAR_ALL = 4n

const VERSION_3 = 0x2008_0522 // of capget(2): sets of 64 bits, in two halves

const libc = bind({
  prctl: { arguments: ['i32', 'u64', 'u64', 'u64', 'u64'], return: 'i32' },
  capget: { arguments: ['buffer', 'buffer'], return: 'i32' },
  capset: { arguments: ['buffer', 'buffer'], return: 'i32' },
})

/** For this thread and everything it starts. Throws without CAP_SETPCAP. */
export function dropBounding(names: readonly Capability[]): void {
  for (const name of names) {
    const number = BigInt(NUMBER[name])
    const has = libc.prctl(PR_CAPBSET_READ, number, 0n, 0n, 0n)
    // -1: this kernel does not know it. 0: whoever started us has dropped it.
    if (has === 1 && libc.prctl(PR_CAPBSET_DROP, number, 0n, 0n, 0n) !== 0) throw failed(`drop the capability ${name}`)
  }
  libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0n, 0n, 0n)
}

/** This thread, and every one that it starts, has these at most from now on, and no way back to the others. */
export function keepCapabilities(names: readonly Capability[]): void {
  const header = Buffer.alloc(8)
  header.writeUInt32LE(VERSION_3)
  const sets = Buffer.alloc(24) // effective, permitted, inheritable: the low halves, then the high ones
  if (libc.capget(header, sets) !== 0) throw failed('read the capabilities')
  const has = BigInt(sets.readUInt32LE(4)) | (BigInt(sets.readUInt32LE(16)) << 32n)
  const kept = has & ~without((1n << 64n) - 1n, names)
  for (const at of [0, 4]) {
    sets.writeUInt32LE(Number(kept & 0xffff_ffffn), at)
    sets.writeUInt32LE(Number(kept >> 32n), at + 12)
  }
  sets.writeUInt32LE(0, 8)
  sets.writeUInt32LE(0, 20)
  if (libc.capset(header, sets) !== 0) throw failed('give up capabilities')
}

/** Those of `names` that are set in a mask as /proc/PID/status prints it. */
export function within(mask: bigint, names: readonly Capability[]): Capability[] {
  return names.filter((name) => ((mask >> BigInt(NUMBER[name])) & 1n) === 1n)
}

/** `mask` without `names`. */
export function without(mask: bigint, names: readonly Capability[]): bigint {
  return names.reduce((left, name) => left & ~(1n << BigInt(NUMBER[name])), mask)
}
