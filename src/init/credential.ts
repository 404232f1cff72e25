// From its source straight into the secret page: the macaroon is never on our heap, and our mapping of the page is
// gone before anything else happens.

import { closeSync, constants, fstatSync, openSync, readdirSync, readFileSync, readSync, statSync } from 'node:fs'
import type { Stats } from 'node:fs'
import { errnoOf } from '../os/errno.ts'
import { createPage, mapPage, unmapPage } from '../os/page.ts'
import { erase } from './erase.ts'
import { LaunchError } from './error.ts'

/** Largest header value taken; real ones are 0.5 to 3 KB. */
const LIMIT = 16 * 1024
/** A host writes the device before or just after it starts the Machine. */
const DEVICE_LIMIT = 5_000 // ms
const DEVICE_PAUSE = 10

/** A file or descriptor is read to its end, a character device (virtio-serial) to the end of its first line, once.
 * `unlink` overwrites and removes the file when it has been read. */
export type Source = { file: string; unlink?: boolean } | { fd: number }

/** A source that can be read, as far as can be told without. */
export interface OpenSource {
  readonly fd: number
  readonly isDevice: boolean
  /** It has been read, and is what it was said to be. */
  taken(): void
  /** Once. Not of a number that we were given, until it is taken: where nothing can be read it may be Node's own, which would
   * end by it. */
  close(): void
}

/** Before anything else is opened, which may get the number of a descriptor that is not open. Throws a LaunchError. */
export function openMacaroon(source: Source): OpenSource {
  const name = nameOf(source)
  const fd = 'file' in source ? open(source.file, name) : source.fd
  let isOurs = 'file' in source
  return {
    fd,
    isDevice: look(fd, name),
    taken() {
      isOurs = true
    },
    close() {
      if (isOurs) closeSync(fd)
      isOurs = false
    },
  }
}

const nameOf = (source: Source): string =>
  'file' in source ? `macaroon file ${source.file}` : `macaroon descriptor ${source.fd}`

/** A descriptor of the page that now holds the macaroon and NULs behind it; the caller closes it. Throws a LaunchError
 * that names the source and nothing of its contents. `hidden` false leaves the page readable for root. */
export function loadMacaroon(
  source: Source,
  hidden = true,
  opened = openMacaroon(source),
): { fd: number; secret: boolean } {
  const name = nameOf(source)
  const from = opened.fd
  const { fd, secret } = createPage(LIMIT + 8, hidden)
  const page = mapPage(fd)
  try {
    const length = opened.isDevice ? readLine(from, page) : readAll(from, page)
    opened.taken()
    const fault = judge(page, length)
    if (fault !== undefined) throw new LaunchError(`${name} ${fault}`)
    if ('file' in source && source.unlink === true) remove(source.file, from, length, name)
  } catch (error) {
    page.fill(0)
    closeSync(fd)
    if (error instanceof LaunchError) throw error
    const code = errnoOf(error)
    throw new LaunchError(`${name} ${code === 'EISDIR' ? 'is a directory' : `cannot be read (${code})`}`)
  } finally {
    unmapPage(page)
    opened.close()
  }
  // The next descriptor to be made would be standard input, and the entrypoint's as well: it was our listening socket.
  if (from === 0) openSync('/dev/null', constants.O_RDONLY)
  return { fd, secret }
}

function remove(file: string, from: number, length: number, name: string): void {
  try {
    erase(file, from, length, name)
  } catch (error) {
    if (error instanceof LaunchError) throw error
    throw new LaunchError(`${name} cannot be overwritten and removed (${errnoOf(error)})`)
  }
}

/** Whether it is a character device. */
function look(fd: number, name: string): boolean {
  let found
  try {
    found = fstatSync(fd)
  } catch (error) {
    if (errnoOf(error) !== 'EBADF') throw new LaunchError(`${name} cannot be read (${errnoOf(error)})`)
  }
  if (found === undefined || isNodes(fd, found))
    throw new LaunchError(`${name} is not open: open it for dotfly, as a shell does by ${fd}< FILE`)
  return found.isCharacterDevice()
}

