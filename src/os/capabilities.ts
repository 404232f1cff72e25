// Root's single powers. What is dropped here no child can ever have again, root or not.

import { prctl } from './confine.ts'
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
  capget: { arguments: ['buffer', 'buffer'], return: 'i32' },
  capset: { arguments: ['buffer', 'buffer'], return: 'i32' },
})

/** From here on nothing that this thread starts has these, whoever runs it: they are in no set from which exec(2) gives
 * capabilities. To root it gives the inheritable ones too, bounded or not. Throws without CAP_SETPCAP. */
export function dropBounding(names: readonly Capability[]): void {
  for (const name of names) {
    const number = BigInt(NUMBER[name])
    const has = prctl(PR_CAPBSET_READ, number)
    // -1: this kernel does not know it. 0: whoever started us has dropped it.
    if (has === 1 && prctl(PR_CAPBSET_DROP, number) !== 0) throw failed(`drop the capability ${name}`)
  }
  const { effective, permitted, inheritable } = readSets()
  writeSets({ effective, permitted, inheritable: without(inheritable, names) })
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
}

/** This thread, and every one that it starts, has these at most from now on, and no way back to the others. */
export function keepCapabilities(names: readonly Capability[]): void {
  const { permitted } = readSets()
  const kept = permitted & ~without((1n << 64n) - 1n, names)
  writeSets({ effective: kept, permitted: kept, inheritable: 0n })
}

interface Sets {
  effective: bigint
  permitted: bigint
  inheritable: bigint
}

/** Each in two halves of 32 bits: the low halves of all, then the high ones. */
const AT = { effective: 0, permitted: 4, inheritable: 8 } as const
const HIGH = 12

function readSets(): Sets {
  const sets = Buffer.alloc(2 * HIGH)
  if (libc.capget(header(), sets) !== 0) throw failed('read the capabilities')
  const set = (at: number): bigint => BigInt(sets.readUInt32LE(at)) | (BigInt(sets.readUInt32LE(at + HIGH)) << 32n)
  return { effective: set(AT.effective), permitted: set(AT.permitted), inheritable: set(AT.inheritable) }
}

function writeSets(wanted: Sets): void {
  const sets = Buffer.alloc(2 * HIGH)
  for (const name of ['effective', 'permitted', 'inheritable'] as const) {
    sets.writeUInt32LE(Number(wanted[name] & 0xffff_ffffn), AT[name])
    sets.writeUInt32LE(Number(wanted[name] >> 32n), AT[name] + HIGH)
  }
  if (libc.capset(header(), sets) !== 0) throw failed('give up capabilities')
}

/** Of this thread. */
function header(): Buffer {
  const header = Buffer.alloc(8)
  header.writeUInt32LE(VERSION_3)
  return header
}

/** Those of `names` that are set in a mask as /proc/PID/status prints it. */
export function within(mask: bigint, names: readonly Capability[]): Capability[] {
  return names.filter((name) => ((mask >> BigInt(NUMBER[name])) & 1n) === 1n)
}

/** `mask` without `names`. */
export function without(mask: bigint, names: readonly Capability[]): bigint {
  return names.reduce((left, name) => left & ~(1n << BigInt(NUMBER[name])), mask)
}
