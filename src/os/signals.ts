// Signals by name and number, real-time ones included, which Node neither names nor delivers: those come through
// libuv's own watcher, so that they arrive on the event loop like any other.

import ffi from 'node:ffi'
import { constants } from 'node:os'
import { bind } from './libc.ts'

/** The range that glibc leaves to programs; 32 and 33 are its own. */
export const SIGRTMIN = 34
export const SIGRTMAX = 64
const SIG_UNBLOCK = 1
const UV_SIGNAL = 16

const libc = bind({
  kill: { arguments: ['i32', 'i32'], return: 'i32' },
  pthread_sigmask: { arguments: ['i32', 'buffer', 'pointer'], return: 'i32' },
  uv_signal_init: { arguments: ['pointer', 'pointer'], return: 'i32' },
  uv_signal_start: { arguments: ['pointer', 'pointer', 'i32'], return: 'i32' },
  malloc: { arguments: ['u64'], return: 'pointer' },
  uv_handle_size: { arguments: ['i32'], return: 'u64' },
  uv_unref: { arguments: ['pointer'], return: 'void' },
})

/** Kept for good: with it would go the callback that native code was given. */
let library: ffi.DynamicLibrary | undefined

const NUMBERS = new Map<string, number>(Object.entries(constants.signals))
const NAMES = new Map<number, NodeJS.Signals>()
const isSignal = (name: string): name is NodeJS.Signals => Object.hasOwn(constants.signals, name)
for (const [name, number] of NUMBERS) {
  // Linux has SIGIOT, SIGPOLL and SIGUNUSED as second names: the first one in the table is the usual one.
  if (!NAMES.has(number) && isSignal(name)) NAMES.set(number, name)
}

/** `SIGTERM`, `TERM` or `15` as 15; `SIGRTMIN+3` as 37; undefined for what is no signal. */
export function signalNumber(word: string): number | undefined {
  const name = word.toUpperCase().replace(/^(?:SIG)?(?=[A-Z])/, 'SIG')
  const number = /^[0-9]{1,2}$/.test(word) ? Number(word) : (NUMBERS.get(name) ?? realTime(name))
  return number !== undefined && number >= 1 && number <= SIGRTMAX && number !== 32 && number !== 33
    ? number
    : undefined
}

function realTime(name: string): number | undefined {
  const [, base, sign, offset = '0'] = /^SIGRT(MIN|MAX)(?:([+-])([0-9]{1,2}))?$/.exec(name) ?? []
  if (base === undefined) return undefined
  const number = (base === 'MIN' ? SIGRTMIN : SIGRTMAX) + Number(offset) * (sign === '-' ? -1 : 1)
  return number >= SIGRTMIN && number <= SIGRTMAX ? number : undefined
}

/** `SIGTERM` for 15, `SIGRTMIN+3` for 37. */
export function signalName(number: number): string {
  if (number >= SIGRTMIN && number <= SIGRTMAX)
    return number === SIGRTMIN ? 'SIGRTMIN' : `SIGRTMIN+${number - SIGRTMIN}`
  return NAMES.get(number) ?? `signal ${number}`
}

/** All but the two that are glibc's own. */
export const ALL: readonly number[] = Array.from({ length: SIGRTMAX }, (_, i) => i + 1).filter(
  (signal) => signal !== 32 && signal !== 33,
)

/** A sigset_t, as Linux has it on every architecture: a bit each, the first one for signal 1. To bind what libc has for
 * that takes longer than all of it. */
export function setOf(signals: readonly number[]): Buffer {
  const set = Buffer.alloc(128)
  set.writeBigUInt64LE(signals.reduce((bits, signal) => bits | (1n << BigInt(signal - 1)), 0n))
  return set
}

/** Sends any signal, real-time ones too; false when there is no such process any more. */
export function send(pid: number, signal: number): boolean {
  return libc.kill(pid, signal) === 0
}

/** Node started with --disable-sigusr1 leaves it blocked; a handler is in place, so it may come. */
export function unblock(...signals: readonly number[]): void {
  libc.pthread_sigmask(SIG_UNBLOCK, setOf(signals), 0n)
}

/** Calls `hear` for each of these signals from now on. Like SIGCHLD's, such a watcher keeps no process alive. */
export function listen(signals: readonly number[], hear: (signal: number) => void): void {
  library ??= new ffi.DynamicLibrary(null)
  // One for all: whoever is told by native code is told once more by the event loop, for it must not throw.
  const callback = library.registerCallback({ arguments: ['pointer', 'i32'], return: 'void' }, (_handle, signal) => {
    setImmediate(hear, signal)
  })
  const named = signals.filter((signal) => NAMES.has(signal))
  for (const signal of named) process.on(NAMES.get(signal) ?? '', () => hear(signal))
  unblock(...named)
  const others = signals.filter((signal) => !NAMES.has(signal))
  const size = libc.uv_handle_size(UV_SIGNAL)
  // For good: a handle of the event loop must never move or be collected, so no collector knows of it.
  const handles = libc.malloc(size * BigInt(others.length))
  if (handles === 0n) throw new Error('no memory to watch signals')
  const loop = ffi.getCurrentEventLoop()
  for (const [i, signal] of others.entries()) {
    const at = handles + BigInt(i) * size
    if (libc.uv_signal_init(loop, at) !== 0) throw new Error(`cannot watch signal ${signal}`)
    if (libc.uv_signal_start(at, callback, signal) !== 0) throw new Error(`cannot watch signal ${signal}`)
    libc.uv_unref(at)
  }
}
