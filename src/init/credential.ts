// From its source straight into the secret page: the macaroon is never on our heap, and our mapping of the page is
// gone before anything else happens.

import { closeSync, openSync, readSync } from 'node:fs'
import { errnoOf } from '../os/errno.ts'
import { createPage, mapPage, unmapPage } from '../os/page.ts'
import { LaunchError } from './error.ts'

/** Largest header value taken; real ones are 0.5 to 3 KB. */
const LIMIT = 16 * 1024

/** A descriptor of the page that now holds the macaroon and NULs behind it; the caller closes it.
 * Throws a LaunchError that names the source and nothing of its contents. */
export function loadMacaroon(source: { file: string } | { fd: number }): { fd: number; secret: boolean } {
  const name = 'file' in source ? `macaroon file ${source.file}` : `macaroon descriptor ${source.fd}`
  const from = 'file' in source ? open(source.file, name) : source.fd
  const { fd, secret } = createPage(LIMIT + 8)
  const page = mapPage(fd)
  try {
    let length = 0
    for (;;) {
      const read = readSync(from, page, length, page.length - length, null)
      length += read
      if (read === 0 || length === page.length) break
    }
    const fault = judge(page, length)
    if (fault !== undefined) throw new LaunchError(`${name} ${fault}`)
  } catch (error) {
    page.fill(0)
    closeSync(fd)
    if (error instanceof LaunchError) throw error
    throw new LaunchError(`${name} cannot be read (${errnoOf(error)})`)
  } finally {
    unmapPage(page)
    closeSync(from)
  }
  return { fd, secret }
}

function open(file: string, name: string): number {
  try {
    return openSync(file, 'r')
  } catch (error) {
    const code = errnoOf(error)
    throw new LaunchError(code === 'ENOENT' ? `${name} does not exist` : `${name} cannot be opened (${code})`)
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
