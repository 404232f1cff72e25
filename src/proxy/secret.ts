// The credential. It lies in a page that the kernel cannot read (src/os/page.ts) and leaves it in one way only: as
// bytes on a socket to flyd. It never becomes a JS string, and everything that strip derives from it lies in such
// pages too. Printing, logging or serialising a Credential gives `[Credential]`.

import { closeSync } from 'node:fs'
import { inspect } from 'node:util'
import { createPage, layOver } from '../os/page.ts'
import type { Wire } from './wire.ts'

/** Hands out zeroed, 8-aligned pieces of secret memory. */
export type Alloc = (bytes: number) => Buffer

export function allocNumbers(alloc: Alloc, n: number): Int32Array {
  const { buffer, byteOffset } = alloc(4 * n)
  return new Int32Array(buffer, byteOffset, n)
}

/** Secret memory, which WebAssembly reads too: scan.ts looks in place at what lies in it. */
export interface SecretMemory {
  readonly alloc: Alloc
  readonly memory: WebAssembly.Memory
  /** False where the kernel has none, or where it was not wanted. */
  readonly secret: boolean
}

export class Credential {
  readonly #bytes: Buffer

  /** `page` holds the header value, such as `FlyV1 fm2_…`, and NULs behind it. */
  constructor(page: Buffer) {
    const end = page.indexOf(0)
    this.#bytes = page.subarray(0, end < 0 ? page.length : end)
  }

  /** HAZARD, and the only one: writes the credential between two pieces, to flyd and nobody else. True when the kernel
   * has taken all three. */
  writeTo(flyd: Wire, before: Buffer, after: Buffer): boolean {
    return flyd.write([before, this.#bytes, after], true) // never copied to ordinary memory, not even when it has to wait
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

/** `size` bytes of it. Throws where they are used up: then nothing is served. */
export function secretMemory(size: number, hidden = true): SecretMemory {
  const pages = Math.ceil((size + SLACK) / 65_536)
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages })
  const { fd, secret } = createPage(pages * 65_536, hidden)
  layOver(memory.buffer, fd)
  closeSync(fd)
  let used = SLACK / 2
  return {
    memory,
    secret,
    alloc(bytes) {
      const from = used
      used += (bytes + 7) & ~7
      if (used > size + SLACK / 2) throw new Error('secret memory is used up')
      return Buffer.from(memory.buffer, from, bytes)
    },
  }
}

/** Before the first piece and behind the last one: a look at 16 bytes may begin and end beside a piece. */
const SLACK = 256
