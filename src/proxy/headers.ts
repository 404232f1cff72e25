// Field lines, and the two allow-lists. An unlisted header carries nothing in and nothing out, whatever its name
// (Fly_Macaroon, authorization_, X-Debug, Set-Cookie): deny-lists rot, so there is none.

export type Field = readonly [name: string, value: string]

const NAME_LIMIT = 128
const TOKEN = 1
const VALUE = 2
/** What a character may be part of: a token (RFC 9110 section 5.6.2), a field's value (section 5.5: no CR, LF, NUL or
 * other control). A table, for a regular expression costs more than the rest of a head. */
const KIND = Uint8Array.from({ length: 256 }, (_, c) => {
  const char = String.fromCharCode(c)
  return (/[!#$%&'*+\-.^_`|~0-9A-Za-z]/.test(char) ? TOKEN : 0) | (/[\t\x20-\x7e\x80-\xff]/.test(char) ? VALUE : 0)
})
/** The names that anybody here asks for, by length, and their characters; `x-forwarded-` stands for all that begin so. */
const PREFIX = 'x-forwarded-'
const NAMES = [
  'host content-length transfer-encoding content-encoding connection expect upgrade origin referer forwarded via',
  `fly-machine-lease-nonce content-type fly-request-id retry-after ${PREFIX}`,
]
  .flatMap((line) => line.split(' '))
  .map((name) => ({ name, codes: Buffer.from(name) }))
const BY_LENGTH = Array.from({ length: NAME_LIMIT + 1 }, (_, n) =>
  NAMES.filter(({ name }) => name.length === n || (name === PREFIX && n > name.length)),
)

/** The name of a field at `from`, in lower case; '' for one that nobody asks for. */
function nameAt(bytes: Uint8Array, from: number, to: number): string {
  next: for (const { name, codes } of BY_LENGTH[to - from] ?? []) {
    // Of the characters of a token only capitals become another letter of a name by this.
    for (let i = 0; i < codes.length; i++) if (((bytes[from + i] ?? 0) | 0x20) !== codes[i]) continue next
    return name
  }
  return ''
}

/** Where the characters of `kind` end, from `at` on. */
function endOf(kind: number, bytes: Uint8Array, at: number, end: number): number {
  let i = at
  while (i < end && ((KIND[bytes[i] ?? 0] ?? 0) & kind) !== 0) i++
  return i
}

/** Field lines of a head, from `at` to `end`, parted by CRLF: of those that anybody here asks for the names, in lower
 * case, and the values, latin1 and trimmed. `malformed` when any is not canonical: a fold, a space before the colon, a
 * bare CR or LF. */
export function readFields(bytes: Buffer, at: number, end: number, limit: number): Field[] | 'malformed' | 'too many' {
  const fields: Field[] = []
  for (let left = limit; at < end; left--) {
    const colon = endOf(TOKEN, bytes, at, end)
    if (colon === at || colon - at > NAME_LIMIT || bytes[colon] !== COLON) return 'malformed'
    const stop = endOf(VALUE, bytes, colon + 1, end)
    if (stop < end && (bytes[stop] !== CR || bytes[stop + 1] !== LF)) return 'malformed'
    if (left === 0) return 'too many'
    const name = nameAt(bytes, at, colon)
    if (name !== '') {
      let from = colon + 1
      let to = stop
      while (from < to && bytes[from] === SPACE) from++
      while (to > from && bytes[to - 1] === SPACE) to--
      fields.push([name, bytes.toString('latin1', from, to)])
    }
    at = stop + 2
  }
  return fields
}

const CR = 0x0d
const LF = 0x0a
const COLON = 0x3a
// Not a tab: llhttp takes `chunked\t` for another encoding, so for us a tab belongs to the value, and no framing has one.
const SPACE = 0x20

/** What a guest may add to the request for flyd: the nonce of the lease it holds on its own Machine. */
const TO_FLYD: ReadonlyMap<string, RegExp> = new Map([['fly-machine-lease-nonce', /^[0-9A-Za-z]{1,64}$/]])

/** What flyd may tell the guest beside status and body; a value of another shape is dropped like an unlisted name. */
const TO_GUEST: ReadonlyMap<string, RegExp> = new Map([
  ['content-type', /^[a-z]{1,32}\/[a-z0-9.+-]{1,64}(; ?charset=[A-Za-z0-9-]{1,16})?$/],
  ['fly-request-id', /^[0-9A-Za-z-]{1,64}$/],
  ['retry-after', /^[0-9]{1,9}$/],
])

export const toFlyd = (fields: readonly Field[]): string => listed(TO_FLYD, fields)
export const toGuest = (fields: readonly Field[]): string => listed(TO_GUEST, fields)

function listed(list: ReadonlyMap<string, RegExp>, fields: readonly Field[]): string {
  let lines = ''
  for (const [name, value] of fields) {
    if (list.get(name)?.test(value) !== true) continue
    if (lines.includes(`${name}: `)) continue // a repeated field is one more channel: the first alone passes
    lines += `${name}: ${value}\r\n`
  }
  return lines
}
