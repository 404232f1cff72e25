// @azure/identity, unmodified: WorkloadIdentityCredential, told by its environment as AKS would tell it. It is given the
// run's certificate through NODE_EXTRA_CA_CERTS, as a private cloud's would be, and checks it like any other.

import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { decodeJwt } from 'jose'
import { test } from 'tap'
import { SEED_CLIENT, SEED_TENANT, seedApplications } from '../../src/parties/azure/application.ts'
import { startAzure } from '../../src/parties/azure/azure.ts'
import { needRecord } from '../../src/parties/shape.ts'
import { runGuest, startTestIssuer } from './support.ts'

const FLY = 'https://oidc.fly.io'

test('@azure/identity: WorkloadIdentityCredential and DefaultAzureCredential', async (t) => {
  const issuer = await startTestIssuer(FLY)
  const azure = await startAzure({ applications: seedApplications(issuer.iss), reach: { via: { [FLY]: issuer.url } } })
  const dir = await mkdtemp(join(tmpdir(), 'dotfly-azure-'))
  t.teardown(() => Promise.all([issuer.close(), azure.close(), rm(dir, { recursive: true })]))
  const file = join(dir, 'token')
  const ca = join(dir, 'ca.pem')
  await writeFile(ca, azure.ca)
  const env = {
    HOME: dir,
    AZURE_CLIENT_ID: SEED_CLIENT,
    AZURE_TENANT_ID: SEED_TENANT,
    AZURE_FEDERATED_TOKEN_FILE: file,
    AZURE_AUTHORITY_HOST: azure.url,
  }
  const ask = async (claims: object, { task = 'workload', cas = ca } = {}): Promise<Record<string, unknown>> => {
    await writeFile(file, await issuer.sign({ aud: 'api://AzureADTokenExchange', ...claims }))
    const { code, out, err } = await runGuest(new URL('./guest/azure.ts', import.meta.url), task, {
      ...env,
      NODE_EXTRA_CA_CERTS: cas,
    })
    t.equal(code, 0, err)
    return needRecord(JSON.parse(out), 'what the script printed')
  }
  for (const task of ['workload', 'default']) {
    const got = await ask({}, { task })
    t.match(
      decodeJwt(String(got['token'])),
      { aud: 'https://graph.microsoft.com', azp: SEED_CLIENT, tid: SEED_TENANT },
      JSON.stringify(got['message'] ?? task),
    )
  }
  t.match(await ask({ sub: 'example:weather-cat:another-1' }), {
    message:
      /AADSTS700213: No matching federated identity record found for presented assertion subject 'example:weather-cat:another-1'/,
  })
  t.match(await ask({ exp: 1_700_000_000 }), { message: /AADSTS700024/ })
  // src/identity/azure.ts refreshes early because of this. What is kept longer must be refreshed earlier.
  t.match(
    await ask({}, { task: 'keeps' }),
    { 0: { token: String }, 295: { token: String }, 305: { token: undefined, message: /AADSTS/ } },
    'it shows what it has read for 5 minutes, and no longer',
  )
  t.match(
    await ask({}, { cas: '' }),
    { token: undefined, message: /endpoints_resolution_error/ },
    'a certificate nobody vouched for is refused',
  )
})
