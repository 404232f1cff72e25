// The credential. It lies in a page that the kernel cannot read (src/os/page.ts) and leaves it in one way only: as
// bytes on a socket to flyd. It never becomes a JS string, and everything that strip derives from it lies in such
// pages too. Printing, logging or serialising a Credential gives `[Credential]`.

import { inspect } from 'node:util'
import type { Duplex } from 'node:stream'
import { createPage, mapPage } from '../os/page.ts'

/** Hands out zeroed, 8-aligned pieces of secret memory. */
export type Alloc = (bytes: number) => Buffer

export class Credential {
  readonly #bytes: Buffer

  /** `page` holds the header value, such as `FlyV1 fm2_…`, and NULs behind it. */
  constructor(page: Buffer) {
    const end = page.indexOf(0)
    this.#bytes = page.subarray(0, end < 0 ? page.length : end)
  }

  /** HAZARD, and the only one: writes the credential between two pieces, to flyd and nobody else. */
  writeTo(flyd: Duplex, before: Buffer, after: Buffer): void {
    flyd.cork() // one system call; and of buffers alone, so that nothing is copied on its way there
    flyd.write(before)
    flyd.write(this.#bytes)
    flyd.write(after)
    flyd.uncork()
  }

  /** Gives the bytes to the maker of the strip tables, which keeps what it derives in memory from `secretMemory`. */
  derive<T>(make: (bytes: Buffer) => T): T {
    return make(this.#bytes)
  }

  toString(): string {
    return '[Credential]'
  }
  toJSON(): string {
    return '[Credential]'
  }
  [inspect.custom](): string {
    return '[Credential]'
  }
}

/** One more secret mapping and its allocator. Throws where `size` is used up: then nothing is served. */
export function secretMemory(size: number): { alloc: Alloc; secret: boolean } {
  const { fd, secret } = createPage(size)
  const page = mapPage(fd)
  let used = 0
  return {
    secret,
    alloc(bytes) {
      const from = used
      used += (bytes + 7) & ~7
      if (used > size) throw new Error('secret memory is used up')
      return page.subarray(from, from + bytes)
    },
  }
}
