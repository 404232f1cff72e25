// Google Cloud: a credentials file of type external_account, which every Google library knows, and the token it names.
// GOOGLE_WORKLOAD_IDENTITY_PROVIDER is ours: Google has no variable for it.

import {
  type Arrangement,
  firstSet,
  type Ground,
  NOTHING,
  type SettingsFile,
  tokenFile,
  valueOf,
  type Variables,
} from './cloud.ts'

const PROVIDER = 'GOOGLE_WORKLOAD_IDENTITY_PROVIDER'
const ACCOUNT = 'GOOGLE_SERVICE_ACCOUNT'
const CREDENTIALS = 'GOOGLE_APPLICATION_CREDENTIALS'

export function gcp(env: Variables, ground: Ground): Arrangement {
  const word = valueOf(env, PROVIDER)
  if (word === undefined) return NOTHING
  const resource = PROVIDER_NAME.exec(word)?.[1]
  if (resource === undefined)
    return { ...NOTHING, problems: [{ code: 'PROVIDER_MALFORMED', cloud: 'gcp', variable: PROVIDER }] }
  const account = valueOf(env, ACCOUNT)
  if (account !== undefined && !EMAIL.test(account))
    return { ...NOTHING, problems: [{ code: 'SERVICE_ACCOUNT_MALFORMED', cloud: 'gcp', variable: ACCOUNT }] }

  const audience = `//iam.googleapis.com/${resource}`
  const file = tokenFile('gcp', ground, 'gcp_token', audience)
  const settings: SettingsFile = {
    path: `${ground.directory}/gcp_credentials.json`,
    mode: 0o644,
    ...ground.owner,
    text: `${JSON.stringify(externalAccount(audience, file.path, account), null, 2)}\n`,
  }
  const kept = valueOf(env, CREDENTIALS)
  if (kept !== undefined && kept !== settings.path)
    return { ...NOTHING, notices: firstSet(env, 'gcp', 'VARIABLE_KEPT', [CREDENTIALS]) }
  return {
    ...NOTHING,
    env: kept === undefined ? { [CREDENTIALS]: settings.path } : {},
    files: [file],
    settings: [settings],
  }
}

/** As `gcloud iam workload-identity-pools create-cred-config` writes it. */
const externalAccount = (audience: string, file: string, account: string | undefined): object => ({
  type: 'external_account',
  universe_domain: 'googleapis.com',
  audience,
  subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
  token_url: 'https://sts.googleapis.com/v1/token',
  credential_source: { file, format: { type: 'text' } },
  ...(account === undefined
    ? {}
    : {
        service_account_impersonation_url: `https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/${account}:generateAccessToken`,
      }),
})

const PROVIDER_NAME =
  /^(?:(?:https:)?\/\/iam\.googleapis\.com\/)?(projects\/\d+\/locations\/global\/workloadIdentityPools\/[a-z0-9-]{4,32}\/providers\/[a-z0-9-]{4,32})$/
const EMAIL = /^[\w.+-]{1,64}@[a-z0-9.-]{1,190}$/i