/** Of the numbers that nobody had opened, Node took the first for itself: event queues, which are files of no type, and pipes
 * from it to itself. To read those would take a byte that its signals need, and wait for the next for ever. */
function isNodes(fd: number, { mode, dev, ino }: Stats): boolean {
  const type = mode & constants.S_IFMT
  if (type !== constants.S_IFIFO) return type === 0
  try {
    const access = accessOf(fd)
    return readdirSync('/proc/self/fd').some((entry) => {
      const other = statSync(`/proc/self/fd/${entry}`, { throwIfNoEntry: false })
      return other?.dev === dev && other.ino === ino && accessOf(Number(entry)) !== access
    })
  } catch {
    return false // without /proc nobody can tell: it is read
  }
}

/** Open to read, to write, or both. */
const accessOf = (fd: number): number =>
  Number.parseInt(/^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1] ?? '0', 8) &
  (constants.O_WRONLY | constants.O_RDWR)

function open(file: string, name: string): number {
  try {
    // Neither a fifo nor a device that nobody writes may stop the boot.
    return openSync(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY)
  } catch (error) {
    const code = errnoOf(error)
    if (code === 'ENOENT') throw new LaunchError(`${name} does not exist`)
    if (code !== 'EACCES') throw new LaunchError(`${name} cannot be opened (${code})`)
    const who = `uid ${process.geteuid?.() ?? 'unknown'}`
    throw new LaunchError(`${name} may not be read by ${who}: give it to that user, or start dotfly as its owner`)
  }
}

function readAll(from: number, page: Buffer): number {
  let length = 0
  for (;;) {
    const read = readSync(from, page, length, page.length - length, null)
    length += read
    if (read === 0 || length === page.length) return length
  }
}

/** A device has no end, and says "again" or "nothing" until the host has written. Nothing else happens meanwhile: there
 * is nothing that could, before the credential is here. */
function readLine(from: number, page: Buffer): number {
  const deadline = performance.now() + DEVICE_LIMIT
  const pause = new Int32Array(new SharedArrayBuffer(4))
  let length = 0
  while (performance.now() < deadline) {
    const read = readSome(from, page, length)
    length += read
    const end = page.subarray(0, length).indexOf(LF)
    if (end >= 0) return end + 1
    if (length === page.length) return length
    if (read === 0) Atomics.wait(pause, 0, 0, DEVICE_PAUSE)
  }
  return length
}

function readSome(from: number, page: Buffer, at: number): number {
  try {
    return readSync(from, page, at, page.length - at, null)
  } catch (error) {
    if (errnoOf(error) === 'EAGAIN') return 0
    throw error
  }
}

/** Checks the bytes where they lie and clears the newline that editors add; what is wrong with them, if anything. */
function judge(page: Buffer, read: number): string | undefined {
  let length = read
  if (length > LIMIT) return `is larger than ${LIMIT} bytes`
  if (page[length - 1] === LF) page[--length] = 0
  if (page[length - 1] === CR) page[--length] = 0
  if (length === 0) return 'is empty'
  if (page.subarray(0, length).includes(LF)) return 'has more than one line'
  const scheme = 'FlyV1 '
  for (let i = 0; i < scheme.length; i++) if (page[i] !== scheme.charCodeAt(i)) return 'does not begin with "FlyV1 "'
  let member = 0 // length of the list member so far
  for (let i = scheme.length; i < length; i++) {
    const c = page[i] ?? 0
    if (c === COMMA ? member === 0 : !isTokenByte(c)) return 'is not "FlyV1 " and a list of tokens'
    member = c === COMMA ? 0 : member + 1
  }
  // Shorter than this no signature fits, and the strip filter would have nothing to tell it by.
  return length - scheme.length < 32 || member === 0 ? 'is too short for a macaroon' : undefined
}

const LF = 0x0a
const CR = 0x0d
const COMMA = 0x2c

/** base64, base64url and the `.` and `_` of token prefixes. */
function isTokenByte(c: number): boolean {
  return (
    (c >= 0x30 && c <= 0x39) || ((c | 0x20) >= 0x61 && (c | 0x20) <= 0x7a) || '+/=-_.'.includes(String.fromCharCode(c))
  )
}
