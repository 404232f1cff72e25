// A guest's program with Google's library: by default credentials, or with a supplier of its own.

import { GoogleAuth, IdentityPoolClient } from 'google-auth-library'
import { print, told } from './told.ts'

const scopes = ['https://www.googleapis.com/auth/cloud-platform']
const env = (name: string): string => process.env[name] ?? ''

const supplied = (audience: string, token: string): Promise<unknown> =>
  told(async () => {
    const client = new IdentityPoolClient({
      type: 'external_account',
      audience,
      scopes,
      subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
      token_url: env('TOKEN_URL'),
      subject_token_supplier: { getSubjectToken: () => Promise.resolve(token) },
    })
    return { token: (await client.getAccessToken()).token }
  })

const TASKS: Record<string, () => Promise<unknown>> = {
  default: () => told(async () => ({ token: await new GoogleAuth({ scopes }).getAccessToken() })),
  supplier: async () => ({
    good: await supplied(env('AUDIENCE'), env('TOKEN')),
    target: await supplied(`${env('AUDIENCE')}-none`, env('TOKEN')),
    grant: await supplied(env('AUDIENCE'), `${env('TOKEN').slice(0, -8)}AAAAAAAA`),
  }),
}

print(await TASKS[process.argv[2] ?? '']?.())
