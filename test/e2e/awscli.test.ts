// Debian's AWS command line in a Machine of dotfly init: from the token file, and by credential_process. It is older than
// AWS_ENDPOINT_URL_STS and --endpoint-url is not for the exchange that comes first: see stsAt.

import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'tap'
import { BIN } from '../cli/dotfly.ts'
import { NODE, ROOT, startInit } from '../init/support.ts'
import { stsAt } from '../parties/support.ts'
import { mockFor } from './mock.ts'

const AWS = '/usr/bin/aws'
const skip = !ROOT
  ? 'needs root, for a PID namespace'
  : existsSync(AWS)
    ? false
    : `${AWS} is not installed: apt-get install awscli`

test('AWS’s command line finds the token file of init, and runs dotfly token for keys', { skip }, async (t) => {
  const { dir, mock } = await mockFor(t)
  const { sts, s3, machines } = mock.file
  const [machine] = machines
  const home = join(dir, 'home')
  stsAt(home, sts!.url)
  const token = `${[...NODE, BIN].join(' ')} token --format aws-credential-process --socket`
  const script = join(dir, 'script')
  writeFileSync(
    script,
    `set -e
${AWS} sts get-caller-identity --query Arn --output text
${AWS} s3 cp s3://${s3!.object} - --endpoint-url ${s3!.url}
unset AWS_WEB_IDENTITY_TOKEN_FILE AWS_ROLE_SESSION_NAME
printf '[profile cat]\\ncredential_process = %s %s\\n' '${token}' "$1" >"$HOME/.aws/config"
${AWS} --profile cat sts get-caller-identity --query Arn --output text
${AWS} --profile cat s3 cp s3://${s3!.object} - --endpoint-url ${s3!.url}
if ${AWS} sts get-caller-identity 2>/dev/null; then echo "keys without a token"; fi
`,
  )
  const start = (role: string): ReturnType<typeof startInit> =>
    startInit(t, {
      flyd: machine!.flyd_url,
      macaroon: ['--macaroon-file', machine!.macaroon_file, '--socket', join(dir, 'api')],
      options: ['--token-dir', join(dir, 'fly')],
      env: {
        PATH: '/usr/bin:/bin',
        HOME: home,
        FLY_APP_NAME: 'weather-cat',
        FLY_MACHINE_ID: machine!.id,
        AWS_ROLE_ARN: role,
        AWS_REGION: 'us-east-1',
        AWS_PAGER: '',
        AWS_EC2_METADATA_DISABLED: 'true',
        // For dotfly token, which is as new as it should be.
        AWS_ENDPOINT_URL_STS: sts!.url,
      },
      command: ['sh', script, join(dir, 'api')],
    })
  const init = await start(sts!.role_arn)
  t.equal((await init.ended).code, 0, init.log())
  const who = `arn:aws:sts::123456789012:assumed-role/weather-cat/weather-cat-${machine!.id}`
  const what = 'meow, with a chance of rain'
  t.equal(init.out(), `${[who, what, who, what].join('\n')}\n`)

  const other = await start('arn:aws:iam::123456789012:role/dog')
  t.not((await other.ended).code, 0, 'a role that does not trust this Machine')
  t.match(other.log(), /\(AccessDenied\) when calling the AssumeRoleWithWebIdentity operation/)
})
