// Google Cloud on the wire: token exchange and generateAccessToken, what passes and every way not to.

import { test } from 'tap'
import type { Test } from 'tap'
import { startGcp } from '../../src/parties/gcp/gcp.ts'
import type { Gcp } from '../../src/parties/gcp/gcp.ts'
import { parseProject, SEED_ACCOUNT, SEED_PROVIDER, seedProject } from '../../src/parties/gcp/pool.ts'
import type { Project } from '../../src/parties/gcp/pool.ts'
import { needRecord } from '../../src/parties/shape.ts'
import { forge, makeKey, seconds, startTestIssuer } from './support.ts'
import type { TestIssuer } from './support.ts'

const FLY = 'https://oidc.fly.io'
const ISS = `${FLY}/example`
const AUDIENCE = `//iam.googleapis.com/${SEED_PROVIDER}`
const POOL = `iam.googleapis.com/${SEED_PROVIDER.replace(/\/providers.*/, '')}`

type Answer = { status: number; body: Record<string, unknown> }

interface World {
  readonly issuer: TestIssuer
  readonly gcp: Gcp
  readonly clock: { now: number }
  readonly sign: (claims?: object, header?: object) => Promise<string>
  readonly exchange: (form?: Record<string, string | undefined>) => Promise<Answer>
  readonly generate: (token: string, body?: object, email?: string) => Promise<Answer>
}

async function start(t: Test, project: Project = seedProject(ISS)): Promise<World> {
  const issuer = await startTestIssuer(FLY)
  const clock = { now: Date.now() }
  const gcp = await startGcp({ project, reach: { via: { [FLY]: issuer.url }, patience: 400 }, now: () => clock.now })
  t.teardown(() => Promise.all([issuer.close(), gcp.close()]))
  const sign: World['sign'] = (claims, header) => issuer.sign({ aud: AUDIENCE, ...claims }, header)
  const read = async (response: Response): Promise<Answer> => ({
    status: response.status,
    body: needRecord(await response.json(), 'answer'),
  })
  return {
    issuer,
    gcp,
    clock,
    sign,
    exchange: async (form = {}) => {
      const full = { ...FORM, subject_token: await sign(), ...form }
      const given = Object.entries(full).filter((pair): pair is [string, string] => pair[1] !== undefined)
      return read(await fetch(`${gcp.url}/v1/token`, { method: 'POST', body: new URLSearchParams(given) }))
    },
    generate: async (
      token,
      body = { scope: ['https://www.googleapis.com/auth/cloud-platform'] },
      email = SEED_ACCOUNT,
    ) =>
      read(
        await fetch(`${gcp.url}/v1/projects/-/serviceAccounts/${email}:generateAccessToken`, {
          method: 'POST',
          headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
          body: JSON.stringify(body),
        }),
      ),
  }
}

const FORM = {
  grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
  audience: AUDIENCE,
  scope: 'https://www.googleapis.com/auth/cloud-platform',
  requested_token_type: 'urn:ietf:params:oauth:token-type:access_token',
  subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
}

const provider = (over: object): Project =>
  parseProject({
    providers: [
      { name: SEED_PROVIDER, issuer: ISS, attribute_mapping: { 'google.subject': 'assertion.sub' }, ...over },
    ],
  })

const refused = (error: string, error_description?: string | RegExp): object => ({
  status: 400,
  body: { error, ...(error_description === undefined ? {} : { error_description }) },
})

test('a Machine of the app becomes the service account', async (t) => {
  const { exchange, generate, gcp, clock } = await start(t)
  const federated = await exchange()
  t.match(federated, {
    status: 200,
    body: {
      access_token: /^ya29\.d\./,
      issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
      token_type: 'Bearer',
      expires_in: 3599,
    },
  })
  const token = String(federated.body['access_token'])
  t.equal(gcp.principal(token), `principal://${POOL}/subject/example:weather-cat:ancient-snow-4824`)
  const own = await generate(token)
  t.match(own, { status: 200, body: { accessToken: /^ya29\.c\./, expireTime: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/ } })
  const accessToken = String(own.body['accessToken'])
  t.equal(gcp.principal(accessToken), SEED_ACCOUNT)
  t.equal(gcp.principal('ya29.c.none'), undefined)
  clock.now += 3_600_000
  t.equal(gcp.principal(accessToken), undefined, 'they expire')
  t.match(await generate(token), { status: 401, body: { error: { code: 401, status: 'UNAUTHENTICATED' } } })
})

