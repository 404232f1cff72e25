// The one place that knows where this program lies and how it starts another part of itself: from the source tree, from
// compiled JavaScript, or from one file in which a whole part is bundled.

import { fileURLToPath } from 'node:url'

/** What runs as a process of its own: the trusted process, its filter alone, the keeper of token files, the issuer. */
export type Part = 'proxy' | 'filter' | 'identity' | 'issuer'

export interface Executable {
  /** What exec(2) is given. */
  readonly file: string
  /** Its arguments after the name: flags for Node, then the words that the part itself finds behind its own name. */
  args(flags: readonly string[], words: readonly string[]): string[]
  /** Files and directories that whoever runs it must be able to read, `file` apart; absolute. */
  readonly readable: readonly string[]
}

const SOURCE: Record<Part, string> = {
  proxy: 'proxy/main',
  filter: 'proxy/filter',
  identity: 'identity/main',
  issuer: 'issuer/main',
}

// In a tree, source or compiled, this file is src/os/self; what it is bundled into has the bundled parts beside it.
const [, top, extension = '.js'] = /^(.*\/src\/)os\/self(\.[jt]s)$/.exec(import.meta.url) ?? []

/** How to start a part. */
export function executable(part: Part): Executable {
  const entry = fileURLToPath(
    top === undefined ? new URL(`${part}.js`, import.meta.url) : `${top}${SOURCE[part]}${extension}`,
  )
  return {
    file: process.execPath,
    args: (flags, words) => [...flags, entry, ...words],
    readable: [top === undefined ? entry : fileURLToPath(top)],
  }
}

/** The directory that holds a package which we use, and those that it uses; undefined where it is bundled into us. */
export function packagesOf(name: string): string | undefined {
  try {
    return /^.*\/node_modules(?=\/)/.exec(fileURLToPath(import.meta.resolve(name)))?.[0]
  } catch {
    return undefined
  }
}

/** A directory somewhere inside the package that this program came in. */
export const programDirectory = (): string => fileURLToPath(new URL('.', import.meta.url))
