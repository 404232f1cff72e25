import { test } from 'tap'
import { aws, sessionName } from '../../src/identity/aws.ts'
import type { Variables } from '../../src/identity/cloud.ts'
import { parseTokenFile } from '../../src/identity/custom.ts'
import { arrange } from '../../src/identity/keeper.ts'
import { identityOptions, parseDuration } from '../../src/identity/options.ts'

const GROUND = { directory: '/.fly', awsPrincipalTags: false }
const plan = (env: Variables, words = {}): ReturnType<typeof arrange> =>
  arrange(env, identityOptions(words, env, '/api'))
const ROLE = 'arn:aws:iam::123456789012:role/weather-cat'
const AZURE = { AZURE_CLIENT_ID: '11111111-2222-4333-8444-555555555555', AZURE_TENANT_ID: 'tenant.example' }
const PROVIDER = 'projects/1/locations/global/workloadIdentityPools/pool/providers/prov'

test('AWS: the variables of Fly’s own init', async (t) => {
  const { env, files } = plan({ AWS_ROLE_ARN: ROLE, FLY_APP_NAME: 'weather-cat', FLY_MACHINE_ID: '4d8923a1b2c3d4' })
  t.strictSame(env, {
    AWS_WEB_IDENTITY_TOKEN_FILE: '/.fly/oidc_token',
    AWS_ROLE_SESSION_NAME: 'weather-cat-4d8923a1b2c3d4',
  })
  t.match(files, [{ path: '/.fly/oidc_token', audience: 'sts.amazonaws.com', mode: 0o600, format: 'raw' }])
})

test('AWS: what the user set is never overridden, and it is said', async (t) => {
  const code = (env: Variables): string[] => aws({ AWS_ROLE_ARN: ROLE, ...env }, GROUND).notices.map((one) => one.code)
  const theirs = aws({ AWS_ROLE_ARN: ROLE, AWS_WEB_IDENTITY_TOKEN_FILE: '/mine', AWS_ROLE_SESSION_NAME: 'me' }, GROUND)
  t.match(theirs, { env: {}, files: [], notices: [{ code: 'VARIABLE_KEPT', variable: 'AWS_WEB_IDENTITY_TOKEN_FILE' }] })
  const same = aws({ AWS_ROLE_ARN: ROLE, AWS_WEB_IDENTITY_TOKEN_FILE: '/.fly/oidc_token' }, GROUND)
  t.match(same, { files: [{ path: '/.fly/oidc_token' }], notices: [] }, 'set to the very file: it is kept fresh')
  t.notOk('AWS_WEB_IDENTITY_TOKEN_FILE' in same.env)
  t.strictSame(code({ AWS_ACCESS_KEY_ID: 'AKIA' }), ['STATIC_KEYS_WIN'])
  t.strictSame(code({ AWS_PROFILE: 'x' }), ['PROFILE_MAY_WIN'])
  t.strictSame(code({ AWS_ROLE_SESSION_NAME: 'x' }), ['SESSION_NAME_INVALID'])
  t.strictSame(code({ AWS_ACCESS_KEY_ID: '' }), [], 'empty is not set')
})

test('AWS: role ARNs of every partition, and the ones that STS would refuse', async (t) => {
  const problem = (AWS_ROLE_ARN: string): string | undefined => aws({ AWS_ROLE_ARN }, GROUND).problems[0]?.code
  for (const arn of [
    ROLE,
    'arn:aws-us-gov:iam::123456789012:role/a',
    'arn:aws-cn:iam::123456789012:role/path/to/a+=,.@-_',
    'arn:aws-iso-b:iam::123456789012:role/a',
  ])
    t.equal(problem(arn), undefined, arn)
  for (const arn of [`${ROLE}\n`, ` ${ROLE}`]) t.equal(problem(arn), 'ROLE_ARN_BLANKS')
  for (const arn of [
    'weather-cat',
    'arn:aws:iam::123:role/a',
    'arn:aws:iam::123456789012:user/a',
    'arn:aws:iam::123456789012:role/',
    `arn:aws:iam::123456789012:role/${'a'.repeat(65)}`,
    'arn:aws:iam::123456789012:role/a b',
    `arn:aws:iam::123456789012:role/${'a/'.repeat(1200)}a`,
  ])
    t.equal(problem(arn), 'ROLE_ARN_MALFORMED', arn.slice(0, 60))
})

