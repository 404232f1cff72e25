// What a keeper could do to a Machine: tried by a process with its flags, behind its fence or not. Prints a word for each.

import { spawnSync } from 'node:child_process'
import { chownSync, lstatSync, readFileSync } from 'node:fs'
import { connect } from 'node:net'
import ffi from 'node:ffi'
import { fence } from '../../src/identity/fence.ts'
import { replaceFile } from '../../src/identity/file.ts'
import { errno, errnoName, errnoOf } from '../../src/os/errno.ts'

interface Task {
  fenced: boolean
  /** A file to keep, one of somebody else's beside its directory, a program, a TCP port where somebody listens. */
  token: string
  other: string
  program: string
  port: number
}

// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- both ends are this test
const { fenced, token, other, program, port } = JSON.parse(process.argv[2] ?? '') as Task
const file = { cloud: 'custom', path: token, mode: 0o600, audience: 'x', format: 'raw' } as const
const outgrown = fenced ? fence({ files: [file], settings: [] }) : (): boolean => false

/** Machine code of an attacker's does not ask Node. */
const { functions: libc } = ffi.dlopen(null, {
  open: { arguments: ['string', 'i32', 'u32'], return: 'i32' },
  unlink: { arguments: ['string'], return: 'i32' },
  rename: { arguments: ['string', 'string'], return: 'i32' },
  mkdir: { arguments: ['string', 'u32'], return: 'i32' },
  access: { arguments: ['string', 'i32'], return: 'i32' },
  system: { arguments: ['string'], return: 'i32' },
  kill: { arguments: ['i32', 'i32'], return: 'i32' },
  chroot: { arguments: ['string'], return: 'i32' },
})
const raw = (result: number): string => (result >= 0 ? 'done' : errnoName(errno()))
const node = (act: () => unknown): string => {
  try {
    act()
    return 'done'
  } catch (error) {
    return errnoOf(error)
  }
}
const dial = (): Promise<string> =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy()
      resolve('done')
    }).on('error', (error) => resolve(errnoOf(error)))
  })

const O_RDONLY = 0
const O_WRONLY = 1
const O_CREAT = 0o100
process.stdout.write(
  JSON.stringify({
    keep: node(() => replaceFile(file, 'token')),
    again: node(() => replaceFile(file, 'token')),
    outgrown: outgrown(),
    read: raw(libc.open(other, O_RDONLY, 0)),
    write: raw(libc.open(other, O_WRONLY, 0)),
    create: raw(libc.open(`${other}.new`, O_WRONLY | O_CREAT, 0o600)),
    below: raw(libc.mkdir(`${token}.d`, 0o700)),
    move: raw(libc.rename(token, `${other}.moved`)),
    remove: raw(libc.unlink(other)),
    run: libc.system(program) === 0 ? 'done' : 'EACCES',
    signal: raw(libc.kill(process.ppid, 0)),
    root: raw(libc.chroot('/')),
    tcp: await dial(),
    nodeRead: node(() => readFileSync(other)),
    nodeOwn: node(() => chownSync(token, 0, 0)),
    nodeRun: node(() => spawnSync(program)),
    look: node(() => lstatSync('/')),
  }),
)
