// Anthropic's workload identity federation: a rule and an organization are the user's, the SDK takes the token from the
// file. The audience is whatever the rule was made with, so ANTHROPIC_IDENTITY_TOKEN_AUDIENCE, a variable of ours, may
// name it.

import {
  type Arrangement,
  firstSet,
  type Ground,
  isAudience,
  NOTHING,
  tokenFile,
  valueOf,
  type Variables,
} from './cloud.ts'

const FILE = 'ANTHROPIC_IDENTITY_TOKEN_FILE'
const AUDIENCE = 'ANTHROPIC_IDENTITY_TOKEN_AUDIENCE'

export function anthropic(env: Variables, ground: Ground): Arrangement {
  if (valueOf(env, 'ANTHROPIC_FEDERATION_RULE_ID') === undefined) return NOTHING
  const organization = 'ANTHROPIC_ORGANIZATION_ID'
  if (valueOf(env, organization) === undefined)
    return { ...NOTHING, problems: [{ code: 'ORGANIZATION_MISSING', cloud: 'anthropic', variable: organization }] }
  const audience = valueOf(env, AUDIENCE) ?? 'https://api.anthropic.com'
  if (!isAudience(audience))
    return { ...NOTHING, problems: [{ code: 'AUDIENCE_INVALID', cloud: 'anthropic', variable: AUDIENCE }] }

  const file = tokenFile('anthropic', ground, 'anthropic_token', audience)
  const notices = [
    ...firstSet(env, 'anthropic', 'STATIC_KEYS_WIN', ['ANTHROPIC_API_KEY', 'ANTHROPIC_AUTH_TOKEN']),
    ...firstSet(env, 'anthropic', 'PROFILE_MAY_WIN', ['ANTHROPIC_PROFILE']),
  ]
  const kept = valueOf(env, FILE)
  if (kept !== undefined && kept !== file.path)
    return { ...NOTHING, notices: [...notices, ...firstSet(env, 'anthropic', 'VARIABLE_KEPT', [FILE])] }
  return { ...NOTHING, env: kept === undefined ? { [FILE]: file.path } : {}, files: [file], notices }
}
