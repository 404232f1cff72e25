// IAM's texts: `*` and `?` where an operator allows them, and policy variables such as `${aws:PrincipalTag/team}`.
// Matched by one linear scan; a policy from a file never becomes a regular expression.

/** What a request says of itself: condition key in lower case to its values. */
export type Context = ReadonlyMap<string, readonly string[]>

const ANY = Symbol('*')
const ONE = Symbol('?')
type Symbols = (string | typeof ANY | typeof ONE)[]

/** `wild`: whether `*` and `?` mean more than themselves. `context` is undefined where variables are not replaced. */
export function matches(pattern: string, text: string, wild: boolean, context?: Context): boolean {
  const symbols = compile(pattern, wild, context)
  return symbols !== undefined && scan(symbols, Array.from(text))
}

/** Undefined when a variable has no single value: IAM then lets the condition fail. */
function compile(pattern: string, wild: boolean, context: Context | undefined): Symbols | undefined {
  const symbols: Symbols = []
  for (let at = 0; at < pattern.length;) {
    const variable = context === undefined ? null : VARIABLE.exec(pattern.slice(at))
    if (variable !== null && context !== undefined) {
      const value = replace(variable[1] ?? '', context)
      if (value === undefined) return undefined
      // Character by character and never as a wildcard: a tag with the value `*` matches only itself.
      symbols.push(...Array.from(value))
      at += variable[0].length
      continue
    }
    const char = String.fromCodePoint(pattern.codePointAt(at) ?? 0)
    symbols.push(wild && char === '*' ? ANY : wild && char === '?' ? ONE : char)
    at += char.length
  }
  return symbols
}

const VARIABLE = /^\$\{([^{}]*)\}/

function replace(name: string, context: Context): string | undefined {
  if (name === '*' || name === '?' || name === '$') return name
  const [key = '', fallback] = name.split(/,\s*/, 2)
  const values = context.get(key.toLowerCase())
  if (values?.length === 1) return values[0]
  return fallback === undefined ? undefined : /^'(.*)'$/.exec(fallback)?.[1]
}

/** Goes back only to the latest `*`: an earlier one need never take more. */
function scan(symbols: Symbols, text: readonly string[]): boolean {
  let at = 0
  let star = -1
  let resume = 0
  for (let index = 0; index < text.length;) {
    const symbol = symbols[at]
    if (symbol === ANY) {
      star = at++
      resume = index
    } else if (symbol === ONE || (symbol !== undefined && symbol === text[index])) {
      at++
      index++
    } else if (star !== -1) {
      at = star + 1
      index = ++resume
    } else return false
  }
  while (symbols[at] === ANY) at++
  return at === symbols.length
}
