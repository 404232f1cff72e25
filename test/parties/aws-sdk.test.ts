// AWS's own clients, unmodified, each in a process and an environment of its own: the seed's "read from S3 without keys".

import { mkdtemp, writeFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'tap'
import type { Test } from 'tap'
import { seedIam } from '../../src/parties/aws/iam.ts'
import { SEED_OBJECTS, startS3 } from '../../src/parties/aws/s3.ts'
import { Sessions } from '../../src/parties/aws/sessions.ts'
import { startSts } from '../../src/parties/aws/sts.ts'
import { needRecord } from '../../src/parties/shape.ts'
import { run, runGuest, startTestIssuer, stsAt } from './support.ts'
import type { Ran, TestIssuer } from './support.ts'

const FLY = 'https://oidc.fly.io'
const ROLE = 'arn:aws:iam::123456789012:role/weather-cat'

async function start(
  t: Test,
): Promise<{ issuer: TestIssuer; env: Record<string, string>; write: (token: string) => Promise<void> }> {
  const issuer = await startTestIssuer(FLY)
  const sessions = new Sessions()
  const sts = await startSts({ iam: seedIam(issuer.iss), sessions, reach: { via: { [FLY]: issuer.url } } })
  const s3 = await startS3({ sessions, objects: SEED_OBJECTS })
  const dir = await mkdtemp(join(tmpdir(), 'dotfly-aws-'))
  t.teardown(() => Promise.all([issuer.close(), sts.close(), s3.close(), rm(dir, { recursive: true })]))
  const file = join(dir, 'oidc_token')
  const write = (token: string): Promise<void> => writeFile(file, token)
  await write(await issuer.sign())
  const env = {
    // A home of its own: the command line keeps credentials of an earlier run under it, and uses them in the next.
    HOME: dir,
    // What dotfly init sets, and where the mocks are.
    AWS_ROLE_ARN: ROLE,
    AWS_WEB_IDENTITY_TOKEN_FILE: file,
    AWS_ROLE_SESSION_NAME: 'weather-cat-3d8d377ce9e398',
    AWS_REGION: 'us-east-1',
    AWS_ENDPOINT_URL_STS: sts.url,
    AWS_ENDPOINT_URL_S3: s3.url,
    AWS_EC2_METADATA_DISABLED: 'true',
    AWS_CONFIG_FILE: '/nonexistent/config',
    AWS_SHARED_CREDENTIALS_FILE: '/nonexistent/credentials',
  }
  return { issuer, env, write }
}

const GUEST = new URL('./guest/aws.ts', import.meta.url)

const parse = (t: Test, ran: Ran): Record<string, unknown> => {
  t.equal(ran.code, 0, ran.err)
  return needRecord(JSON.parse(ran.out), 'what the script printed')
}

test('@aws-sdk: the default chain, fromTokenFile and GetCallerIdentity', async (t) => {
  const { env } = await start(t)
  const got = parse(t, await runGuest(GUEST, 'read', env))
  t.match(got, {
    default: 'meow, with a chance of rain\n',
    chain: 'meow, with a chance of rain\n',
    file: 'meow, with a chance of rain\n',
    who: {
      Arn: 'arn:aws:sts::123456789012:assumed-role/weather-cat/weather-cat-3d8d377ce9e398',
      Account: '123456789012',
    },
    missing: { name: 'AccessDenied', $metadata: { httpStatusCode: 403 } },
  })
  const left = Date.parse(String(got['expires'])) - Date.now()
  t.ok(left > 3_500_000 && left <= 3_600_000, 'an hour')
})

test('@aws-sdk: each refusal comes out as the SDK documents it', async (t) => {
  const { issuer, env, write } = await start(t)
  const now = Math.floor(Date.now() / 1000)
  for (const [claims, expected] of [
    [{ exp: now - 1 }, { name: 'ExpiredTokenException', $metadata: { httpStatusCode: 400 } }],
    [
      { aud: 'other' },
      {
        name: 'InvalidIdentityTokenException',
        message: 'Incorrect token audience',
        $metadata: { httpStatusCode: 400 },
      },
    ],
    [
      { sub: 'example:other:m' },
      { message: 'Not authorized to perform sts:AssumeRoleWithWebIdentity', $metadata: { httpStatusCode: 403 } },
    ],
  ] as const) {
    await write(await issuer.sign(claims))
    const got = parse(t, await runGuest(GUEST, 'once', env))
    // Newer SDKs name some errors by their shape, older ones by their wire code.
    t.match(
      { ...got, name: String(got['name']).replace(/^InvalidIdentityToken$/, 'InvalidIdentityTokenException') },
      expected,
    )
  }
})

test('@aws-sdk: a session narrowed by a policy, and one with tags', async (t) => {
  const { issuer, env } = await start(t)
  const TOKEN = await issuer.sign({
    'https://aws.amazon.com/tags': { principal_tags: { app_name: ['weather-cat'] }, transitive_tag_keys: ['app_name'] },
  })
  const got = parse(t, await runGuest(GUEST, 'narrowed', { ...env, TOKEN }))
  t.match(got, {
    wide: 'meow, with a chance of rain\n',
    narrow: { name: 'AccessDenied' },
    tag: 'meow, with a chance of rain\n',
    none: { name: 'AccessDenied' },
  })
})

test('@aws-sdk: asks again when the issuer could not be reached', async (t) => {
  const { issuer, env } = await start(t)
  const { discovery } = issuer
  issuer.discovery = (request) => {
    issuer.discovery = discovery
    request.socket.destroy()
  }
  t.same(parse(t, await runGuest(GUEST, 'retry', env)), { read: 'meow, with a chance of rain\n' })
  t.equal(issuer.asked.length, 3, 'once in vain, and then discovery and keys')
})

// pyenv's and other shims look for their own things under HOME.
const found = await run('aws', ['--version'], { HOME: process.env['HOME'] ?? '/' })
  .then(({ code, out, err }) => (code === 0 ? `${out}${err}`.trim() : undefined))
  .catch(() => undefined)
const skip = found === undefined ? 'aws is not installed: nothing was tested against it' : false

test(`AWS's command line: ${found ?? 'none'}`, { skip }, async (t) => {
  const { env } = await start(t)
  const { HOME = '', AWS_ENDPOINT_URL_STS: sts = '', AWS_ENDPOINT_URL_S3: s3 = '' } = env
  stsAt(HOME, sts)
  const aws = (...args: string[]): Promise<Ran> =>
    run('aws', args, { ...env, AWS_DEFAULT_REGION: 'us-east-1', AWS_PAGER: '' })
  const who = await aws('sts', 'get-caller-identity', '--output', 'json')
  t.equal(who.code, 0, who.err)
  t.match(JSON.parse(who.out), { Arn: 'arn:aws:sts::123456789012:assumed-role/weather-cat/weather-cat-3d8d377ce9e398' })
  const object = await aws('s3', 'cp', 's3://weather-cat/forecast.txt', '-', '--endpoint-url', s3)
  t.equal(object.code, 0, object.err)
  t.equal(object.out, 'meow, with a chance of rain\n')
  // Left alone, it still signs URLs for this region in the way before last, which is not modelled.
  const config = join(HOME, 'config')
  await writeFile(config, '[default]\ns3 =\n    signature_version = s3v4\n')
  const signed = await run('aws', ['s3', 'presign', 's3://weather-cat/forecast.txt', '--endpoint-url', s3], {
    ...env,
    AWS_DEFAULT_REGION: 'us-east-1',
    AWS_CONFIG_FILE: config,
  })
  t.equal(signed.code, 0, signed.err)
  t.equal(
    await (await fetch(signed.out.trim())).text(),
    'meow, with a chance of rain\n',
    'a presigned URL, made by botocore',
  )
})
