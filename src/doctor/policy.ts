// Reads an IAM trust policy as a reviewer does: not whether it parses, but whom it lets in that nobody thought of, and
// why it does not let in the one that it was made for.

import type { Code, Finding } from './finding.ts'
import { issuerFinding } from './issuer.ts'

/** What a token of this Machine says, where there is one. */
export interface Seen {
  readonly iss: string
  readonly sub: string
}

export interface PolicyQuestion {
  readonly text: string
  /** The file's name, for findings. */
  readonly name: string
  readonly audience: string
  readonly awsPrincipalTags: boolean
  readonly token: Seen | undefined
}

export function reviewPolicy(question: PolicyQuestion): Finding[] {
  const statements = read(question.text)
  if (statements === undefined) return [finding('POLICY_UNREADABLE', question.name)]
  const open = statements.filter(letsIn)
  if (open.length === 0) return [finding('POLICY_WITHOUT_WEB_IDENTITY', question.name)]
  return open.flatMap((statement) => reviewStatement(statement, question))
}

interface Statement {
  /** Where, for findings. */
  name: string
  effect: string
  actions: string[]
  providers: string[]
  conditions: Condition[]
}

interface Condition {
  operator: string
  /** `oidc.fly.io/example:sub` taken apart. */
  provider: string
  claim: string
  values: string[]
}

const finding = (code: Code, about: string, seen = '', wanted = ''): Finding => ({ code, about, seen, wanted })

const letsIn = ({ effect, actions }: Statement): boolean =>
  effect === 'Allow' && actions.some((action) => like(action.toLowerCase(), 'sts:assumerolewithwebidentity'))

function reviewStatement(statement: Statement, question: PolicyQuestion): Finding[] {
  const { name, providers, actions, conditions } = statement
  const { token, audience, awsPrincipalTags } = question
  const found: Finding[] = []
  const [provider = ''] = providers
  for (const one of providers) found.push(...issuerFinding(`the provider in ${name}`, `https://${one}`, token?.iss))
  for (const { provider: other, claim } of conditions)
    if (provider !== '' && other !== provider && (claim === 'sub' || claim === 'aud'))
      found.push(finding('CONDITION_OF_ANOTHER_PROVIDER', name, `${other}:${claim}`, provider))

  const on = (claim: string): Condition[] =>
    conditions.filter((one) => one.claim === claim && !/not/i.test(one.operator))
  for (const { operator, claim } of [...on('sub'), ...on('aud')])
    if (/^ForAllValues:/i.test(operator)) found.push(finding('SUB_FOR_ALL_VALUES', name, `${operator} on ${claim}`))

  const audiences = on('aud').flatMap(({ values }) => values)
  if (on('aud').length === 0) found.push(finding('AUDIENCE_UNCHECKED', name, '', provider))
  else if (!on('aud').some((one) => one.values.some((value) => meets(one, value, audience))))
    found.push(finding('AUDIENCE_MISMATCH', name, audiences.join(' or '), audience))

  found.push(...reviewSubjects(on('sub'), statement, question))
  const tags = actions.some((action) => like(action.toLowerCase(), 'sts:tagsession'))
  if (awsPrincipalTags && !tags) found.push(finding('TAG_SESSION_MISSING', name))
  return found
}

function reviewSubjects(conditions: Condition[], { name, providers }: Statement, { token }: PolicyQuestion): Finding[] {
  const [org = 'ORG', app = 'APP'] = token?.sub.split(':') ?? []
  if (conditions.length === 0)
    return [finding('SUB_UNCHECKED', name, '', `${providers[0] ?? 'PROVIDER'}:sub": "${org}:${app}:*`)]
  const found: Finding[] = []
  for (const { operator, values } of conditions) {
    for (const value of values) {
      if (/StringEquals/i.test(operator)) {
        if (/[*?]/.test(value)) found.push(finding('SUB_STRING_EQUALS_WILDCARD', name, value))
      } else if (/^[*?]/.test(value)) {
        found.push(finding('SUB_ANYBODY', name, value, `${org}:${app}:*`))
      } else {
        // A wildcard that ends a name rather than standing for one: org:app* takes in org:app-of-somebody.
        const [, before] = /^((?:[^:*?]+:)?[^:*?]+)\*/.exec(value) ?? []
        if (before !== undefined) found.push(finding('SUB_WITHOUT_COLON', name, value, `${before}:*`))
      }
      if (value.startsWith('personal:') && org !== 'personal')
        found.push(finding('SUB_ALIAS', name, value, value.replace('personal', org)))
    }
  }
  if (token === undefined || found.some(({ code }) => code !== 'SUB_WITHOUT_COLON' && code !== 'SUB_ANYBODY'))
    return found
  const allowed = conditions.every((one) => one.values.some((value) => meets(one, value, token.sub)))
  if (!allowed)
    found.push(finding('SUB_MISMATCH', name, conditions.flatMap(({ values }) => values).join(' or '), token.sub))
  return found
}

function meets({ operator }: Condition, value: string, text: string): boolean {
  if (/Like/i.test(operator)) return like(value, text)
  return /IgnoreCase/i.test(operator) ? value.toLowerCase() === text.toLowerCase() : value === text
}

/** IAM's wildcards: * any run, ? any one. */
function like(pattern: string, text: string): boolean {
  const parts = pattern.split(/([*?])/).map((part) => (part === '*' ? '.*' : part === '?' ? '.' : RegExp.escape(part)))
  return new RegExp(`^${parts.join('')}$`, 's').test(text)
}

/** The statements of a policy document, of the answer of `aws iam get-role`, or of neither. */
function read(text: string): Statement[] | undefined {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    return undefined
  }
  const role = object(object(json)?.['Role'])
  const inRole = role?.['AssumeRolePolicyDocument']
  const document = object(inRole ?? json)
  const listed = document?.['Statement']
  if (listed === undefined) return undefined
  return (Array.isArray(listed) ? listed : [listed]).map((one, index) => statementIn(object(one) ?? {}, index))
}

function statementIn(given: Record<string, unknown>, index: number): Statement {
  const federated = texts(object(given['Principal'])?.['Federated'])
  const sid = given['Sid']
  return {
    name: typeof sid === 'string' && sid !== '' ? `statement ${sid}` : `statement ${index + 1}`,
    effect: String(given['Effect']),
    actions: texts(given['Action']),
    providers: federated.flatMap((arn) => /:oidc-provider\/(.+)$/.exec(arn)?.[1] ?? []),
    conditions: Object.entries(object(given['Condition']) ?? {}).flatMap(([operator, block]) =>
      Object.entries(object(block) ?? {}).map(([key, values]) => {
        const colon = key.lastIndexOf(':')
        return {
          operator,
          provider: key.slice(0, Math.max(0, colon)),
          claim: key.slice(colon + 1).toLowerCase(),
          values: texts(values),
        }
      }),
    ),
  }
}

const object = (value: unknown): Record<string, unknown> | undefined =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : undefined

const texts = (value: unknown): string[] =>
  (Array.isArray(value) ? value : [value]).filter((one): one is string => typeof one === 'string')
