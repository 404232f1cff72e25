// A token file is there whole, with its owner and mode, or it is what it was before: whoever reads it, whenever.

import { randomBytes } from 'node:crypto'
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  type Stats,
  writeSync,
} from 'node:fs'
import { basename, dirname } from 'node:path'
import { allow, own, settle } from '../os/descriptor.ts'
import { errnoOf } from '../os/errno.ts'
import { createAt, makeDirectory, renameAt, unlinkAt } from './at.ts'

/** Where a file goes, and whose it is. */
export interface Place {
  readonly path: string
  readonly mode: number
  /** Without them, those of whoever writes. */
  readonly uid?: number
  readonly gid?: number
}

/** Why a file could not be written or removed. */
export type FileTrouble =
  | 'DIRECTORY_MISSING'
  | 'DIRECTORY_IS_LINK'
  | 'DIRECTORY_OPEN_TO_ALL'
  | 'DIRECTORY_OF_OTHERS'
  | 'IS_DIRECTORY'
  | 'DISK_FULL'
  | 'READ_ONLY'
  | 'NOT_PERMITTED'
  | 'SYSTEM'

export class FileError extends Error {
  override name = 'FileError'
  readonly code: FileTrouble
  /** The system's own name, such as `EIO`; '' where the reason is ours. */
  readonly errno: string
  constructor(code: FileTrouble, path: string, errno = '', cause?: unknown) {
    super(`${code} ${path}`, { cause })
    this.code = code
    this.errno = errno
  }
}

/** Replaces the file at once and durably, or throws a FileError and leaves what was there. */
export function replaceFile(place: Place, text: string): void {
  inDirectory(place, (directory, name) => {
    const temporary = `.${name}.${randomBytes(6).toString('hex')}.tmp`
    const fd = createAt(directory, temporary, 0o600)
    try {
      try {
        writeAll(fd, Buffer.from(text))
        // Owner and mode before the name: nobody ever sees the file with others. The owner first, for until then the
        // mode lets in nobody but us.
        if (place.uid !== undefined || place.gid !== undefined) own(fd, place)
        allow(fd, place.mode)
        // The disk may take its time: the keeper is a process of its own, and nobody but its files waits with it.
        settle(fd)
      } finally {
        closeSync(fd)
      }
      renameAt(directory, temporary, name)
    } catch (error) {
      unlinkAt(directory, temporary)
      throw error
    }
    settle(directory)
  })
}

/** Removes the file, and tells whether there was one. */
export function removeFile(place: Place): boolean {
  return inDirectory(place, (directory, name) => {
    try {
      unlinkAt(directory, name)
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return false
      throw error
    }
    settle(directory)
    return true
  })
}

/** Makes the directory if there is none, and clears away what an earlier run left half done. */
export function prepareDirectory(place: Place): void {
  const path = dirname(place.path)
  try {
    makeDirectories(path)
    const left = new RegExp(`^\\.${RegExp.escape(basename(place.path))}\\.[0-9a-f]{12}\\.tmp$`)
    const { fd } = openDirectory(place)
    try {
      for (const name of readdirSync(path)) if (left.test(name)) unlinkAt(fd, name)
    } finally {
      closeSync(fd)
    }
  } catch (error) {
    throw told(error, place.path)
  }
}

/** Those that are missing, from the top. */
function makeDirectories(path: string): void {
  try {
    if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) return
    makeDirectories(dirname(path))
    makeDirectory(path, 0o755)
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error // somebody else has made it just now
  }
}

/** The text of a file that is there; a link is none of ours. */
export function readPlaced({ path }: Place): string | undefined {
  let fd
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined
    if (errnoOf(error) === 'ELOOP') return ''
    throw told(error, path)
  }
  try {
    return fstatSync(fd).isFile() ? readFileSync(fd, 'utf8') : ''
  } finally {
    closeSync(fd)
  }
}

function inDirectory<T>(place: Place, act: (directory: number, name: string) => T): T {
  try {
    const { fd } = openDirectory(place)
    try {
      return act(fd, basename(place.path))
    } finally {
      closeSync(fd)
    }
  } catch (error) {
    throw told(error, place.path)
  }
}

/** The directory as it is judged, held open: it cannot be exchanged for another any more. */
function openDirectory(place: Place): { fd: number } {
  const path = dirname(place.path)
  const wrong = (code: FileTrouble): FileError => new FileError(code, place.path)
  if (lstatSync(path).isSymbolicLink()) throw wrong('DIRECTORY_IS_LINK')
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)
  try {
    const fault = judgeDirectory(path, fstatSync(fd), place)
    if (fault !== undefined) throw wrong(fault)
    return { fd }
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

/** What is wrong with a directory, if anything. */
export function judgeDirectory(path: string, found: Stats, { uid }: Pick<Place, 'uid'>): FileTrouble | undefined {
  const ours = process.geteuid?.() ?? 0
  const trusted = (owner: number): boolean => owner === 0 || owner === ours
  if (!trusted(found.uid) && found.uid !== uid) return 'DIRECTORY_OF_OTHERS'
  // Whoever may write to a directory may put anything in the file's place. In a sticky one only its owner may.
  if ((found.mode & 0o002) !== 0 && (found.mode & 0o1000) === 0) return 'DIRECTORY_OPEN_TO_ALL'
  // A user who owns a directory above could lead us into any of root's; into one of their own they may.
  for (let above = dirname(path); trusted(found.uid); above = dirname(above)) {
    const { uid: owner, mode } = lstatSync(above)
    if (!trusted(owner)) return 'DIRECTORY_OF_OTHERS'
    if ((mode & 0o002) !== 0 && (mode & 0o1000) === 0 && (mode & constants.S_IFMT) === constants.S_IFDIR)
      return 'DIRECTORY_OPEN_TO_ALL'
    if (above === dirname(above)) break
  }
  return undefined
}

function writeAll(fd: number, bytes: Buffer): void {
  for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at)
}

const TROUBLE: Readonly<Record<string, FileTrouble>> = {
  ENOENT: 'DIRECTORY_MISSING',
  ENOTDIR: 'DIRECTORY_MISSING',
  ELOOP: 'DIRECTORY_IS_LINK',
  EISDIR: 'IS_DIRECTORY',
  EEXIST: 'IS_DIRECTORY',
  ENOTEMPTY: 'IS_DIRECTORY',
  ENOSPC: 'DISK_FULL',
  EDQUOT: 'DISK_FULL',
  EROFS: 'READ_ONLY',
  EACCES: 'NOT_PERMITTED',
  EPERM: 'NOT_PERMITTED',
}

function told(error: unknown, path: string): FileError {
  if (error instanceof FileError) return error
  const errno = errnoOf(error)
  if (errno === 'unknown') throw error
  return new FileError(TROUBLE[errno] ?? 'SYSTEM', path, errno, error)
}
