// AssumeRoleWithWebIdentity: an ID token for the credentials of a role.

import { ConfigError } from '../shape.ts'
import type { Reach } from '../trust/reach.ts'
import { StsError } from './error.ts'
import { ROLE_ARN, keyPrefix } from './iam.ts'
import type { Iam, Role } from './iam.ts'
import { identify } from './identity.ts'
import type { Identity } from './identity.ts'
import type { AssumeRequest } from './parameters.ts'
import { allows, parsePolicy } from './policy.ts'
import type { Policy } from './policy.ts'
import { assumedRoleArn, assumedRoleId } from './sessions.ts'
import type { Sessions } from './sessions.ts'
import { packedSize, readTags } from './tags.ts'
import type { SessionTags } from './tags.ts'
import type { Xml } from './xml.ts'

export interface Account {
  readonly iam: Iam
  readonly sessions: Sessions
  readonly reach: Reach
  /** Unix ms. */
  readonly now: () => number
  /** What `<Provider>` says: `iss`, as botocore documents, or the provider's ARN, as some remember the service does. */
  readonly provider: 'iss' | 'arn'
}

export async function assumeRole(asked: AssumeRequest, account: Account): Promise<Xml> {
  const { iam, sessions, now } = account
  const [, number] = ROLE_ARN.exec(asked.roleArn) ?? []
  if (number === undefined) throw new StsError('ValidationError', 'Request ARN is invalid')
  const narrowed = readPolicy(asked.policy)
  const identity = await identify(asked.token, number, iam, account.reach, Math.floor(now() / 1000))
  const tags = readTags(identity.claims)
  const packed = pack(asked.policy, tags)
  const role = iam.roles.find(({ arn }) => arn === asked.roleArn)
  // A role that does not exist is told from one that does not trust the caller by nobody.
  if (role === undefined || !trusts(role, identity, asked, tags))
    throw new StsError('AccessDenied', 'Not authorized to perform sts:AssumeRoleWithWebIdentity')
  if (asked.seconds > role.maxSessionSeconds) {
    throw new StsError(
      'ValidationError',
      'The requested DurationSeconds exceeds the MaxSessionDuration set for this role.',
    )
  }
  const session = sessions.open({
    role,
    name: asked.sessionName,
    expires: now() + asked.seconds * 1000,
    tags,
    narrowed,
  })
  return [
    ['SubjectFromWebIdentityToken', identity.subject],
    ['Audience', identity.audience],
    ['Provider', account.provider === 'iss' ? identity.provider.url : identity.provider.arn],
    [
      'AssumedRoleUser',
      [
        ['Arn', assumedRoleArn(session)],
        ['AssumedRoleId', assumedRoleId(session)],
      ],
    ],
    [
      'Credentials',
      [
        ['AccessKeyId', session.accessKeyId],
        ['SecretAccessKey', session.secretAccessKey],
        ['SessionToken', session.sessionToken],
        ['Expiration', new Date(session.expires).toISOString().replace(/\.\d+Z$/, 'Z')],
      ],
    ],
    ...(packed === 0 ? [] : [['PackedPolicySize', packed] as const]),
  ]
}

/** Both actions must be allowed when the token carries tags, even an empty set of them. */
function trusts(
  role: Role,
  { provider, subject, audience, claims }: Identity,
  { sessionName }: AssumeRequest,
  tags: SessionTags | undefined,
): boolean {
  const prefix = keyPrefix(provider.url).toLowerCase()
  const context = new Map<string, readonly string[]>([
    [`${prefix}:sub`, [subject]],
    [`${prefix}:aud`, [audience]],
    ['sts:rolesessionname', [sessionName]],
    ['aws:federatedprovider', [provider.arn]],
  ])
  // Of an issuer that AWS does not know by name no other claim is a condition key: an `app_name` is never matched.
  const { amr } = claims
  if (Array.isArray(amr) && amr.every((item) => typeof item === 'string')) context.set(`${prefix}:amr`, amr)
  if (tags !== undefined) {
    for (const [key, { value }] of tags.principal) context.set(`aws:requesttag/${key}`, [value])
    if (tags.principal.size > 0)
      context.set(
        'aws:tagkeys',
        Array.from(tags.principal.values(), ({ key }) => key),
      )
    if (tags.transitive.length > 0) context.set('sts:transitivetagkeys', tags.transitive)
  }
  const actions = ['sts:AssumeRoleWithWebIdentity', ...(tags === undefined ? [] : ['sts:TagSession'])]
  return actions.every((action) => allows([role.trust], { action, principal: provider.arn, context }))
}

function readPolicy(text: string | undefined): Policy | undefined {
  if (text === undefined || text === '') return undefined
  if (text.length > 2048)
    throw new StsError(
      'ValidationError',
      "1 validation error detected: Value at 'policy' failed to satisfy constraint: Member must have length less than or equal to 2048",
    )
  try {
    return parsePolicy(JSON.parse(text), 'permissions', 'Policy')
  } catch (caught) {
    if (caught instanceof SyntaxError)
      throw new StsError('MalformedPolicyDocument', 'This policy contains invalid Json', caught)
    if (caught instanceof ConfigError) throw new StsError('MalformedPolicyDocument', caught.message, caught)
    throw caught
  }
}

/** Per cent of the space that tags and policy may take. AWS packs them in a way that is not public: 2,048 bytes, unpacked, are a guess. */
function pack(policy: string | undefined, tags: SessionTags | undefined): number {
  const percent = Math.ceil(((Buffer.byteLength(policy ?? '') + packedSize(tags)) / 2048) * 100)
  if (percent > 100)
    throw new StsError(
      'PackedPolicyTooLarge',
      `Packed policy consumes ${percent}% of allotted space, please use smaller policy.`,
    )
  return percent
}
