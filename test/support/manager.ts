// What a service manager does for a service, without one: listening sockets as descriptors from 3 on, and an ear.

import ffi from 'node:ffi'
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { BIN, NODE } from '../cli/dotfly.ts'
import { CACHE } from './cache.ts'

const AF_UNIX = 1
const SOCK_DGRAM_NONBLOCK_CLOEXEC = 0x80802

const { functions: libc } = ffi.dlopen(null, {
  socket: { arguments: ['i32', 'i32', 'i32'], return: 'i32' },
  bind: { arguments: ['i32', 'buffer', 'u32'], return: 'i32' },
  recv: { arguments: ['i32', 'buffer', 'u64', 'i32'], return: 'i64' },
})

interface Scope {
  teardown(end: () => Promise<void> | void): void
}

export interface Ear {
  /** For NOTIFY_SOCKET. */
  readonly address: string
  /** Everything said so far, one datagram each. */
  readonly heard: string[]
  /** Resolves once something said, from the `from`th on, matches. */
  until(pattern: RegExp, from?: number): Promise<void>
}

/** `abstract`: a name that is no file. */
export function listen(t: Scope, abstract = false): Ear {
  const directory = mkdtempSync(join(tmpdir(), 'dotfly-ear-'))
  const path = join(directory, 'notify')
  const address = Buffer.concat([Buffer.from([AF_UNIX, 0]), Buffer.from(abstract ? `\0${path}` : path)])
  const fd = libc.socket(AF_UNIX, SOCK_DGRAM_NONBLOCK_CLOEXEC, 0)
  if (fd < 0 || libc.bind(fd, address, address.length) !== 0) throw new Error('cannot listen')
  const heard: string[] = []
  const buffer = Buffer.alloc(4096)
  const hear = (): void => {
    for (;;) {
      const length = Number(libc.recv(fd, buffer, BigInt(buffer.length), 0))
      if (length <= 0) return
      heard.push(buffer.toString('utf8', 0, length))
    }
  }
  const timer = setInterval(hear, 10)
  t.teardown(() => {
    clearInterval(timer)
    rmSync(directory, { recursive: true, force: true })
  })
  return {
    address: abstract ? `@${path}` : path,
    heard,
    until: async (pattern, from = 0) => {
      while (!heard.slice(from).some((state) => pattern.test(state))) await sleep(10)
    },
  }
}

/** `dotfly WORDS` as a service manager starts it, the descriptors in `handed` from 3 on. The process is dotfly's own. */
export function serve(
  words: readonly string[],
  env: Readonly<Record<string, string>>,
  handed: readonly number[] = [],
): ChildProcess {
  const variables = Object.entries({ PATH: process.env['PATH'] ?? '', ...CACHE, ...env }).map(
    ([name, value]) => `${name}=${value}`,
  )
  const given = handed.length === 0 ? [] : ['LISTEN_PID=$$', `LISTEN_FDS=${handed.length}`]
  return spawn(
    'sh',
    [
      '-c',
      `exec env -i ${given.join(' ')} "$@"`,
      'sh',
      ...variables,
      NODE,
      '--disable-warning=ExperimentalWarning',
      BIN,
      ...words,
    ],
    { stdio: ['ignore', 'pipe', 'pipe', ...handed] },
  )
}

/** The trusted process of a launcher. */
export function trusted(launcher: ChildProcess): number {
  const pid = Number(readFileSync(`/proc/${launcher.pid}/task/${launcher.pid}/children`, 'utf8').trim())
  if (!(pid > 0)) throw new Error('the launcher has not exactly one child')
  return pid
}
