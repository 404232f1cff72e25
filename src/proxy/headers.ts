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
/** Where the characters of `kind` end, from `at` on. */
function endOf(kind: number, text: string, at: number): number {
  let i = at
  while (i < text.length && ((KIND[text.charCodeAt(i)] ?? 0) & kind) !== 0) i++
  return i
}

/** Field lines of `head` (latin1, parted by CRLF) from `at`: names in lower case, values trimmed. `malformed` when any
 * is not canonical: a fold, a space before the colon, a bare CR or LF. */
export function readFields(head: string, at: number, limit: number): Field[] | 'malformed' | 'too many' {
  const fields: Field[] = []
  while (at < head.length) {
    const colon = endOf(TOKEN, head, at)
    if (colon === at || colon - at > NAME_LIMIT || head.charCodeAt(colon) !== COLON) return 'malformed'
    const end = endOf(VALUE, head, colon + 1)
    if (end < head.length && !head.startsWith('\r\n', end)) return 'malformed'
    let from = colon + 1
    let to = end
    while (from < to && isBlank(head.charCodeAt(from))) from++
    while (to > from && isBlank(head.charCodeAt(to - 1))) to--
    if (fields.length === limit) return 'too many'
    fields.push([head.slice(at, colon).toLowerCase(), head.slice(from, to)])
    at = end + 2
  }
  return fields
}

const COLON = 0x3a
// No tab: llhttp takes `chunked\t` for another encoding, so for us a tab belongs to the value, and no framing has one.
const isBlank = (c: number): boolean => c === 0x20

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
