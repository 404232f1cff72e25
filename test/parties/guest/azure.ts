// A guest's program with Azure's library. disableInstanceDiscovery: msal would ask login.microsoftonline.com whether it
// knows this authority; the option is the documented one for private clouds.

import { DefaultAzureCredential, WorkloadIdentityCredential } from '@azure/identity'
import { print, told } from './told.ts'

const options = { disableInstanceDiscovery: true, retryOptions: { maxRetries: 0 } }

const TASKS: Record<string, () => DefaultAzureCredential | WorkloadIdentityCredential> = {
  workload: () => new WorkloadIdentityCredential(options),
  default: () => new DefaultAzureCredential(options),
}

print(await told(async () => TASKS[process.argv[2] ?? '']?.().getToken('https://graph.microsoft.com/.default')))
