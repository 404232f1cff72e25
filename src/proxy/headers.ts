// Field lines, and the two allow-lists. An unlisted header carries nothing in and nothing out, whatever its name
// (Fly_Macaroon, authorization_, X-Debug, Set-Cookie): deny-lists rot, so there is none.

export type Field = readonly [name: string, value: string]

const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}$/ // token, RFC 9110 section 5.6.2
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/ // no CR, LF, NUL or other control: RFC 9110 section 5.5

/** Field lines of `head` (latin1, parted by CRLF) from `at`: names in lower case, values trimmed. `malformed` when any
 * is not canonical: a fold, a space before the colon, a bare CR or LF. */
export function readFields(head: string, at: number, limit: number): Field[] | 'malformed' | 'too many' {
  const fields: Field[] = []
  while (at < head.length) {
    const crlf = head.indexOf('\r\n', at)
    const end = crlf < 0 ? head.length : crlf
    const colon = head.indexOf(':', at)
    if (colon < 0 || colon > end) return 'malformed'
    const name = head.slice(at, colon)
    let from = colon + 1
    let to = end
    while (from < to && isBlank(head.charCodeAt(from))) from++
    while (to > from && isBlank(head.charCodeAt(to - 1))) to--
    const value = head.slice(from, to)
    if (!NAME.test(name) || !VALUE.test(value)) return 'malformed'
    if (fields.length === limit) return 'too many'
    fields.push([name.toLowerCase(), value])
    at = end + 2
  }
  return fields
}

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
  const seen = new Set<string>()
  for (const [name, value] of fields) {
    if (seen.has(name) || list.get(name)?.test(value) !== true) continue
    seen.add(name) // a repeated field is one more channel: the first alone passes
    lines += `${name}: ${value}\r\n`
  }
  return lines
}
