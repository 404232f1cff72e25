// The program as npm installs it: in a clone, bin/dotfly.cjs runs the source.

import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'

/** What `npm run build` has made at `root`, to be run by the path that is returned; it lies in `directory`. */
export function installed(root: string, directory: string): string {
  const entry = join(directory, 'installed/bin/dotfly.cjs')
  if (existsSync(entry)) return entry
  mkdirSync(join(directory, 'installed/bin'), { recursive: true })
  cpSync(join(root, 'bin/dotfly.cjs'), entry)
  symlinkSync(join(root, 'dist'), join(directory, 'installed/dist'))
  return entry
}

/** Node's own words, as npm's link gives them: by the first line of the program. */
export const linkFlags = (entry: string): string[] =>
  /^#!\/usr\/bin\/env -S node (.*)$/m.exec(readFileSync(entry, 'utf8'))?.[1]?.split(' ') ?? []
