// Text that a terminal, a log viewer or a reviewer may trust: what is printed is what is there.

// Cc controls, Cf format characters (bidi, zero width), Cs lone surrogates, Zl and Zp line separators. To read such an
// expression takes V8 0.1 ms: where nothing is printed, none is read.

/** Escapes what could move a cursor (ESC, C1), forge a line (LF, U+2028) or turn text round (bidi controls). */
export const printable = (text: string): string => text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, escape)

/** JSON of `value` on several lines, equally safe: every escape that is added is one that JSON itself knows, and no line of
 * it ends inside a text. */
export const printableJson = (value: unknown): string =>
  JSON.stringify(value, null, 2).split('\n').map(printable).join('\n')

/** A word of the command line for an error message: short, safe, and never a credential pasted in the wrong place. */
export function shown(word: string): string {
  if (CREDENTIAL.test(word)) return '(a credential, not shown)'
  const safe = printable(word)
  return safe.length > 120 ? `${safe.slice(0, 120)}…` : safe
}

// Fly's permission and discharge tokens, and base64 of the first packet of any v1 macaroon, `00NNlocation`.
const CREDENTIAL = /FlyV1|fm1[ar]_|fm2_|fo1_|MDA[0-9A-Za-z+/_-]{5}Y2F0aW9u/

const escape = (character: string): string =>
  Array.from(
    { length: character.length },
    (_, i) => `\\u${character.charCodeAt(i).toString(16).padStart(4, '0')}`,
  ).join('')
