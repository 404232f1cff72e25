// The terminal on descriptor 0, for a program that is to have it as its own.

import { fstatSync, readFileSync } from 'node:fs'
import { own } from './descriptor.ts'
import { bind } from './libc.ts'

const TIOCNOTTY = 0x5422n
const SIGHUP = 1
const SIG_IGN = 1
const SIGACTION_SIZE = 256 // more than any libc's struct sigaction
const CONSOLE = 5 * 256 + 1 // device number of /dev/console, which no session can have

const libc = bind({
  isatty: { arguments: ['i32'], return: 'i32' },
  getsid: { arguments: ['i32'], return: 'i32' },
  sigaction: { arguments: ['i32', 'buffer', 'buffer'], return: 'i32' },
  ioctl: { arguments: ['i32', 'u64', 'u64'], return: 'i32' },
})

/** The terminal on descriptor 0 (`true`, or a path that opens it), given up by our own session and owned by `uid` from
 * now on; undefined where there is none, or where it belongs to the shell that started us. */
export function releaseTerminal(uid: number): string | true | undefined {
  if (libc.isatty(0) !== 1 || libc.getsid(0) !== process.pid) return undefined
  // A leader that lets go of its terminal is sent SIGHUP, which nobody here means for the entrypoint.
  const ignore = Buffer.alloc(SIGACTION_SIZE)
  const before = Buffer.alloc(SIGACTION_SIZE)
  ignore.writeUInt8(SIG_IGN)
  libc.sigaction(SIGHUP, ignore, before)
  libc.ioctl(0, TIOCNOTTY, 0n)
  libc.sigaction(SIGHUP, before, Buffer.alloc(SIGACTION_SIZE))
  own(0, { uid })
  return fstatSync(0).rdev === CONSOLE ? activeConsole() : true
}

/** What /dev/console stands for, the last one listed. */
function activeConsole(): string | undefined {
  const name = readFileSync('/sys/class/tty/console/active', 'utf8').trim().split(' ').at(-1)
  return name === undefined || name === '' ? undefined : `/dev/${name}`
}
