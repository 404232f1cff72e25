// The part of CEL that attribute mappings and conditions are written in: literals, lists, `assertion.x`, `a["b"]`,
// comparison, `in`, `&&`, `||`, `!`, `?:`, `+` on texts and numbers, and the functions listed in cel.ts. Everything
// else (macros such as `all`, `matches`, maps, bytes, arithmetic) is refused when a provider is configured, not when a
// token comes. Grammar: github.com/google/cel-spec, langdef.md.

import { ConfigError } from '../shape.ts'

export type Binary = '||' | '&&' | '==' | '!=' | '<' | '<=' | '>' | '>=' | 'in' | '+'

export type Node =
  | { readonly kind: 'literal'; readonly value: string | number | boolean | null }
  | { readonly kind: 'list'; readonly items: readonly Node[] }
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'member'; readonly of: Node; readonly key: Node }
  | { readonly kind: 'call'; readonly name: string; readonly on: Node | undefined; readonly args: readonly Node[] }
  | { readonly kind: 'not'; readonly of: Node }
  | { readonly kind: 'negate'; readonly of: Node }
  | { readonly kind: 'binary'; readonly operator: Binary; readonly left: Node; readonly right: Node }
  | { readonly kind: 'choice'; readonly test: Node; readonly yes: Node; readonly no: Node }

/** IAM's limit for a condition is 4,096 characters. */
const LENGTH = 4096

export function parseCel(text: string, where: string): Node {
  if (text.length > LENGTH) throw new ConfigError(`${where} is longer than ${LENGTH} characters`)
  const reader = new Reader(split(text, where), where)
  const node = choice(reader)
  reader.end()
  return node
}

type Token = { readonly kind: 'text' | 'number' | 'name' | 'sign' | 'end'; readonly text: string }

/** One token ahead. Nesting is bounded, so that no expression can exhaust the stack. */
class Reader {
  readonly #tokens: readonly Token[]
  readonly #where: string
  #at = 0
  depth = 0

  constructor(tokens: readonly Token[], where: string) {
    this.#tokens = tokens
    this.#where = where
  }

  next(): Token {
    return this.#tokens[this.#at++] ?? END
  }

  /** Takes the sign if it is next. `in` is a sign as well. */
  takes(...signs: string[]): string | undefined {
    const { kind, text } = this.#tokens[this.#at] ?? END
    if ((kind !== 'sign' && text !== 'in') || kind === 'text' || !signs.includes(text)) return undefined
    this.#at++
    return text
  }

  need(sign: string): void {
    if (this.takes(sign) === undefined) this.refuse()
  }

  end(): void {
    if (this.next().kind !== 'end') this.refuse()
  }

  refuse(): never {
    throw new ConfigError(
      `${this.#where} is not in the part of CEL that this mock knows, at "${(this.#tokens[this.#at] ?? END).text}"`,
    )
  }
}

const END: Token = { kind: 'end', text: '' }

function choice(reader: Reader): Node {
  if (++reader.depth > 50) reader.refuse()
  const test = binary(reader, 0)
  const node: Node = reader.takes('?') === undefined ? test : { kind: 'choice', test, ...branches(reader) }
  reader.depth--
  return node
}

function branches(reader: Reader): { yes: Node; no: Node } {
  const yes = choice(reader)
  reader.need(':')
  return { yes, no: choice(reader) }
}

/** Loosest first. */
const LEVELS: readonly (readonly Binary[])[] = [['||'], ['&&'], ['==', '!=', '<', '<=', '>', '>=', 'in'], ['+']]

function binary(reader: Reader, level: number): Node {
  const operators = LEVELS[level]
  if (operators === undefined) return unary(reader)
  let left = binary(reader, level + 1)
  for (;;) {
    const sign = reader.takes(...operators)
    const operator = operators.find((one) => one === sign)
    if (operator === undefined) return left
    left = { kind: 'binary', operator, left, right: binary(reader, level + 1) }
  }
}

function unary(reader: Reader): Node {
  const sign = reader.takes('!', '-')
  if (sign === undefined) return postfix(reader)
  if (++reader.depth > 50) reader.refuse()
  const of = unary(reader)
  reader.depth--
  return sign === '!' ? { kind: 'not', of } : { kind: 'negate', of }
}

function postfix(reader: Reader): Node {
  let node = primary(reader)
  for (;;) {
    if (reader.takes('.') !== undefined) {
      const { kind, text } = reader.next()
      if (kind !== 'name') reader.refuse()
      node =
        reader.takes('(') === undefined
          ? { kind: 'member', of: node, key: { kind: 'literal', value: text } }
          : { kind: 'call', name: text, on: node, args: list(reader, ')') }
    } else if (reader.takes('[') !== undefined) {
      node = { kind: 'member', of: node, key: choice(reader) }
      reader.need(']')
    } else return node
  }
}

function primary(reader: Reader): Node {
  if (reader.takes('(') !== undefined) {
    const node = choice(reader)
    reader.need(')')
    return node
  }
  if (reader.takes('[') !== undefined) return { kind: 'list', items: list(reader, ']') }
  const { kind, text } = reader.next()
  if (kind === 'text') return { kind: 'literal', value: text }
  if (kind === 'number') return { kind: 'literal', value: Number(text) }
  if (kind !== 'name') reader.refuse()
  if (text === 'true' || text === 'false') return { kind: 'literal', value: text === 'true' }
  if (text === 'null') return { kind: 'literal', value: null }
  return reader.takes('(') === undefined
    ? { kind: 'name', name: text }
    : { kind: 'call', name: text, on: undefined, args: list(reader, ')') }
}

function list(reader: Reader, end: string): Node[] {
  const items: Node[] = []
  while (reader.takes(end) === undefined) {
    if (items.length > 0) reader.need(',')
    items.push(choice(reader))
  }
  return items
}

const TOKEN =
  /\s*(?:(?<name>[A-Za-z_][A-Za-z0-9_]*)|(?<number>\d+(?:\.\d+)?)|"(?<double>(?:[^"\\\n]|\\.)*)"|'(?<single>(?:[^'\\\n]|\\.)*)'|(?<sign>\|\||&&|==|!=|<=|>=|[<>!?:.,()[\]+-]))/y

function split(text: string, where: string): Token[] {
  const tokens: Token[] = []
  const pattern = new RegExp(TOKEN)
  while (text.slice(pattern.lastIndex).trim() !== '') {
    const at = pattern.lastIndex
    const { name, number, double, single, sign } = pattern.exec(text)?.groups ?? {}
    const quoted = double ?? single
    if (name !== undefined) tokens.push({ kind: 'name', text: name })
    else if (number !== undefined) tokens.push({ kind: 'number', text: number })
    else if (quoted !== undefined) tokens.push({ kind: 'text', text: unescape(quoted, where) })
    else if (sign !== undefined) tokens.push({ kind: 'sign', text: sign })
    else throw new ConfigError(`${where} cannot be read at "${text.slice(at, at + 20).trim()}"`)
  }
  return tokens
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', t: '\t', '\\': '\\', '"': '"', "'": "'" }

const unescape = (text: string, where: string): string =>
  text.replace(/\\(.)/g, (_, char: string) => {
    const meant = ESCAPES[char]
    if (meant === undefined) throw new ConfigError(`${where} has the escape \\${char}, which this mock does not know`)
    return meant
  })
