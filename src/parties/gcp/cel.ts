// What such an expression says of a token. Errors are values of the language: `a || b` is true when either is true,
// even if the other fails (langdef.md, "Logical operators"), and whatever fails in the end lets no token through.

import { ConfigError, recordOf } from '../shape.ts'
import { parseCel } from './cel-parse.ts'
import type { Binary, Node } from './cel-parse.ts'

/** `assertion`, and for a condition also `google` and `attribute`. */
export type Variables = Readonly<Record<string, unknown>>

export class CelError extends Error {
  override name = 'CelError'
}

/** Compiled once, when the provider is configured: unknown names and functions are found there. */
export function compileCel(text: string, variables: readonly string[], where: string): (given: Variables) => Value {
  const node = parseCel(text, where)
  check(node, variables, where)
  return (given) => evaluate(node, given)
}

/** Name, number of arguments, what it does to the text it is called on. */
const METHODS: Readonly<Record<string, (on: string, argument: string) => Value>> = {
  startsWith: (on, argument) => on.startsWith(argument),
  endsWith: (on, argument) => on.endsWith(argument),
  contains: (on, argument) => on.includes(argument),
  extract: (on, argument) => extract(on, argument),
}

function check(node: Node, variables: readonly string[], where: string): void {
  const inner = (...nodes: readonly Node[]): void => nodes.forEach((one) => check(one, variables, where))
  switch (node.kind) {
    case 'literal':
      return
    case 'name':
      if (!variables.includes(node.name))
        throw new ConfigError(`${where} speaks of ${node.name}, and may of ${variables.join(', ')}`)
      return
    case 'list':
      return inner(...node.items)
    case 'member':
      return inner(node.of, node.key)
    case 'not':
    case 'negate':
      return inner(node.of)
    case 'binary':
      return inner(node.left, node.right)
    case 'choice':
      return inner(node.test, node.yes, node.no)
    case 'call': {
      const known =
        node.on === undefined
          ? (node.name === 'has' && node.args[0]?.kind === 'member') || node.name === 'size' || node.name === 'string'
          : Object.hasOwn(METHODS, node.name)
      if (!known || node.args.length !== 1)
        throw new ConfigError(`${where} calls ${node.name}, which this mock does not know so`)
      return inner(...(node.on === undefined ? [] : [node.on]), ...node.args)
    }
  }
}

/** What JSON can hold; lists and maps are objects. */
type Value = string | number | boolean | object | null

function known(value: unknown): Value {
  if (value === null || typeof value === 'object') return value
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return value
  throw new CelError('no such attribute')
}

function evaluate(node: Node, given: Variables): Value {
  if (node.kind === 'literal') return node.value
  if (node.kind === 'name') return known(given[node.name])
  if (node.kind === 'list') return node.items.map((item) => evaluate(item, given))
  if (node.kind === 'member') return member(evaluate(node.of, given), evaluate(node.key, given))
  if (node.kind === 'not') return !truth(evaluate(node.of, given))
  if (node.kind === 'negate') {
    const value = evaluate(node.of, given)
    return typeof value === 'number' ? -value : overload('-')
  }
  if (node.kind === 'choice')
    return truth(evaluate(node.test, given)) ? evaluate(node.yes, given) : evaluate(node.no, given)
  if (node.kind === 'call') return call(node, given)
  const { operator, left, right } = node
  if (operator === '||' || operator === '&&') return either(operator, [left, right], given)
  return OPERATE[operator](evaluate(left, given), evaluate(right, given))
}

/** One side alone may settle it, and then an error of the other does not count, whichever comes first. */
function either(operator: '||' | '&&', sides: readonly Node[], given: Variables): boolean {
  const settles = operator === '||'
  let failed: CelError | undefined
  for (const side of sides) {
    try {
      if (truth(evaluate(side, given)) === settles) return settles
    } catch (caught) {
      if (!(caught instanceof CelError)) throw caught
      failed = caught
    }
  }
  if (failed !== undefined) throw failed
  return !settles
}

const OPERATE: Readonly<Record<Exclude<Binary, '||' | '&&'>, (left: Value, right: Value) => Value>> = {
  '==': (left, right) => equal(left, right),
  '!=': (left, right) => !equal(left, right),
  in: (left, right) => {
    if (Array.isArray(right)) return right.some((item) => equal(item, left))
    return typeof left === 'string' && Object.hasOwn(recordOf(right) ?? overload('in'), left)
  },
  '+': (left, right) => {
    if (typeof left === 'string' && typeof right === 'string') return left + right
    return typeof left === 'number' && typeof right === 'number' ? left + right : overload('+')
  },
  '<': (left, right) => compare(left, right) < 0,
  '<=': (left, right) => compare(left, right) <= 0,
  '>': (left, right) => compare(left, right) > 0,
  '>=': (left, right) => compare(left, right) >= 0,
}

function call({ name, on, args }: Extract<Node, { kind: 'call' }>, given: Variables): Value {
  const [node] = args
  if (node === undefined) return overload(name)
  if (on !== undefined) {
    const [text, argument] = [evaluate(on, given), evaluate(node, given)]
    if (typeof text !== 'string' || typeof argument !== 'string') return overload(name)
    return known(METHODS[name]?.(text, argument))
  }
  if (name === 'has') {
    if (node.kind !== 'member') return overload(name)
    const key = evaluate(node.key, given)
    return typeof key === 'string' && Object.hasOwn(recordOf(evaluate(node.of, given)) ?? overload(name), key)
  }
  const value = evaluate(node, given)
  if (name === 'string')
    return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
      ? String(value)
      : overload(name)
  if (typeof value === 'string') return Array.from(value).length
  return Array.isArray(value) ? value.length : Object.keys(recordOf(value) ?? overload(name)).length
}

function member(of: Value, key: Value): Value {
  if (Array.isArray(of) && typeof key === 'number' && Number.isInteger(key) && key >= 0 && key < of.length)
    return known(of[key])
  const given = recordOf(of)
  if (given === undefined || typeof key !== 'string' || !Object.hasOwn(given, key)) throw new CelError('no such key')
  return known(given[key])
}

/** Google's own: what stands in place of `{name}` in the template, or an empty text: IAM docs, "extract()". */
function extract(text: string, template: string): string {
  const [, before, after] = /^([^{}]*)\{[A-Za-z_]\w*\}([^{}]*)$/.exec(template) ?? []
  if (before === undefined || after === undefined) throw new CelError('extract needs one {name} in its template')
  const start = text.indexOf(before)
  if (start === -1) return ''
  const rest = text.slice(start + before.length)
  if (after === '') return rest
  const end = rest.indexOf(after)
  return end === -1 ? '' : rest.slice(0, end)
}

function equal(left: unknown, right: unknown): boolean {
  if (Array.isArray(left) && Array.isArray(right))
    return left.length === right.length && left.every((item, index) => equal(item, right[index]))
  return left === right
}

function compare(left: unknown, right: unknown): number {
  if (typeof left === 'number' && typeof right === 'number') return left - right
  if (typeof left === 'string' && typeof right === 'string') return left < right ? -1 : left > right ? 1 : 0
  return overload('<')
}

const truth = (value: unknown): boolean => (typeof value === 'boolean' ? value : overload('&&'))

function overload(what: string): never {
  throw new CelError(`no such overload: ${what}`)
}