test('forms of a request', async (t) => {
  const { exchange, gcp, sign } = await start(t)
  t.equal((await exchange({ audience: `https:${AUDIENCE}` })).status, 200)
  t.equal((await exchange({ subject_token: await sign({ aud: `https:${AUDIENCE}` }) })).status, 200)
  t.equal((await exchange({ subject_token_type: 'urn:ietf:params:oauth:token-type:id_token' })).status, 200)
  const json = async (body: string): Promise<number> =>
    (await fetch(`${gcp.url}/v1/token`, { method: 'POST', headers: { 'content-type': 'application/json' }, body }))
      .status
  const camel = { ...FORM, subject_token: await sign() }
  t.equal(await json(JSON.stringify(camel)), 200)
  t.equal(
    await json(
      JSON.stringify(
        Object.fromEntries(
          Object.entries(camel).map(([name, value]) => [
            name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase()),
            value,
          ]),
        ),
      ),
    ),
    200,
  )
  t.equal(await json('{'), 400)
  t.equal((await fetch(`${gcp.url}/v1/token`)).status, 404)
  t.equal((await fetch(`${gcp.url}/v1/other`, { method: 'POST' })).status, 404)
})

test('each error of a request', async (t) => {
  const { exchange, gcp } = await start(t)
  t.match(await exchange({ grant_type: 'client_credentials' }), refused('unsupported_grant_type'))
  t.match(await exchange({ requested_token_type: 'x' }), refused('invalid_request'))
  t.match(await exchange({ subject_token_type: 'urn:ietf:params:oauth:token-type:saml2' }), refused('invalid_request'))
  for (const audience of [
    undefined,
    'x',
    SEED_PROVIDER,
    `${AUDIENCE}/`,
    `http:${AUDIENCE}`,
    AUDIENCE.replace(/\/providers.*/, ''),
  ]) {
    t.match(
      await exchange({ audience }),
      refused('invalid_request', /^Invalid value for "audience"\. This value should be the full resource name/),
      `${audience}`,
    )
  }
  t.match(await exchange({ scope: undefined }), refused('invalid_request'))
  t.match(await exchange({ subject_token: undefined }), refused('invalid_request'))
  t.match(
    await exchange({ audience: `${AUDIENCE}-none` }),
    refused('invalid_target', /^The target service indicated by the "audience" parameters is invalid/),
  )
  const disabled = await start(t, provider({ disabled: true }))
  t.match(await disabled.exchange(), refused('invalid_target'))
  const authorised = await fetch(`${gcp.url}/v1/token`, {
    method: 'POST',
    headers: { authorization: 'Bearer x' },
    body: new URLSearchParams(FORM),
  })
  t.match(await authorised.json(), { error: 'invalid_request' })
})

test('each error of a token', async (t) => {
  const { exchange, sign, issuer } = await start(t)
  const now = seconds()
  const other = await makeKey('key-1')
  for (const [name, subject_token] of Object.entries({
    'no JWT': 'x',
    'another issuer': await sign({ iss: `${FLY}/other` }),
    'a trailing slash': await sign({ iss: `${ISS}/` }),
    'alg none': forge({ alg: 'none', kid: 'key-1' }, { iss: ISS, aud: AUDIENCE, sub: 'x', iat: now, exp: now + 60 }),
    'a foreign key': await issuer.sign({ aud: AUDIENCE }, {}, other.privateKey),
    RS512: await sign({}, { alg: 'RS512' }),
    'an unknown kid': await sign({}, { kid: 'x' }),
    expired: await sign({ exp: now - 120, iat: now - 600 }),
    'of the future': await sign({ nbf: now + 300 }),
    'no exp': await sign({ exp: undefined }),
    'a float': await sign({ iat: now - 0.5 }),
    'a day and more': await sign({ exp: now + 86_460 }),
    'no audience': await sign({ aud: undefined }),
    'the audience of AWS': await sign({ aud: 'sts.amazonaws.com' }),
  })) {
    t.match(await exchange({ subject_token }), refused('invalid_grant'), name)
  }
  t.equal(
    (await exchange({ subject_token: await sign({ aud: ['x', AUDIENCE] }) })).status,
    200,
    'one of several audiences',
  )
  issuer.keys = (_, response) => void response.writeHead(500).end()
  t.match(await exchange(), refused('invalid_grant', "Error connecting to the given credential's issuer."))
})

