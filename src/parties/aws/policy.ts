// IAM policy documents: who (Principal) may do what (Action) with which (Resource) when (Condition). The same language
// for a role's trust, for what it permits, and for what a caller narrows its session to.

import { ConfigError, allowOnly, needList, needRecord, needText, recordOf } from '../shape.ts'
import { holds, parseOperator } from './condition.ts'
import type { Condition } from './condition.ts'
import { matches } from './pattern.ts'
import type { Context } from './pattern.ts'

export interface Policy {
  /** Version 2012-10-17 replaces variables; the older default takes them literally. */
  readonly variables: boolean
  readonly statements: readonly Statement[]
}

interface Statement {
  readonly effect: 'Allow' | 'Deny'
  readonly principals: readonly string[] | undefined
  readonly actions: readonly string[]
  readonly resources: readonly string[] | undefined
  readonly conditions: readonly Condition[]
}

export interface Ask {
  readonly action: string
  /** ARN of the identity provider, for a trust policy. */
  readonly principal?: string
  readonly resource?: string
  readonly context: Context
}

/** An explicit Deny, in whichever policy, beats every Allow, and what nothing allows is denied. */
export function allows(policies: readonly Policy[], ask: Ask): boolean {
  const effects = policies.flatMap(({ statements, variables }) =>
    statements.filter((statement) => applies(statement, ask, variables)).map(({ effect }) => effect),
  )
  return effects.includes('Allow') && !effects.includes('Deny')
}

/**
 * A policy as IAM would store it: an unknown member or operator is a ConfigError, never passed over. NotAction,
 * NotPrincipal and NotResource are not modelled, and so are unknown.
 */
export function parsePolicy(value: unknown, kind: 'trust' | 'permissions', where: string): Policy {
  const document = needRecord(value, where)
  allowOnly(document, ['Version', 'Id', 'Statement'], where)
  const { Version: version, Statement: statement } = document
  if (version !== undefined && version !== '2012-10-17' && version !== '2008-10-17')
    throw new ConfigError(`${where}.Version is not a version`)
  const statements = recordOf(statement) === undefined ? needList(statement, `${where}.Statement`) : [statement]
  if (statements.length === 0) throw new ConfigError(`${where}.Statement is empty`)
  return {
    variables: version === '2012-10-17',
    statements: statements.map((one, index) => parseStatement(one, kind, `${where}.Statement[${index}]`)),
  }
}

function applies({ principals, actions, resources, conditions }: Statement, ask: Ask, variables: boolean): boolean {
  const context = variables ? ask.context : undefined
  const { principal, resource } = ask
  if (principals !== undefined && !principals.some((one) => one === '*' || one === principal)) return false
  // Actions have no case.
  if (!actions.some((action) => matches(action.toLowerCase(), ask.action.toLowerCase(), true))) return false
  if (
    resources !== undefined &&
    !resources.some((one) => resource !== undefined && matches(one, resource, true, context))
  )
    return false
  return conditions.every((condition) => holds(condition, ask.context, variables))
}

function parseStatement(value: unknown, kind: 'trust' | 'permissions', where: string): Statement {
  const given = needRecord(value, where)
  const own = kind === 'trust' ? 'Principal' : 'Resource'
  allowOnly(given, ['Sid', 'Effect', 'Action', 'Condition', own], where)
  const { Effect: effect, Action: action, Condition: condition } = given
  if (effect !== 'Allow' && effect !== 'Deny') throw new ConfigError(`${where}.Effect is neither Allow nor Deny`)
  return {
    effect,
    principals: kind === 'trust' ? parsePrincipal(given['Principal'], `${where}.Principal`) : undefined,
    actions: oneOrMore(action, `${where}.Action`),
    resources: kind === 'trust' ? undefined : oneOrMore(given['Resource'], `${where}.Resource`),
    conditions: condition === undefined ? [] : parseConditions(condition, `${where}.Condition`),
  }
}

function parsePrincipal(value: unknown, where: string): string[] {
  if (value === '*') return ['*']
  const given = needRecord(value, where)
  allowOnly(given, ['Federated', 'AWS', 'Service'], where)
  // Only an identity provider calls AssumeRoleWithWebIdentity; the others are for operations that are not modelled.
  return given['Federated'] === undefined ? [] : oneOrMore(given['Federated'], `${where}.Federated`)
}

function parseConditions(value: unknown, where: string): Condition[] {
  return Object.entries(needRecord(value, where)).flatMap(([name, block]) => {
    const operator = parseOperator(name)
    if (operator === undefined)
      throw new ConfigError(`${where} has the operator ${name}, which is none or is not modelled`)
    return Object.entries(needRecord(block, `${where}.${name}`)).map(([key, values]) => ({
      ...operator,
      key: key.toLowerCase(),
      values: oneOrMore(values, `${where}.${name}["${key}"]`),
    }))
  })
}

/** IAM lets every list of one be written without its brackets, and true and false without quotes. */
function oneOrMore(value: unknown, where: string): string[] {
  const list = Array.isArray(value) ? needList(value, where) : [value]
  if (list.length === 0) throw new ConfigError(`${where} is empty`)
  return list.map((item) => (typeof item === 'boolean' ? String(item) : needText(item, where)))
}
