// Azure: AZURE_CLIENT_ID and AZURE_TENANT_ID are the user's; WorkloadIdentityCredential takes the token from the file.

import { type Arrangement, firstSet, type Ground, NOTHING, tokenFile, valueOf, type Variables } from './cloud.ts'

const FILE = 'AZURE_FEDERATED_TOKEN_FILE'
const AUTHORITY = 'AZURE_AUTHORITY_HOST'

export function azure(env: Variables, ground: Ground): Arrangement {
  const client = valueOf(env, 'AZURE_CLIENT_ID')
  const tenant = valueOf(env, 'AZURE_TENANT_ID')
  // Either alone has other uses, such as a managed identity's.
  if (client === undefined || tenant === undefined) return NOTHING
  if (!UUID.test(client))
    return { ...NOTHING, problems: [{ code: 'CLIENT_ID_MALFORMED', cloud: 'azure', variable: 'AZURE_CLIENT_ID' }] }
  if (!TENANT.test(tenant))
    return { ...NOTHING, problems: [{ code: 'TENANT_ID_MALFORMED', cloud: 'azure', variable: 'AZURE_TENANT_ID' }] }

  const host = valueOf(env, AUTHORITY)
  const file = tokenFile('azure', ground, 'azure_token', audienceAt(host))
  // DefaultAzureCredential looks for these first.
  const notices = firstSet(env, 'azure', 'STATIC_KEYS_WIN', [
    'AZURE_CLIENT_SECRET',
    'AZURE_CLIENT_CERTIFICATE_PATH',
    'AZURE_PASSWORD',
  ])
  const authority = host === undefined ? { [AUTHORITY]: 'https://login.microsoftonline.com/' } : {}
  const kept = valueOf(env, FILE)
  if (kept !== undefined && kept !== file.path)
    return { ...NOTHING, notices: [...notices, ...firstSet(env, 'azure', 'VARIABLE_KEPT', [FILE])] }
  return {
    ...NOTHING,
    env: { ...(kept === undefined ? { [FILE]: file.path } : {}), ...authority },
    files: [{ ...file, refreshAt: REFRESH_AT }],
    notices,
  }
}

/** Azure's libraries do not read the file each time: WorkloadIdentityCredential of JavaScript shows what it has read for
 * 5 minutes. So no token may lie in the file when it is older than its life less those 5 minutes: 300 s of 600. A third
 * of its life is 200 s, 220 s with jitter, and the 80 s that are left are for failures. (Those of Go and Python keep it
 * for 10 minutes, as they were made for Kubernetes, whose tokens live an hour at least: no schedule mends that.) */
const REFRESH_AT = 1 / 3

/** Each sovereign cloud has an audience of its own. */
function audienceAt(host: string | undefined): string {
  if (host?.includes('login.microsoftonline.us') === true) return 'api://AzureADTokenExchangeUSGov'
  if (host?.includes('login.chinacloudapi.cn') === true || host?.includes('login.partner.microsoftonline.cn') === true)
    return 'api://AzureADTokenExchangeChina'
  return 'api://AzureADTokenExchange'
}

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i
const TENANT = /^[0-9a-z](?:[0-9a-z.-]{0,252}[0-9a-z])?$/i
