// The token files that dotfly init keeps, each read by its cloud's own SDK from the environment that init has made: a
// Machine that was told of four clouds and holds no key of any.

import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { decodeJwt } from 'jose'
import { test } from 'tap'
import { BIN } from '../cli/dotfly.ts'
import { NODE, ROOT, startInit } from '../init/support.ts'
import { mockFor } from './mock.ts'

const skip = ROOT ? false : 'needs root, for a PID namespace'
const guest = (name: string): string => fileURLToPath(new URL(`../parties/guest/${name}.ts`, import.meta.url))

test('four clouds, four SDKs, and not a key among them', { skip }, async (t) => {
  const { dir, mock } = await mockFor(t)
  const { sts, s3, gcp, azure, anthropic, azure_ca_file, machines } = mock.file
  const [machine] = machines
  const socket = join(dir, 'api')
  const start = (command: string[], more: Record<string, string> = {}): ReturnType<typeof startInit> =>
    startInit(t, {
      flyd: machine!.flyd_url,
      macaroon: ['--macaroon-file', machine!.macaroon_file, '--socket', `${socket},mode=0777`],
      options: ['--token-dir', join(dir, 'fly'), '--user', '4242'],
      env: {
        PATH: '/usr/bin:/bin',
        HOME: '/nonexistent',
        AWS_ROLE_ARN: sts!.role_arn,
        AWS_REGION: 'us-east-1',
        AWS_ENDPOINT_URL_STS: sts!.url,
        AWS_ENDPOINT_URL_S3: s3!.url,
        GOOGLE_WORKLOAD_IDENTITY_PROVIDER: gcp!.audience,
        GOOGLE_SERVICE_ACCOUNT: gcp!.service_account,
        GOOGLE_CLOUD_PROJECT: 'example',
        METADATA_SERVER_DETECTION: 'none',
        AZURE_CLIENT_ID: azure!.client_id,
        AZURE_TENANT_ID: azure!.tenant,
        AZURE_AUTHORITY_HOST: azure!.url,
        NODE_EXTRA_CA_CERTS: azure_ca_file ?? '',
        ANTHROPIC_FEDERATION_RULE_ID: anthropic!.federation_rule_id,
        ANTHROPIC_ORGANIZATION_ID: anthropic!.organization_id,
        ANTHROPIC_BASE_URL: anthropic!.url,
        ...more,
      },
      // tap has put hooks of its own into every Node that is started from here.
      command: ['env', '-u', 'NODE_OPTIONS', ...command],
    })
  const told = async (command: string[], more?: Record<string, string>): Promise<unknown> => {
    const init = await start(command, more)
    t.equal((await init.ended).code, 0, init.log())
    t.notMatch(init.log(), /eyJ/, 'no token is ever said')
    return JSON.parse(init.out())
  }

  t.equal(await told([...NODE, guest('aws'), 'once']), 'meow, with a chance of rain\n', 'AWS')

  // Google's library takes its addresses from the file alone. In a copy of it they are the mock's; the token file and
  // all else is as init wrote it.
  const moved = join(dir, 'move.mjs')
  writeFileSync(
    moved,
    `import { readFileSync, writeFileSync } from 'node:fs'
const text = readFileSync(process.env.GOOGLE_APPLICATION_CREDENTIALS, 'utf8')
const here = text.replaceAll(/https:\\/\\/(?:sts|iamcredentials)\\.googleapis\\.com(?=\\/v1\\/)/g, process.env.GCP_HERE)
if (here === text) throw new Error('no address to move')
writeFileSync(process.env.GCP_COPY, here)
process.env.GOOGLE_APPLICATION_CREDENTIALS = process.env.GCP_COPY
`,
  )
  writeFileSync(join(dir, 'copy.json'), '', { mode: 0o666 })
  chmodSync(join(dir, 'copy.json'), 0o666)
  const google = await told([...NODE, `--import=${moved}`, guest('gcp'), 'default'], {
    GCP_HERE: gcp!.url,
    GCP_COPY: join(dir, 'copy.json'),
  })
  t.match(google, { token: /^ya29\.c\./ }, `Google, as a service account: ${JSON.stringify(google)}`)

  // And the command of docs/tokens.md, which Google's library runs by itself: no file at all.
  const executable = join(dir, 'executable.json')
  writeFileSync(
    executable,
    JSON.stringify({
      type: 'external_account',
      audience: gcp!.audience,
      subject_token_type: 'urn:ietf:params:oauth:token-type:id_token',
      token_url: `${gcp!.url}/v1/token`,
      credential_source: {
        executable: { command: [...NODE, BIN, 'token', '--format', 'gcp-executable', '--socket', socket].join(' ') },
      },
    }),
  )
  const ran = { GOOGLE_APPLICATION_CREDENTIALS: executable, GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES: '1' }
  const command = await told([...NODE, guest('gcp'), 'default'], ran)
  t.match(command, { token: /^ya29\.d\./ }, `Google, by dotfly token: ${JSON.stringify(command)}`)

  const got = await told([...NODE, guest('azure'), 'default'])
  t.match(got, { token: String }, `Azure: ${JSON.stringify(got)}`)
  t.match(decodeJwt((got as { token: string }).token), { azp: azure!.client_id, aud: 'https://graph.microsoft.com' })

  t.strictSame(await told([...NODE, guest('anthropic')]), { models: ['claude-example'] }, 'Anthropic')
  t.match(
    await told([...NODE, guest('anthropic')], { ANTHROPIC_IDENTITY_TOKEN_AUDIENCE: 'https://other.example' }),
    { message: /status 401/ },
    'and a token for somebody else opens nothing',
  )
})
