// A guest's program with Azure's library. disableInstanceDiscovery: msal would ask login.microsoftonline.com whether it
// knows this authority; the option is the documented one for private clouds.

import { writeFileSync } from 'node:fs'
import { DefaultAzureCredential, WorkloadIdentityCredential } from '@azure/identity'
import { print, told } from './told.ts'

const options = { disableInstanceDiscovery: true, retryOptions: { maxRetries: 0 } }

const GRAPH = 'https://graph.microsoft.com/.default'

/** One credential that is asked again after so many seconds, each time for another scope, when the file has become
 * useless: what it gets then it got with what it had kept. */
async function keeps(): Promise<unknown> {
  const credential = new WorkloadIdentityCredential(options)
  const began = Date.now()
  const got: Record<number, unknown> = { 0: await told(() => credential.getToken(GRAPH)) }
  writeFileSync(process.env['AZURE_FEDERATED_TOKEN_FILE'] ?? '', 'useless')
  for (const [seconds, scope] of [
    [295, 'https://vault.azure.net/.default'],
    [305, 'https://storage.azure.com/.default'],
  ] as const) {
    Date.now = () => began + seconds * 1000
    got[seconds] = await told(() => credential.getToken(scope))
  }
  return got
}

const TASKS: Record<string, () => Promise<unknown>> = {
  workload: () => told(() => new WorkloadIdentityCredential(options).getToken(GRAPH)),
  default: () => told(() => new DefaultAzureCredential(options).getToken(GRAPH)),
  keeps,
}

print(await TASKS[process.argv[2] ?? '']?.())
