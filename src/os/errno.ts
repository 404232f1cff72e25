// What libc last complained about, as the name that manuals use.

import ffi from 'node:ffi'
import { getSystemErrorName } from 'node:util'

// At once: to bind it, as src/os/libc.ts does, after a call that failed would lose what the call said.
const { functions: libc } = ffi.dlopen(null, { __errno_location: { arguments: [], return: 'pointer' } })

/** errno of the libc call just made on this thread. */
export function errno(): number {
  return ffi.getInt32(libc.__errno_location())
}

/** `ENOENT` for 2; the number itself where it has no name. */
export function errnoName(number: number): string {
  try {
    return getSystemErrorName(-number)
  } catch {
    return `errno ${number}` // not in libuv's table, such as ENOEXEC on some versions
  }
}

/** An Error for a failed call: what was tried, and why the kernel refused. */
export function failed(what: string, number = errno()): Error {
  return Object.assign(new Error(`cannot ${what} (${errnoName(number)})`), { code: errnoName(number) })
}

/** The name of the system error in a caught value, such as `ENOENT`; `unknown` where it is none. */
export const errnoOf = (caught: unknown): string =>
  caught instanceof Error && 'code' in caught && typeof caught.code === 'string' ? caught.code : 'unknown'
