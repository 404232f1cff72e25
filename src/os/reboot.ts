// The end of a Machine.

import { readlinkSync } from 'node:fs'
import { failed } from './errno.ts'
import { bind } from './libc.ts'

const RB_AUTOBOOT = 0x01234567
const RB_POWER_OFF = 0x4321fedc

const libc = bind({
  sync: { arguments: [], return: 'void' },
  reboot: { arguments: ['i32'], return: 'i32' },
})

/** Writes everything out and ends the Machine; in a PID namespace the kernel ends that instead. Only returns by
 * throwing. */
export function endMachine(how: 'poweroff' | 'reboot'): never {
  libc.sync()
  libc.reboot(how === 'reboot' ? RB_AUTOBOOT : RB_POWER_OFF)
  throw failed(how)
}

/** Are we the first process of a kernel, and not of a container? The initial PID namespace has a fixed number. Throws
 * without /proc. */
export function firstOfKernel(): boolean {
  return process.pid === 1 && readlinkSync('/proc/self/ns/pid') === 'pid:[4026531836]'
}