test('audiences of one’s own replace the default', async (t) => {
  const { exchange, sign } = await start(t, provider({ allowed_audiences: ['mine'] }))
  t.match(await exchange(), refused('invalid_grant'))
  t.equal((await exchange({ subject_token: await sign({ aud: 'mine' }) })).status, 200)
})

test('mapping', async (t) => {
  const long = 'm'.repeat(63)
  const { exchange, sign } = await start(t, provider({}))
  const at = (length: number): Promise<string> => sign({ sub: `example:${long}:`.padEnd(length, 'x') })
  t.equal((await exchange({ subject_token: await at(127) })).status, 200, '127 bytes')
  t.match(await exchange({ subject_token: await at(128) }), refused('invalid_request', /exceeds the 127 bytes limit/))
  t.match(
    await exchange({ subject_token: await sign({ sub: 'ü'.repeat(64) }) }),
    refused('invalid_request', /127 bytes/),
    'bytes, not characters',
  )
  t.match(await exchange({ subject_token: await sign({ sub: undefined }) }), refused('invalid_request'))
  t.match(await exchange({ subject_token: await sign({ sub: '' }) }), refused('invalid_request'))
  t.match(await exchange({ subject_token: await sign({ sub: 7 }) }), refused('invalid_request'))
  const shorter = await start(t, provider({ attribute_mapping: { 'google.subject': 'assertion.machine_id' } }))
  t.equal((await shorter.exchange({ subject_token: await at(128) })).status, 200, 'the way out of a long sub')
  const groups = await start(
    t,
    provider({ attribute_mapping: { 'google.subject': 'assertion.sub', 'google.groups': 'assertion.groups' } }),
  )
  t.equal((await groups.exchange({ subject_token: await groups.sign({ groups: ['a'] }) })).status, 200)
  t.match(await groups.exchange({ subject_token: await groups.sign({ groups: 'a' }) }), refused('invalid_request'))
  const number = await start(
    t,
    provider({ attribute_mapping: { 'google.subject': 'assertion.sub', 'attribute.iat': 'assertion.iat' } }),
  )
  t.match(await number.exchange(), refused('invalid_request', /must be of type STRING/))
})

test('conditions: the three scopes of the seed', async (t) => {
  const closed = refused('unauthorized_client', 'The given credential is rejected by the attribute condition.')
  for (const [attribute_condition, good, bad] of [
    ['assertion.org_name == "example"', { org_name: 'example' }, { org_name: 'evil' }],
    ['google.subject.startsWith("example:weather-cat:")', {}, { sub: 'example:weather-cat-evil:m' }],
    ['assertion.sub == "example:weather-cat:ancient-snow-4824"', {}, { sub: 'example:weather-cat:ancient-snow-48240' }],
    ['attribute.app in ["weather-cat", "api"]', {}, { app_name: 'other' }],
    ['attribute.app == "weather-cat"', {}, { app_name: undefined }],
    ['"admin" in google.groups || true', {}, undefined],
  ] as const) {
    const { exchange, sign } = await start(
      t,
      provider({
        attribute_condition,
        attribute_mapping: { 'google.subject': 'assertion.sub', 'attribute.app': 'assertion.app_name' },
      }),
    )
    t.equal((await exchange({ subject_token: await sign(good) })).status, 200, attribute_condition)
    if (bad !== undefined) t.match(await exchange({ subject_token: await sign(bad) }), closed, JSON.stringify(bad))
  }
  const { exchange } = await start(t, provider({ attribute_condition: 'assertion.org_name' }))
  t.match(await exchange(), closed, 'a condition that is not a boolean')
})