test('AWS: a session name that STS takes, whatever the names are', async (t) => {
  const rule = /^[\w+=,.@-]{2,64}$/
  for (const [app, machine] of [
    ['', ''],
    ['a', ''],
    ['', 'b'],
    ['app with blanks', 'é'],
    ['a'.repeat(200), 'b'.repeat(14)],
    ['a', 'b'.repeat(200)],
  ] as const) {
    const name = sessionName({ FLY_APP_NAME: app, FLY_MACHINE_ID: machine })
    t.match(name, rule, name)
    if (machine.length === 14) t.ok(name.endsWith(machine), 'the Machine is never cut')
  }
})

test('GCP: credentials of type external_account, by any spelling of the provider', async (t) => {
  for (const prefix of ['', '//iam.googleapis.com/', 'https://iam.googleapis.com/']) {
    const made = plan({
      GOOGLE_WORKLOAD_IDENTITY_PROVIDER: `${prefix}${PROVIDER}`,
      GOOGLE_SERVICE_ACCOUNT: 'cat@p.iam.gserviceaccount.com',
    })
    t.match(made.files, [{ audience: `//iam.googleapis.com/${PROVIDER}`, path: '/.fly/gcp_token' }])
    t.strictSame(made.env, { GOOGLE_APPLICATION_CREDENTIALS: '/.fly/gcp_credentials.json' })
    t.match(JSON.parse(made.settings[0]?.text ?? ''), {
      type: 'external_account',
      audience: `//iam.googleapis.com/${PROVIDER}`,
      credential_source: { file: '/.fly/gcp_token', format: { type: 'text' } },
      service_account_impersonation_url: /serviceAccounts\/cat@p\.iam\.gserviceaccount\.com:generateAccessToken$/,
    })
  }
  const kept = plan({ GOOGLE_WORKLOAD_IDENTITY_PROVIDER: PROVIDER, GOOGLE_APPLICATION_CREDENTIALS: '/key.json' })
  t.match(kept, { env: {}, files: [], settings: [], notices: [{ code: 'VARIABLE_KEPT' }] })
  t.match(plan({ GOOGLE_WORKLOAD_IDENTITY_PROVIDER: 'pool' }).problems, [{ code: 'PROVIDER_MALFORMED' }])
  t.match(plan({ GOOGLE_WORKLOAD_IDENTITY_PROVIDER: PROVIDER, GOOGLE_SERVICE_ACCOUNT: 'x' }).problems, [
    { code: 'SERVICE_ACCOUNT_MALFORMED' },
  ])
})

test('Azure: the audience of each sovereign cloud', async (t) => {
  const made = plan(AZURE)
  t.strictSame(made.env, {
    AZURE_FEDERATED_TOKEN_FILE: '/.fly/azure_token',
    AZURE_AUTHORITY_HOST: 'https://login.microsoftonline.com/',
  })
  t.equal(made.files[0]?.audience, 'api://AzureADTokenExchange')
  const us = plan({ ...AZURE, AZURE_AUTHORITY_HOST: 'https://login.microsoftonline.us/' })
  t.equal(us.files[0]?.audience, 'api://AzureADTokenExchangeUSGov')
  t.notOk('AZURE_AUTHORITY_HOST' in us.env)
  t.match(plan({ ...AZURE, AZURE_CLIENT_SECRET: 's' }).notices, [{ code: 'STATIC_KEYS_WIN' }])
  t.match(plan({ ...AZURE, AZURE_FEDERATED_TOKEN_FILE: '/x' }), { files: [], notices: [{ code: 'VARIABLE_KEPT' }] })
  t.match(plan({ ...AZURE, AZURE_CLIENT_ID: 'x' }).problems, [{ code: 'CLIENT_ID_MALFORMED' }])
  t.match(plan({ ...AZURE, AZURE_TENANT_ID: 'a b' }).problems, [{ code: 'TENANT_ID_MALFORMED' }])
  t.strictSame(plan({ AZURE_CLIENT_ID: 'managed identity' }).problems, [])
})

