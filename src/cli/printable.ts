// Text that a terminal, a log viewer or a reviewer may trust: what is printed is what is there.

// To read an expression with sets of Unicode takes V8 0.2 ms, also where the function around it is never called: so these
// are text until they are used.

/** Escapes what could move a cursor (ESC, C1), forge a line (LF, U+2028) or turn text round (bidi controls): Cc controls, Cf
 * format characters (bidi, zero width), Cs lone surrogates, Zl and Zp line separators. */
export const printable = (text: string): string =>
  text.replace(new RegExp('[\\p{Cc}\\p{Cf}\\p{Cs}\\p{Zl}\\p{Zp}]', 'gu'), escape)

/** None of those, nor what Unicode has not assigned or leaves to others. */
export const isPlain = (text: string): boolean => !new RegExp('[\\p{C}\\p{Zl}\\p{Zp}]', 'u').test(text)

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
