// One line of a policy's Condition block: `StringLike: {"oidc.fly.io/acme:sub": ["acme:api:*", "acme:web:*"]}`.
// Rules: IAM User Guide, reference_policies_elements_condition_operators and …_condition-single-vs-multi-valued.

import { matches } from './pattern.ts'
import type { Context } from './pattern.ts'

type Base = keyof typeof TEST

export interface Condition {
  readonly set: 'ForAnyValue' | 'ForAllValues' | undefined
  readonly base: Base | 'Null'
  readonly ifExists: boolean
  /** Condition key, in lower case: keys have no case. */
  readonly key: string
  readonly values: readonly string[]
}

/** `ForAnyValue:StringLikeIfExists` taken apart, or undefined for an operator that is none, or is not modelled. */
export function parseOperator(text: string): Pick<Condition, 'set' | 'base' | 'ifExists'> | undefined {
  const [, set, name = '', exists] = /^(?:(ForAnyValue|ForAllValues):)?([A-Za-z]+?)(IfExists)?$/.exec(text) ?? []
  const base = name === 'Null' ? name : BASES.find((known) => known === name)
  if (base === undefined || (base === 'Null' && (set ?? exists) !== undefined)) return undefined
  return {
    set: set === 'ForAnyValue' || set === 'ForAllValues' ? set : undefined,
    base,
    ifExists: exists !== undefined,
  }
}

/** `variables`: whether the policy is of the version that replaces `${…}`. */
export function holds({ set, base, ifExists, key, values }: Condition, context: Context, variables: boolean): boolean {
  const given = context.get(key)
  if (base === 'Null') return values.some((value) => value.toLowerCase() === String(given === undefined))
  const { wild, fold, negated } = TEST[base]
  const meets = (one: string): boolean => {
    const hit = values.some((value) =>
      fold ? value.toLowerCase() === one.toLowerCase() : matches(value, one, wild, variables ? context : undefined),
    )
    return hit !== negated
  }
  if (given === undefined) {
    if (ifExists) return true
    // The trap of K11: all of no values are whatever one likes, so a token without the claim passes.
    if (set !== undefined) return set === 'ForAllValues'
    return negated
  }
  if (set === 'ForAllValues') return given.every(meets)
  // A negated operator on several values, without a set operator, must hold for each: none of them may be listed.
  return set === undefined && negated ? given.every(meets) : given.some(meets)
}

// Numeric, date, binary and address operators are left out: nothing in an ID token's context has such a value.
const TEST = {
  StringEquals: { wild: false, fold: false, negated: false },
  StringNotEquals: { wild: false, fold: false, negated: true },
  StringEqualsIgnoreCase: { wild: false, fold: true, negated: false },
  StringNotEqualsIgnoreCase: { wild: false, fold: true, negated: true },
  StringLike: { wild: true, fold: false, negated: false },
  StringNotLike: { wild: true, fold: false, negated: true },
  // IAM compares ARNs part by part; here `*` may cross a colon, which no condition on a session can notice.
  ArnEquals: { wild: true, fold: false, negated: false },
  ArnNotEquals: { wild: true, fold: false, negated: true },
  ArnLike: { wild: true, fold: false, negated: false },
  ArnNotLike: { wild: true, fold: false, negated: true },
  Bool: { wild: false, fold: true, negated: false },
} as const

const BASES: readonly Base[] = [
  ...(['StringEquals', 'StringNotEquals', 'StringEqualsIgnoreCase', 'StringNotEqualsIgnoreCase'] as const),
  ...(['StringLike', 'StringNotLike', 'ArnEquals', 'ArnNotEquals', 'ArnLike', 'ArnNotLike', 'Bool'] as const),
]