test('Anthropic: rule and organization', async (t) => {
  const env = { ANTHROPIC_FEDERATION_RULE_ID: 'fdrl_x', ANTHROPIC_ORGANIZATION_ID: 'org' }
  t.match(plan(env), {
    env: { ANTHROPIC_IDENTITY_TOKEN_FILE: '/.fly/anthropic_token' },
    files: [{ audience: 'https://api.anthropic.com' }],
  })
  t.match(plan({ ...env, ANTHROPIC_IDENTITY_TOKEN_AUDIENCE: 'mine' }).files, [{ audience: 'mine' }])
  t.match(plan({ ...env, ANTHROPIC_IDENTITY_TOKEN_AUDIENCE: 'a'.repeat(513) }).problems, [{ code: 'AUDIENCE_INVALID' }])
  t.match(plan({ ...env, ANTHROPIC_PROFILE: 'me' }).notices, [{ code: 'PROFILE_MAY_WIN' }])
  t.match(plan({ ANTHROPIC_FEDERATION_RULE_ID: 'x' }).problems, [{ code: 'ORGANIZATION_MISSING' }])
  t.match(plan({ ...env, ANTHROPIC_API_KEY: 'sk' }).notices, [
    { code: 'STATIC_KEYS_WIN', variable: 'ANTHROPIC_API_KEY' },
  ])
})

test('two tokens in one file are refused', async (t) => {
  const made = plan({ AWS_ROLE_ARN: ROLE }, { tokenFile: ['/.fly/oidc_token,aud=x'] })
  t.match(made, { files: [{ cloud: 'aws' }], problems: [{ code: 'PATH_TWICE', variable: '/.fly/oidc_token' }] })
})

test('--token-file: PATH,aud=… and four settings', async (t) => {
  t.strictSame(parseTokenFile('/run/t,aud=https://v.example,uid=0,gid=7,mode=440,format=json'), {
    cloud: 'custom',
    path: '/run/t',
    mode: 0o440,
    uid: 0,
    gid: 7,
    audience: 'https://v.example',
    format: 'json',
  })
  for (const [word, says] of Object.entries({
    't,aud=x': /from \/ on/,
    '/run/,aud=x': /from \/ on/,
    '/run/t': /write aud=AUDIENCE/,
    '/run/t,aud=': /aud has no value/,
    '/run/t,aud=a,aud=b': /given twice/,
    '/run/t,aud=a,user=b': /unknown setting user=b/,
    '/run/t,aud=a,uid=app': /not a number/,
    '/run/t,aud=a,uid=4294967295': /not a number/,
    '/run/t,aud=a,mode=0666': /let others read at most/,
    '/run/t,aud=a,mode=abc': /three octal digits/,
    '/run/t,aud=a,format=xml': /not raw or json/,
    [`/run/t,aud=${'é'.repeat(257)}`]: /audience is 514 bytes long: 512 is the most/,
    '/run/t,aud=a\nb': /not plain text/,
  }))
    t.throws(() => parseTokenFile(word), { name: 'UsageError', message: says }, word.slice(0, 40))
})

test('options from words, from variables, and by default', async (t) => {
  t.match(identityOptions({}, {}, '/api'), {
    directory: '/.fly',
    files: [],
    wait: { limit: 10_000, otherwise: 'fail' },
  })
  const env = {
    DOTFLY_TOKEN_DIR: '/run/x',
    DOTFLY_TOKEN_FILE: '/a,aud=x; /b,aud=y',
    DOTFLY_WAIT_TOKEN: '1.5s,continue',
    DOTFLY_AWS_PRINCIPAL_TAGS: '1',
  }
  t.match(identityOptions({}, env, '/api', { uid: 5, gid: 6 }), {
    directory: '/run/x',
    files: [{ path: '/a' }, { path: '/b' }],
    wait: { limit: 1500, otherwise: 'continue' },
    awsPrincipalTags: true,
    owner: { uid: 5, gid: 6 },
  })
  t.throws(() => identityOptions({ tokenDir: 'x' }, {}, '/api'), { name: 'UsageError' })
  for (const wait of ['', 'x', '10s,stop', '10s,fail,x', '2h', '7200s', '-1'])
    t.throws(() => identityOptions({ waitToken: wait }, {}, '/api'), { name: 'UsageError' }, wait)
  t.strictSame(['10', '10s', '500ms', '2m', '0'].map(parseDuration), [10_000, 10_000, 500, 120_000, 0])
  const owned = arrange(
    { AWS_ROLE_ARN: ROLE },
    identityOptions({ tokenFile: ['/a,aud=x', '/b,aud=y,uid=9'] }, {}, '/api', { uid: 5, gid: 6 }),
  )
  t.strictSame(
    owned.files.map(({ uid }) => uid),
    [5, 5, 9],
    'files are the program’s unless they name somebody',
  )
})