test('who may act as a service account', async (t) => {
  for (const [member, status] of [
    [`principal://${POOL}/subject/example:weather-cat:ancient-snow-4824`, 200],
    [`principal://${POOL}/subject/example:weather-cat:ancient-snow-48240`, 403],
    [`principalSet://${POOL}/attribute.app/weather-cat`, 200],
    [`principalSet://${POOL}/attribute.app/weather`, 403],
    [`principalSet://${POOL}/group/g`, 200],
    [`principalSet://${POOL}/*`, 200],
    [`principalSet://${POOL}-other/*`, 403],
    ['serviceAccount:x@y', 403],
  ] as const) {
    const { exchange, generate, sign } = await start(
      t,
      parseProject({
        providers: [
          {
            name: SEED_PROVIDER,
            issuer: ISS,
            attribute_mapping: {
              'google.subject': 'assertion.sub',
              'attribute.app': 'assertion.app_name',
              'google.groups': 'assertion.groups',
            },
          },
        ],
        service_accounts: [{ email: SEED_ACCOUNT, members: [member] }],
      }),
    )
    const { body } = await exchange({ subject_token: await sign({ groups: ['g'] }) })
    t.equal((await generate(String(body['access_token']))).status, status, member)
  }
})

test('each error of generateAccessToken', async (t) => {
  const { exchange, generate, gcp } = await start(t)
  const token = String((await exchange()).body['access_token'])
  const scope = ['https://www.googleapis.com/auth/cloud-platform']
  t.match(await generate('x'), { status: 401, body: { error: { code: 401, status: 'UNAUTHENTICATED' } } })
  t.match(await generate(token, {}), { status: 400, body: { error: { status: 'INVALID_ARGUMENT' } } })
  t.match(await generate(token, { scope: 'x' }), { status: 400 })
  for (const lifetime of ['3601s', '0s', '1h', 3600])
    t.match(await generate(token, { scope, lifetime }), { status: 400 }, `${lifetime}`)
  t.equal((await generate(token, { scope, lifetime: '300s' })).status, 200)
  t.match(await generate(token, { scope }, 'nobody@example.iam.gserviceaccount.com'), {
    status: 403,
    body: {
      error: {
        code: 403,
        message: "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).",
        status: 'PERMISSION_DENIED',
        details: [{ reason: 'IAM_PERMISSION_DENIED' }],
      },
    },
  })
  const own = String((await generate(token)).body['accessToken'])
  t.equal((await generate(own)).status, 403, 'a service account is no member')
  const url = `${gcp.url}/v1/projects/-/serviceAccounts/${SEED_ACCOUNT}:generateAccessToken`
  t.equal((await fetch(url)).status, 404)
  t.equal((await fetch(url, { method: 'POST', headers: { authorization: `Bearer ${token}` }, body: '{' })).status, 400)
  t.equal((await fetch(url, { method: 'POST' })).status, 401)
})

test('a file of providers is read strictly', async (t) => {
  const mapping = { 'google.subject': 'assertion.sub' }
  for (const [name, over] of Object.entries({
    'a misspelt condition': { atribute_condition: 'true' },
    'no subject': { attribute_mapping: {} },
    'a target that is none': { attribute_mapping: { ...mapping, 'google.name': 'assertion.x' } },
    'a mapping of another name': { attribute_mapping: { 'google.subject': 'attribute.x' } },
    'an issuer with a port': { issuer: 'https://oidc.fly.io:8443/x' },
    'an issuer with a slash': { issuer: `${ISS}/` },
    'a short name': { name: 'fly' },
    'an empty condition': { attribute_condition: '' },
    'a condition out of reach': { attribute_condition: 'assertion.sub.matches("x")' },
    'disabled by a word': { disabled: 'yes' },
    'too many attributes': {
      attribute_mapping: {
        ...mapping,
        ...Object.fromEntries(Array.from({ length: 52 }, (_, index) => [`attribute.a${index}`, 'assertion.sub'])),
      },
    },
  })) {
    t.throws(() => provider(over), { name: 'ConfigError' }, name)
  }
  t.throws(() => parseProject({ service_accounts: [{ email: 'x', members: [] }] }), { name: 'ConfigError' })
})
