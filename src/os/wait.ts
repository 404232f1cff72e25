// Children end here: wait4(2), which tells of every child, adopted ones too, and of real-time signals and core dumps.
// child_process can do none of that, and both together would steal each other's statuses.

import { errno, failed } from './errno.ts'
import { bind } from './libc.ts'

const WNOHANG = 1
const ECHILD = 10
const EINTR = 4
/** SIGCHLD is not queued and libuv's pipe can fill up: look once in a while whatever was heard. */
const TICK = 1000

const libc = bind({
  wait4: { arguments: ['i32', 'buffer', 'i32', 'pointer'], return: 'i32' },
})
const status = Buffer.allocUnsafeSlow(4)

/** How a process ended. */
export type Ending = { readonly code: number } | { readonly signal: number; readonly core: boolean }

/** One child that has ended, `none yet`, or `childless`. Never waits. `pid` -1 means any. */
export function reap(pid: number): { pid: number; ending: Ending } | 'none yet' | 'childless' {
  for (;;) {
    const ended = libc.wait4(pid, status, WNOHANG, 0n)
    if (ended > 0) return { pid: ended, ending: decode(status.readInt32LE()) }
    if (ended === 0) return 'none yet'
    const why = errno()
    if (why === ECHILD) return 'childless'
    if (why !== EINTR) throw failed('wait for a child', why)
  }
}

/** What a wait status means. */
export function decode(status: number): Ending {
  const signal = status & 0x7f
  return signal === 0 ? { code: (status >> 8) & 0xff } : { signal, core: (status & 0x80) !== 0 }
}

/** 0 to 255, as a shell would report it. */
export function exitCode(ending: Ending): number {
  return 'code' in ending ? ending.code : 128 + ending.signal
}

/** Waits for children. `all`: also for those it was never told of, which only an init may do: in any other process
 * they belong to somebody else's code. */
export class Children {
  readonly #own = new Map<number, (ending: Ending) => void>()
  readonly #stranger: ((pid: number, ending: Ending) => void) | undefined
  readonly #tick: NodeJS.Timeout
  readonly #look = (): void => this.look()
  /** Told of everything, with nobody left to wait for; only where all are waited for. */
  childless = false

  constructor(stranger?: (pid: number, ending: Ending) => void) {
    this.#stranger = stranger
    process.on('SIGCHLD', this.#look)
    this.#tick = setInterval(this.#look, TICK)
    if (stranger === undefined) this.#tick.unref()
  }

  /** The ending of a child that was spawned in this turn of the event loop. */
  ending(pid: number): Promise<Ending> {
    this.childless = false
    this.#tick.ref() // a process that waits for a child has something to live for
    return new Promise((resolve) => this.#own.set(pid, resolve))
  }

  look(): void {
    if (this.#stranger === undefined) {
      for (const pid of this.#own.keys()) {
        const found = reap(pid)
        if (typeof found !== 'string') this.#settle(found.pid, found.ending)
      }
      return
    }
    for (;;) {
      const found = reap(-1)
      this.childless = found === 'childless'
      if (typeof found === 'string') return
      this.#settle(found.pid, found.ending)
    }
  }

  close(): void {
    clearInterval(this.#tick)
    process.off('SIGCHLD', this.#look)
  }

  #settle(pid: number, ending: Ending): void {
    const resolve = this.#own.get(pid)
    this.#own.delete(pid)
    if (this.#stranger === undefined && this.#own.size === 0) this.#tick.unref()
    if (resolve === undefined) this.#stranger?.(pid, ending)
    else resolve(ending)
  }
}
