// What `dotfly --version` says: the version of package.json, and the commit where one is known.

import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { Failure } from '../errors.ts'
import { programDirectory } from '../os/self.ts'

/** What a build leaves beside its files, or beside package.json, as `build.json`, for there is no repository where it is installed. */
interface Build {
  /** Abbreviated or whole, in hexadecimal. */
  commit: string
}

/** What a bundler puts in place where there is no package.json to be read either: `0.1.0 (16e84b1ca)`. */
declare const DOTFLY_VERSION: string | undefined

/** `0.1.0 (16e84b1ca)`, or `0.1.0` where nobody knows the commit. */
export function version(from?: string): string {
  if (from === undefined && typeof DOTFLY_VERSION === 'string') return DOTFLY_VERSION
  const program = from ?? programDirectory()
  const root = packageRoot(program)
  const manifest = json(join(root, 'package.json'))
  const number = member(manifest, 'version')
  if (number === undefined) throw new Failure('package.json names no version')
  const commit = builtFrom(program) ?? builtFrom(root) ?? headOf(join(root, '.git'))
  return commit === undefined ? number : `${number} (${commit.slice(0, 9)})`
}

/** The nearest directory with our package.json: how far up it is depends on how this was compiled or bundled. */
function packageRoot(from: string): string {
  for (let directory = from; ; directory = dirname(directory)) {
    if (existsSync(join(directory, 'package.json'))) return directory
    if (directory === dirname(directory)) throw new Failure('package.json is not there: install dotfly anew')
  }
}

function builtFrom(root: string): Build['commit'] | undefined {
  const path = join(root, 'build.json')
  return existsSync(path) ? hash(member(json(path), 'commit')) : undefined
}

/** The commit that is checked out, read from git's own files: there need not be a git. */
function headOf(git: string): string | undefined {
  try {
    const head = readFileSync(join(repository(git), 'HEAD'), 'utf8').trim()
    const ref = /^ref: (refs\/.+)$/.exec(head)?.[1]
    return ref === undefined ? hash(head) : resolveRef(repository(git), ref)
  } catch {
    return undefined // no clone, which is how most have it
  }
}

/** `.git` is a directory, or in a worktree a file that names one. */
function repository(git: string): string {
  try {
    return /^gitdir: (.+)$/m.exec(readFileSync(git, 'utf8'))?.[1] ?? git
  } catch {
    return git
  }
}

function resolveRef(directory: string, ref: string): string | undefined {
  // Branches are shared by all worktrees of a clone.
  const shared = join(directory, 'commondir')
  const common = existsSync(shared) ? join(directory, readFileSync(shared, 'utf8').trim()) : directory
  const loose = join(common, ref)
  if (existsSync(loose)) return hash(readFileSync(loose, 'utf8').trim())
  const packed = readFileSync(join(common, 'packed-refs'), 'utf8')
  return packed
    .split('\n')
    .filter((line) => line.endsWith(` ${ref}`))
    .map((line) => hash(line.slice(0, line.indexOf(' '))))[0]
}

const hash = (word: string | undefined): string | undefined => /^[0-9a-f]{7,64}$/.exec(word ?? '')?.[0]

const json = (path: string): unknown => JSON.parse(readFileSync(path, 'utf8'))

function member(value: unknown, name: string): string | undefined {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined
  const found: unknown = Reflect.get(value, name)
  return typeof found === 'string' ? found : undefined
}
