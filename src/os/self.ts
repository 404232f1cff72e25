// The one place that knows where this program lies and how it starts another part of itself: from the source tree, from
// compiled JavaScript, from one file in which a whole part is bundled, or out of the single executable.

import { basename, dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

/** What runs as a process of its own: the trusted process, its filter alone, the keeper of token files, what counts for
 * init, the issuer. */
export type Part = 'proxy' | 'filter' | 'identity' | 'metrics' | 'issuer'

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
  metrics: 'metrics/main',
  issuer: 'issuer/main',
}

// In a tree, source or compiled, this file is src/os/self; what it is bundled into has the bundled parts beside it.
const here = import.meta.filename
const [, top, extension = '.js'] = /^(.*\/src\/)os\/self(\.[jt]s)$/.exec(here) ?? []

// A module in the single executable has a name of its own kind: see src/sea/main.ts.
const single = here.startsWith('dotfly:/')

/** How to start a part. */
export function executable(part: Part): Executable {
  if (single) return inExecutable(part)
  const entry = top === undefined ? join(dirname(here), `${part}.cjs`) : `${top}${SOURCE[part]}${extension}`
  return {
    file: process.execPath,
    args: (flags, words) => [...flags, entry, ...words],
    readable: [top ?? entry],
  }
}

/** It finds its own code in itself, and takes flags from us alone: see src/sea/start.ts. */
function inExecutable(part: Part): Executable {
  const own = [`--part=${SOURCE[part]}`]
  const file = process.execPath
  // Where its loader was started by name, that is what the kernel knows as the program, and it lies among its libraries.
  if (basename(file).startsWith('ld-')) own.unshift('--library-path', dirname(file), resolve(process.argv0))
  return { file, args: (flags, words) => [...own, ...flags, '--', ...words], readable: [] }
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
export const programDirectory = (): string => dirname(here)
