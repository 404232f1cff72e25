// Landlock, landlock(7): a thread gives up all files but those below a few directories, for good, with all that it
// starts. It needs no privilege but to have refused new rights, see src/os/confine.ts.

import { closeSync, constants, openSync } from 'node:fs'
import { errnoName, errno, failed } from './errno.ts'
import { bind } from './libc.ts'

// The same numbers on every architecture.
const CREATE_RULESET = 444n
const ADD_RULE = 445n
const RESTRICT_SELF = 446n
const VERSION = 1n // flag of CREATE_RULESET: tell which version of it this kernel has
const PATH_BENEATH = 1n

const WRITE_FILE = 1n << 1n
const READ_FILE = 1n << 2n
const READ_DIR = 1n << 3n
const REMOVE_FILE = 1n << 5n
const MAKE_REG = 1n << 8n
const TRUNCATE = 1n << 14n
const READ = READ_FILE | READ_DIR
const WRITE = READ | WRITE_FILE | REMOVE_FILE | MAKE_REG | TRUNCATE

/** Rights over files that each version knows; a right that a kernel does not know must not be named to it. */
const FILES = [0n, 13n, 14n, 15n, 15n, 16n].map((bits) => (1n << bits) - 1n)
const TCP = 0b11n // bind, connect
const BEYOND = 0b11n // abstract Unix sockets and signals of others

const libc = bind({
  syscall: { arguments: ['i64', 'buffer', 'i64', 'i64'], return: 'i64' },
})
const rule = bind({
  syscall: { arguments: ['i64', 'i64', 'i64', 'buffer', 'i64'], return: 'i64' },
})
const plain = bind({
  syscall: { arguments: ['i64', 'i64', 'i64', 'i64'], return: 'i64' },
})

/** Of the running kernel; 0 where it has no Landlock. */
export function landlockVersion(): number {
  const version = Number(plain.syscall(CREATE_RULESET, 0n, 0n, VERSION))
  if (version > 0) return version
  const why = errnoName(errno())
  if (why === 'ENOSYS' || why === 'EOPNOTSUPP') return 0 // it was built without, or started without
  throw failed('ask for Landlock')
}

/** From here on this thread reads only below `read` and `write`, and makes, writes and removes plain files only below
 * `write`; it executes nothing and, where the kernel can hold it to that, opens no TCP connection and sends no signal.
 * All of them are directories that exist. Without Landlock nothing changes. Owners and modes are not Landlock's. */
export function keepToDirectories({ read, write }: { read: readonly string[]; write: readonly string[] }): void {
  const version = landlockVersion()
  if (version === 0) return
  const files = FILES[Math.min(version, FILES.length - 1)] ?? 0n
  const attributes = Buffer.alloc(version < 4 ? 8 : version < 6 ? 16 : 24)
  for (const [i, rights] of [files, TCP, BEYOND].entries())
    if (8 * i < attributes.length) attributes.writeBigUInt64LE(rights, 8 * i)
  const ruleset = libc.syscall(CREATE_RULESET, attributes, BigInt(attributes.length), 0n)
  if (ruleset < 0n) throw failed('make a Landlock ruleset')
  try {
    for (const path of read) allow(ruleset, path, READ)
    for (const path of write) allow(ruleset, path, WRITE & files)
    if (plain.syscall(RESTRICT_SELF, ruleset, 0n, 0n) !== 0n) throw failed('restrict this thread')
  } finally {
    closeSync(Number(ruleset))
  }
}

function allow(ruleset: bigint, path: string, rights: bigint): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    // struct landlock_path_beneath_attr, which is packed
    const beneath = Buffer.alloc(12)
    beneath.writeBigUInt64LE(rights, 0)
    beneath.writeInt32LE(fd, 8)
    if (rule.syscall(ADD_RULE, ruleset, PATH_BENEATH, beneath, 0n) !== 0n) throw failed(`allow ${path}`)
  } finally {
    closeSync(fd)
  }
}
