// Session tags out of a token: IAM User Guide, id_session-tags, "Passing session tags using AssumeRoleWithWebIdentity".

import { recordOf } from '../shape.ts'
import type { Claims } from '../trust/token.ts'
import { StsError } from './error.ts'

export interface SessionTags {
  /** Key in lower case to key as written and value: keys have no case, and keep the case they came with. */
  readonly principal: ReadonlyMap<string, { readonly key: string; readonly value: string }>
  readonly transitive: readonly string[]
}

const CLAIM = 'https://aws.amazon.com/tags'

/** Undefined when the token has no tags claim: only then is `sts:TagSession` not needed. */
export function readTags(claims: Claims): SessionTags | undefined {
  const value = claims[CLAIM]
  if (value === undefined) return undefined
  // AWS writes an object; Ceph, which speaks the same protocol, an array of them: docs.ceph.com radosgw/session-tags.
  const blocks = (Array.isArray(value) ? value : [value]).map((block) => recordOf(block) ?? malformed())
  const principal = new Map<string, { key: string; value: string }>()
  const transitive: string[] = []
  for (const { principal_tags: tags, transitive_tag_keys: keys = [] } of blocks) {
    if (tags !== undefined) for (const [key, text] of pairs(tags)) add(principal, key, text)
    if (!Array.isArray(keys)) return malformed()
    for (const key of keys) transitive.push(typeof key === 'string' ? key : malformed())
  }
  if (principal.size > 50) throw limit('tags', 'Member must have length less than or equal to 50')
  return { principal, transitive }
}

/** Bytes that the tags take in the packed session policy. How AWS packs is not public: plain lengths are a guess. */
export const packedSize = (tags: SessionTags | undefined): number =>
  [...(tags?.principal.values() ?? [])].reduce((sum, { key, value }) => sum + key.length + value.length, 0)

function pairs(value: unknown): [string, string][] {
  const tags = recordOf(value) ?? malformed()
  // One value a key: AWS takes a list, and no list of two.
  return Object.entries(tags).map(([key, values]) => {
    const [text, ...more] = Array.isArray(values) ? values : [values]
    return typeof text === 'string' && more.length === 0 ? [key, text] : malformed()
  })
}

function add(into: Map<string, { key: string; value: string }>, key: string, value: string): void {
  if (key === '' || key.length > 128)
    throw limit('tags.member.key', 'Member must have length less than or equal to 128')
  if (value.length > 256) throw limit('tags.member.value', 'Member must have length less than or equal to 256')
  if (!TEXT.test(key) || !TEXT.test(value))
    throw limit('tags', 'Member must satisfy regular expression pattern: [\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]+')
  if (/^aws:/i.test(key)) throw new StsError('ValidationError', 'Tag keys beginning with "aws:" are reserved') // text: a guess
  if (into.has(key.toLowerCase()))
    throw new StsError('ValidationError', 'Duplicate tag keys found. Please note that Tag keys are case insensitive.')
  into.set(key.toLowerCase(), { key, value })
}

const TEXT = /^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$/u

// The limits are documented; that they come back as ValidationError, as they do for AssumeRole, is a guess.
const limit = (member: string, rule: string): StsError =>
  new StsError(
    'ValidationError',
    `1 validation error detected: Value at '${member}' failed to satisfy constraint: ${rule}`,
  )

function malformed(): never {
  throw new StsError('InvalidIdentityToken', 'The tags claim of the ID Token is malformed') // text: a guess
}
