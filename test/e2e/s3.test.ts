// "Read from S3 without keys": mock, init, and a program with AWS's own SDK that knows of none of it.

import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'tap'
import { NODE, ROOT, startInit } from '../init/support.ts'
import { mockFor } from './mock.ts'

const skip = ROOT ? false : 'needs root, for a PID namespace'
const GUEST = fileURLToPath(new URL('../parties/guest/aws.ts', import.meta.url))

test('a program reads its object from S3 with AWS_ROLE_ARN and AWS_REGION alone', { skip }, async (t) => {
  const { dir, mock } = await mockFor(t)
  const { sts, s3, machines } = mock.file
  const [machine] = machines
  const start = (role: string): ReturnType<typeof startInit> =>
    startInit(t, {
      flyd: machine!.flyd_url,
      macaroon: ['--macaroon-file', machine!.macaroon_file],
      options: ['--token-dir', join(dir, 'fly'), '--user', '4242'],
      env: {
        PATH: '/usr/bin:/bin',
        AWS_ROLE_ARN: role,
        AWS_REGION: 'us-east-1',
        AWS_ENDPOINT_URL_STS: sts!.url,
        AWS_ENDPOINT_URL_S3: s3!.url,
      },
      command: [...NODE, GUEST, 'once'],
    })
  const init = await start(sts!.role_arn)
  t.equal((await init.ended).code, 0, init.log())
  t.equal(JSON.parse(init.out()), 'meow, with a chance of rain\n')
  t.equal(statSync(join(dir, 'fly/oidc_token')).uid, 4242)
  t.notMatch(init.log(), /eyJ/, 'no token is ever said')

  const other = await start('arn:aws:iam::123456789012:role/dog')
  await other.ended
  t.match(JSON.parse(other.out()), { name: 'AccessDenied' }, 'and a role that does not trust it does not')
  t.ok(existsSync(join(dir, 'fly/oidc_token')))
})
