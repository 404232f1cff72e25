// The three clocks of a Machine at one moment. They part when it matters: the monotonic clock stands still while the
// Machine is suspended, the boot-time clock does not, and the wall clock is whatever somebody set it to.

import ffi from 'node:ffi'

export interface Instant {
  /** CLOCK_REALTIME, Unix ms: what `iat`, `nbf` and `exp` speak of. */
  readonly wall: number
  /** CLOCK_MONOTONIC, ms. */
  readonly mono: number
  /** CLOCK_BOOTTIME, ms: the time that has really passed, as far as this kernel knows. */
  readonly boot: number
}

const CLOCK_REALTIME = 0
const CLOCK_MONOTONIC = 1
const CLOCK_BOOTTIME = 7

const { functions: libc } = ffi.dlopen(null, {
  clock_gettime: { arguments: ['i32', 'buffer'], return: 'i32' },
})

export const readClocks = (): Instant => ({
  wall: read(CLOCK_REALTIME),
  mono: read(CLOCK_MONOTONIC),
  boot: read(CLOCK_BOOTTIME),
})

const timespec = Buffer.alloc(16)

function read(clock: number): number {
  // It can only fail for a clock that the kernel does not have, and these are older than memfd_secret and Node 26.
  if (libc.clock_gettime(clock, timespec) !== 0) throw new Error(`this kernel has no clock ${clock}`)
  return Number(timespec.readBigInt64LE(0)) * 1000 + Number(timespec.readBigInt64LE(8)) / 1e6
}
