// AWS STS on the wire: what passes, and every way not to.

import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'tap'
import type { Test } from 'tap'
import { parseIam, providerArn, seedIam } from '../../src/parties/aws/iam.ts'
import { matches } from '../../src/parties/aws/pattern.ts'
import { Sessions } from '../../src/parties/aws/sessions.ts'
import { startSts } from '../../src/parties/aws/sts.ts'
import type { StsOptions } from '../../src/parties/aws/sts.ts'
import { fetchDocument, PATIENCE } from '../../src/parties/trust/reach.ts'
import { closedPort, flyClaims, forge, KEY, makeKey, seconds, startTestIssuer } from './support.ts'
import type { TestIssuer } from './support.ts'

const ROLE = 'arn:aws:iam::123456789012:role/weather-cat'
const FLY = 'https://oidc.fly.io'

interface Answer {
  readonly status: number
  readonly text: string
  readonly code: string | undefined
  readonly message: string | undefined
}

async function start(
  t: Test,
  options: Partial<StsOptions> = {},
): Promise<{ issuer: TestIssuer; ask: (form: Record<string, string>) => Promise<Answer>; url: string }> {
  const issuer = await startTestIssuer(FLY)
  t.teardown(() => issuer.close())
  const sts = await startSts({
    iam: seedIam(issuer.iss),
    sessions: new Sessions(),
    reach: { via: { [FLY]: issuer.url }, patience: 500 },
    ...options,
  })
  t.teardown(() => sts.close())
  const ask = async (form: Record<string, string>): Promise<Answer> => {
    const body = new URLSearchParams({
      Action: 'AssumeRoleWithWebIdentity',
      Version: '2011-06-15',
      RoleArn: ROLE,
      RoleSessionName: 'cat',
      ...form,
    })
    for (const [name, value] of Object.entries(form)) if (value === '-') body.delete(name)
    return read(await fetch(sts.url, { method: 'POST', body }))
  }
  return { issuer, ask, url: sts.url }
}

async function read(response: Response): Promise<Answer> {
  const text = await response.text()
  const one = (name: string): string | undefined =>
    new RegExp(`<${name}>([^<]*)</${name}>`).exec(text)?.[1]?.replaceAll('&apos;', "'")
  return { status: response.status, text, code: one('Code'), message: one('Message') }
}

/** A role whose trust policy is the seed's with another condition. */
const roleWith = (
  iss: string,
  condition: object,
  actions: string | string[] = 'sts:AssumeRoleWithWebIdentity',
  version = '2012-10-17',
): StsOptions['iam'] =>
  parseIam({
    providers: [{ url: iss, audiences: ['sts.amazonaws.com', 'other'] }],
    roles: [
      {
        arn: ROLE,
        trust: {
          Version: version,
          Statement: {
            Effect: 'Allow',
            Principal: { Federated: providerArn('123456789012', iss) },
            Action: actions,
            Condition: condition,
          },
        },
      },
    ],
  })

const ISS = `${FLY}/example`
const SUB = 'oidc.fly.io/example:sub'
const AUD = 'oidc.fly.io/example:aud'

test('a good token gets the credentials of the role', async (t) => {
  const { issuer, ask, url } = await start(t)
  const token = await issuer.sign()
  const answer = await ask({ WebIdentityToken: token })
  t.equal(answer.status, 200)
  t.match(
    answer.text,
    /^<AssumeRoleWithWebIdentityResponse xmlns="https:\/\/sts\.amazonaws\.com\/doc\/2011-06-15\/"><AssumeRoleWithWebIdentityResult>/,
  )
  t.match(
    answer.text,
    '<SubjectFromWebIdentityToken>example:weather-cat:ancient-snow-4824</SubjectFromWebIdentityToken>',
  )
  t.match(answer.text, '<Audience>sts.amazonaws.com</Audience>')
  t.match(answer.text, `<Provider>${ISS}</Provider>`)
  t.match(answer.text, '<Arn>arn:aws:sts::123456789012:assumed-role/weather-cat/cat</Arn>')
  t.match(answer.text, /<AssumedRoleId>AROA[A-Z2-7]{17}:cat<\/AssumedRoleId>/)
  t.match(answer.text, /<AccessKeyId>ASIA[A-Z2-7]{16}<\/AccessKeyId>/)
  t.match(answer.text, /<Expiration>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ<\/Expiration>/)
  const got = await read(
    await fetch(
      `${url}/?${new URLSearchParams({ Action: 'AssumeRoleWithWebIdentity', Version: '2011-06-15', RoleArn: ROLE, RoleSessionName: 'cat', WebIdentityToken: token })}`,
    ),
  )
  t.equal(got.status, 200, 'GET does as well')
})

test('the provider is its ARN where so configured', async (t) => {
  const { issuer, ask } = await start(t, { provider: 'arn' })
  t.match(
    (await ask({ WebIdentityToken: await issuer.sign() })).text,
    '<Provider>arn:aws:iam::123456789012:oidc-provider/oidc.fly.io/example</Provider>',
  )
})

test('the three scopes of the seed: each with a token that must and one that must not pass', async (t) => {
  for (const [pattern, good, bad] of [
    ['example:*', 'example:other-app:some-machine', 'example-evil:weather-cat:ancient-snow-4824'],
    ['example:weather-cat:*', 'example:weather-cat:other-machine-1', 'example:weather-cat-evil:ancient-snow-4824'],
    [
      'example:weather-cat:ancient-snow-4824',
      'example:weather-cat:ancient-snow-4824',
      'example:weather-cat:ancient-snow-48240',
    ],
  ] as const) {
    const { issuer, ask } = await start(t, { iam: roleWith(ISS, { StringLike: { [SUB]: pattern } }) })
    t.equal((await ask({ WebIdentityToken: await issuer.sign({ sub: good }) })).status, 200, `${pattern}: ${good}`)
    const refused = await ask({ WebIdentityToken: await issuer.sign({ sub: bad }) })
    t.same(
      [refused.status, refused.code, refused.message],
      [403, 'AccessDenied', 'Not authorized to perform sts:AssumeRoleWithWebIdentity'],
      bad,
    )
  }
})

test('conditions, as IAM has them', async (t) => {
  const sub = 'example:weather-cat:ancient-snow-4824'
  const cases: [name: string, condition: object, passes: boolean][] = [
    ['K08 StringEquals takes * as it is written', { StringEquals: { [SUB]: 'example:weather-cat:*' } }, false],
    ['StringEquals', { StringEquals: { [SUB]: sub } }, true],
    ['StringEquals has case', { StringEquals: { [SUB]: sub.toUpperCase() } }, false],
    ['StringEqualsIgnoreCase has none', { StringEqualsIgnoreCase: { [SUB]: sub.toUpperCase() } }, true],
    ['a key has no case', { StringEquals: { [SUB.toUpperCase()]: sub } }, true],
    ['one of several values', { StringEquals: { [SUB]: ['other', sub] } }, true],
    ['StringNotEquals', { StringNotEquals: { [SUB]: sub } }, false],
    ['StringNotEquals none of several', { StringNotEquals: { [SUB]: ['a', 'b'] } }, true],
    ['StringNotEquals on a missing key holds', { StringNotEquals: { 'oidc.fly.io/example:app_name': 'x' } }, true],
    ['? is exactly one', { StringLike: { [SUB]: 'example:weather-cat:ancient-snow-482?' } }, true],
    ['? is not none', { StringLike: { [SUB]: `${sub}?` } }, false],
    ['several *', { StringLike: { [SUB]: '*:weather*:*snow*4824' } }, true],
    ['K09 a pattern without the colon takes another app', { StringLike: { [SUB]: 'example:weather*' } }, true],
    ['StringNotLike', { StringNotLike: { [SUB]: 'example:*' } }, false],
    ['K10 no condition at all: anyone in the org', {}, true],
    [
      'a claim that is no condition key is missing',
      { StringEquals: { 'oidc.fly.io/example:app_name': 'weather-cat' } },
      false,
    ],
    ['…IfExists on it holds', { StringEqualsIfExists: { 'oidc.fly.io/example:app_name': 'weather-cat' } }, true],
    ['…IfExists on a key that is there counts', { StringEqualsIfExists: { [SUB]: 'x' } }, false],
    [
      'K11 ForAllValues on a missing key holds',
      { 'ForAllValues:StringLike': { 'oidc.fly.io/example:amr': 'x' } },
      true,
    ],
    ['ForAnyValue on a missing key does not', { 'ForAnyValue:StringLike': { 'oidc.fly.io/example:amr': '*' } }, false],
    ['ForAnyValue on one value', { 'ForAnyValue:StringLike': { [SUB]: ['x', 'example:*'] } }, true],
    ['Null true: the key must be missing', { Null: { 'oidc.fly.io/example:amr': 'true' } }, true],
    ['Null false: the key must be there', { Null: { 'oidc.fly.io/example:amr': false } }, false],
    ['all lines must hold', { StringEquals: { [AUD]: 'sts.amazonaws.com', [SUB]: 'x' } }, false],
    ['all operators must hold', { StringEquals: { [AUD]: 'other' }, StringLike: { [SUB]: '*' } }, false],
    ['the session name', { StringLike: { 'sts:RoleSessionName': 'c?t' } }, true],
    ['a variable', { StringLike: { [SUB]: 'example:weather-${sts:RoleSessionName}:*' } }, true],
    ['a variable without a value', { StringLike: { [SUB]: '*${aws:PrincipalTag/none}' } }, false],
    ['a variable with a default', { StringLike: { [SUB]: "*:${aws:PrincipalTag/none, 'weather-cat'}:*" } }, true],
  ]
  const issuer = await startTestIssuer(FLY)
  t.teardown(() => issuer.close())
  const token = await issuer.sign()
  for (const [name, condition, passes] of cases) {
    const { ask } = await start(t, { iam: roleWith(ISS, condition), reach: { via: { [FLY]: issuer.url } } })
    t.equal((await ask({ WebIdentityToken: token })).status, passes ? 200 : 403, name)
  }
  const old = roleWith(
    ISS,
    { StringLike: { [SUB]: 'example:weather-${sts:RoleSessionName}:*' } },
    'sts:*',
    '2008-10-17',
  )
  const { ask } = await start(t, { iam: old, reach: { via: { [FLY]: issuer.url } } })
  t.equal((await ask({ WebIdentityToken: token })).status, 403, 'the older version has no variables')
})

test('a list of values: amr', async (t) => {
  const AMR = 'oidc.fly.io/example:amr'
  for (const [amr, condition, passes] of [
    [['a', 'b'], { 'ForAnyValue:StringEquals': { [AMR]: 'b' } }, true],
    [['a', 'b'], { 'ForAnyValue:StringEquals': { [AMR]: 'c' } }, false],
    [['a', 'b'], { 'ForAllValues:StringEquals': { [AMR]: ['a', 'b', 'c'] } }, true],
    [['a', 'b'], { 'ForAllValues:StringEquals': { [AMR]: 'a' } }, false],
    [['a', 'b'], { 'ForAnyValue:StringNotEquals': { [AMR]: 'a' } }, true],
    [['a', 'b'], { 'ForAllValues:StringNotEquals': { [AMR]: 'a' } }, false],
  ] as const) {
    const { issuer, ask } = await start(t, { iam: roleWith(ISS, condition) })
    t.equal(
      (await ask({ WebIdentityToken: await issuer.sign({ amr }) })).status,
      passes ? 200 : 403,
      JSON.stringify(condition),
    )
  }
})

test('statements: a Deny wins, a wrong action or provider does not count', async (t) => {
  const principal = { Federated: providerArn('123456789012', ISS) }
  const statement = (over: object): object => ({
    Effect: 'Allow',
    Principal: principal,
    Action: 'sts:AssumeRoleWithWebIdentity',
    ...over,
  })
  for (const [name, statements, passes] of [
    ['a Deny', [statement({}), statement({ Effect: 'Deny', Action: '*' })], false],
    ['sts:AssumeRole is another action', [statement({ Action: 'sts:AssumeRole' })], false],
    ['a pattern of actions', [statement({ Action: 'STS:Assume*' })], true],
    [
      'another provider',
      [statement({ Principal: { Federated: 'arn:aws:iam::123456789012:oidc-provider/oidc.fly.io/other' } })],
      false,
    ],
    ['an AWS principal', [statement({ Principal: { AWS: '*' } })], false],
    ['everybody', [statement({ Principal: '*' })], true],
  ] as const) {
    const iam = parseIam({
      providers: [{ url: ISS, audiences: ['sts.amazonaws.com'] }],
      roles: [{ arn: ROLE, trust: { Statement: statements } }],
    })
    const { issuer, ask } = await start(t, { iam })
    t.equal((await ask({ WebIdentityToken: await issuer.sign() })).status, passes ? 200 : 403, name)
  }
})

test('K01, K02: the issuer must be the registered one, byte by byte', async (t) => {
  const { issuer, ask } = await start(t, { iam: seedIam(`${FLY}/personal`) })
  const refused = await ask({ WebIdentityToken: await issuer.sign() })
  t.same(
    [refused.status, refused.code, refused.message],
    [400, 'InvalidIdentityToken', `No OpenIDConnect provider found in your account for ${ISS}`],
  )
  const other = await start(t)
  for (const iss of [
    `${ISS}/`,
    'http://oidc.fly.io/example',
    `${FLY}:443/example`,
    `${ISS}?x`,
    'https://oidc.fly.io/Example',
  ]) {
    t.match(
      await other.ask({ WebIdentityToken: await other.issuer.sign({ iss }) }),
      { status: 400, code: 'InvalidIdentityToken' },
      iss,
    )
  }
  t.match(
    (await other.ask({ WebIdentityToken: await other.issuer.sign({ iss: 'https://<&>' }) })).text,
    'for https://&lt;&amp;&gt;<',
    'escaped',
  )
})

test('K01: an alias whose discovery names another issuer', async (t) => {
  const { issuer, ask } = await start(t)
  issuer.discovery = { issuer: `${FLY}/real`, jwks_uri: `${FLY}/real/.well-known/jwks` }
  t.match(await ask({ WebIdentityToken: await issuer.sign() }), {
    status: 400,
    code: 'InvalidIdentityToken',
    message: /^Couldn't retrieve verification key/,
  })
})

test('K02: an odd provider URL cannot be registered', async (t) => {
  for (const url of [
    `${ISS}/`,
    'http://oidc.fly.io/example',
    'https://oidc.fly.io:8443/example',
    `${ISS}?a=b`,
    `${ISS}#a`,
    'https://a@oidc.fly.io/x',
    'oidc.fly.io',
    'ftp://127.0.0.1/x',
  ]) {
    t.throws(() => parseIam({ providers: [{ url, audiences: ['a'] }] }), { name: 'ConfigError' }, url)
  }
  t.doesNotThrow(
    () => parseIam({ providers: [{ url: 'http://127.0.0.1:4001/example', audiences: ['a'] }] }),
    'loopback is where mock issuers live',
  )
})

test('K03: a token that proves nothing', async (t) => {
  const { issuer, ask } = await start(t)
  const claims = flyClaims(ISS)
  const hmac = await import('node:crypto').then(
    ({ createHmac }) =>
      (text: string) =>
        createHmac('sha256', JSON.stringify(KEY.jwk)).update(text).digest('base64url'),
  )
  const unsigned = forge({ alg: 'HS256', kid: 'key-1' }, claims)
  const other = await makeKey('key-1')
  const good = await issuer.sign()
  const flipped = good.slice(0, -5) + (good.at(-5) === 'A' ? 'B' : 'A') + good.slice(-4)
  const cases: Record<string, string> = {
    'alg none': forge({ alg: 'none', kid: 'key-1' }, claims),
    'alg none with a signature': forge({ alg: 'none', kid: 'key-1' }, claims, 'AAAA'),
    'alg None': forge({ alg: 'None', kid: 'key-1' }, claims),
    'no alg': forge({ kid: 'key-1' }, claims, 'AAAA'),
    'HS256 with the public key': `${unsigned}${hmac(unsigned.slice(0, -1))}`,
    'no signature': forge({ alg: 'RS256', kid: 'key-1' }, claims),
    'another key under the same kid': await issuer.sign({}, {}, other.privateKey),
    'a changed signature': flipped,
    'no kid': await issuer.sign({}, { kid: undefined }),
    'unknown kid': await issuer.sign({}, { kid: 'key-2' }),
    'kid that is a path': await issuer.sign({}, { kid: '../../../dev/null' }),
    jku: await issuer.sign({}, { jku: `${issuer.url}/evil` }),
    x5u: await issuer.sign({}, { x5u: `${issuer.url}/evil` }),
    jwk: await issuer.sign({}, { jwk: other.jwk }, other.privateKey),
    crit: forge({ alg: 'RS256', kid: 'key-1', crit: ['exp'] }, claims, 'AAAA'),
    PS256: forge({ alg: 'PS256', kid: 'key-1' }, claims, 'AAAA'),
    ES256: forge({ alg: 'ES256', kid: 'key-1' }, claims, 'AAAA'),
  }
  for (const [name, token] of Object.entries(cases))
    t.match(await ask({ WebIdentityToken: token }), { status: 400, code: 'InvalidIdentityToken' }, name)
  t.notOk(issuer.asked.includes('/evil'), 'the token does not say where keys are')
  for (const token of ['abcd', 'a.b.c', 'ab.cd', `${good}.x`, `${good} `, forge([], {}), `e30.${'e'.repeat(40)}.x`]) {
    t.match(
      await ask({ WebIdentityToken: token }),
      { status: 400, code: 'InvalidIdentityToken', message: /not a valid JWT/ },
      token.slice(0, 20),
    )
  }
})

test('elliptic curves are taken as well', async (t) => {
  const { issuer, ask } = await start(t)
  const key = await makeKey('ec', 'ES256')
  issuer.keys = { keys: [KEY.jwk, key.jwk] }
  t.equal(
    (await ask({ WebIdentityToken: await issuer.sign({}, { alg: 'ES256', kid: 'ec' }, key.privateKey) })).status,
    200,
  )
})

test('K04: key sets', async (t) => {
  const { issuer, ask } = await start(t)
  const next = await makeKey('key-2')
  const token = await issuer.sign()
  const assume = async (): Promise<number> => (await ask({ WebIdentityToken: token })).status
  const failed = { status: 400, code: 'InvalidIdentityToken', message: /^Couldn't retrieve verification key/ }
  issuer.keys = { keys: [next.jwk, KEY.jwk] }
  t.equal(await assume(), 200, 'both keys of a rotation count')
  t.equal((await ask({ WebIdentityToken: await issuer.sign({}, { kid: 'key-2' }, next.privateKey) })).status, 200)
  issuer.keys = { keys: [next.jwk] }
  t.match(await ask({ WebIdentityToken: token }), failed, 'the old key is gone')
  issuer.keys = { keys: [KEY.jwk, { ...next.jwk, kid: 'key-1' }] }
  t.match(await ask({ WebIdentityToken: token }), failed, 'two keys of one name')
  issuer.keys = { keys: [KEY.jwk, ...Array.from({ length: 99 }, (_, index) => ({ kty: 'RSA', kid: `k${index}` }))] }
  t.equal(await assume(), 200, '100 keys')
  issuer.keys = { keys: [KEY.jwk, ...Array.from({ length: 100 }, (_, index) => ({ kty: 'RSA', kid: `k${index}` }))] }
  t.match(await ask({ WebIdentityToken: token }), failed, '101 keys')
  for (const keys of [
    {},
    { keys: {} },
    { keys: [] },
    { keys: [null, 7, { kid: 'key-1' }] },
    [KEY.jwk],
    { keys: [{ ...KEY.jwk, use: 'enc' }] },
    { keys: [{ ...KEY.jwk, alg: 'RS512' }] },
  ]) {
    issuer.keys = keys
    t.match(await ask({ WebIdentityToken: token }), failed, JSON.stringify(keys).slice(0, 40))
  }
  issuer.keys = { keys: [{ kty: 'RSA', kid: 'key-1', n: 'AQAB', e: 'AQAB' }] }
  t.match(await ask({ WebIdentityToken: token }), { status: 400, code: 'InvalidIdentityToken' }, 'a key of 17 bits')
})

test('K05: an issuer that does not answer as it should', async (t) => {
  const { issuer, ask } = await start(t)
  const token = await issuer.sign()
  const failed = {
    status: 400,
    code: 'InvalidIdentityToken',
    message:
      "Couldn't retrieve verification key from your identity provider, please reference AssumeRoleWithWebIdentity documentation for requirements",
  }
  const { discovery, keys } = issuer
  const bad: Record<string, TestIssuer['keys']> = {
    '500': (_, response) => void response.writeHead(500).end('{}'),
    '204': (_, response) => void response.writeHead(204).end(),
    HTML: (_, response) => void response.writeHead(200, { 'content-type': 'text/html' }).end('<html>sign in</html>'),
    redirect: (_, response) => void response.writeHead(302, { location: `${issuer.url}/elsewhere` }).end(),
    huge: (_, response) =>
      void response.writeHead(200).end(JSON.stringify({ issuer: ISS, keys: [KEY.jwk], pad: 'x'.repeat(200_000) })),
    endless: (_, response) => {
      const drip = setInterval(() => response.write(' '), 50)
      response.on('close', () => clearInterval(drip))
    },
    'slow head': async (_, response) => void (await sleep(700), response.end('{}')),
    list: [],
  }
  for (const [name, answer] of Object.entries(bad)) {
    Object.assign(issuer, { discovery: answer, keys })
    t.match(await ask({ WebIdentityToken: token }), failed, `discovery: ${name}`)
    Object.assign(issuer, { discovery, keys: answer })
    t.match(await ask({ WebIdentityToken: token }), failed, `keys: ${name}`)
  }
  t.notOk(issuer.asked.includes('/elsewhere'), 'no redirect is followed')
  const failing: TestIssuer['keys'] = (request, response) =>
    void response.writeHead(500).end(JSON.stringify(request.url?.endsWith('/jwks') === true ? keys : discovery))
  Object.assign(issuer, { discovery: failing, keys })
  t.match(await ask({ WebIdentityToken: token }), failed, 'the right discovery with a status of 500')
  Object.assign(issuer, { discovery, keys: failing })
  t.match(await ask({ WebIdentityToken: token }), failed, 'the right keys with a status of 500')
  for (const jwks_uri of [undefined, 7, 'http://oidc.fly.io/example/.well-known/jwks']) {
    Object.assign(issuer, { discovery: { issuer: ISS, jwks_uri }, keys })
    t.match(await ask({ WebIdentityToken: token }), failed, `jwks_uri ${jwks_uri}`)
  }
  for (const jwks_uri of ['https://192.0.2.1/jwks', 'https://oidc.fly.io.evil.example/jwks', 'https://']) {
    issuer.discovery = { issuer: ISS, jwks_uri }
    t.match(
      await ask({ WebIdentityToken: token }),
      { status: 400, code: 'IDPCommunicationError' },
      `${jwks_uri} is not asked: no byte leaves the machine`,
    )
  }
  t.equal(PATIENCE, 5_000)
})

test('an issuer that takes no connection: SDKs ask again', async (t) => {
  const { issuer, ask } = await start(t, { reach: { via: { [FLY]: `http://127.0.0.1:${await closedPort()}` } } })
  t.match(await ask({ WebIdentityToken: await issuer.sign() }), { status: 400, code: 'IDPCommunicationError' })
})

test('a public name is replaced at a path boundary only, and by loopback only', async (t) => {
  const issuer = await startTestIssuer(FLY)
  t.teardown(() => issuer.close())
  const ask = (url: string, via: Record<string, string>): Promise<unknown> =>
    fetchDocument(url, { via }, AbortSignal.timeout(1000))
  const local = `${issuer.url}/x`
  t.match(await ask('https://oidc.fly.io/a/jwks', { 'https://oidc.fly.io': local }), { keys: [{}] })
  t.match(await ask('https://oidc.fly.io', { 'https://oidc.fly.io': local }), { keys: [{}] })
  await t.rejects(ask('https://oidc.fly.io-evil/jwks', { 'https://oidc.fly.io': local }), { code: 'UNREACHABLE' })
  await t.rejects(ask('https://oidc.fly.io/jwks', { 'https://oidc.fly.io': 'https://192.0.2.1' }), {
    code: 'UNREACHABLE',
  })
  await t.rejects(ask(`ftp${issuer.url.slice(4)}/jwks`, {}), { code: 'UNREACHABLE' })
  t.same(issuer.asked, ['/x/a/jwks', '/x'])
})

test('the value of a variable is never a wildcard', async (t) => {
  const context = new Map([
    ['k', ['*']],
    ['two', ['a', 'b']],
  ])
  t.ok(matches('a:${k}', 'a:*', true, context))
  t.notOk(matches('a:${k}', 'a:b', true, context))
  t.ok(matches('a:${*}${?}${$}', 'a:*?$', true, context))
  t.notOk(matches('a:${*}', 'a:b', true, context))
  t.notOk(matches('${two}', 'a', true, context), 'two values are none')
  t.ok(matches('${k}', '${k}', true), 'the older version has no variables')
})

test('K06: times', async (t) => {
  const { issuer, ask } = await start(t)
  const now = seconds()
  const expired = await ask({ WebIdentityToken: await issuer.sign({ exp: now - 1 }) })
  t.same([expired.status, expired.code], [400, 'ExpiredTokenException'])
  t.match(expired.message, /^Token expired: current date\/time \d+ must be before the expiration date\/time\d+$/)
  t.match(await ask({ WebIdentityToken: await issuer.sign({ iat: now - 90_000 }) }), {
    status: 400,
    code: 'ExpiredTokenException',
    message: /^Token too old: 9000\d$/,
  })
  for (const claims of [
    { nbf: now + 300 },
    { iat: now + 300 },
    { exp: `${now + 600}` },
    { exp: now + 600.5 },
    { iat: `${now}` },
    { iat: now - 0.5 },
    { nbf: 'x' },
    { exp: -1 },
  ]) {
    t.match(
      await ask({ WebIdentityToken: await issuer.sign(claims) }),
      { status: 400, code: 'InvalidIdentityToken' },
      JSON.stringify(claims),
    )
  }
})

test('K07: audiences', async (t) => {
  const { issuer, ask } = await start(t)
  const wrong = { status: 400, code: 'InvalidIdentityToken', message: 'Incorrect token audience' }
  t.match(await ask({ WebIdentityToken: await issuer.sign({ aud: 'https://fly.io/example' }) }), wrong)
  t.match(await ask({ WebIdentityToken: await issuer.sign({ aud: ['sts.amazonaws.com', 'other'] }) }), wrong)
  t.match(await ask({ WebIdentityToken: await issuer.sign({ azp: 'other' }) }), wrong)
  t.equal(
    (await ask({ WebIdentityToken: await issuer.sign({ aud: ['sts.amazonaws.com'] }) })).status,
    200,
    'a list of one, as EKS sends',
  )
  t.equal(
    (await ask({ WebIdentityToken: await issuer.sign({ aud: ['a', 'b'], azp: 'sts.amazonaws.com' }) })).status,
    200,
    'an authorized party',
  )
  for (const name of ['iss', 'sub', 'aud', 'exp', 'iat']) {
    const token = await issuer.sign({ [name]: undefined })
    t.match(await ask({ WebIdentityToken: token }), {
      status: 400,
      code: 'InvalidIdentityToken',
      message: `Missing a required claim: ${name}`,
    })
  }
  for (const aud of [7, [], [7], {}])
    t.match(await ask({ WebIdentityToken: await issuer.sign({ aud }) }), {
      status: 400,
      message: 'Missing a required claim: aud',
    })
})

test('K12: session tags', async (t) => {
  const CLAIM = 'https://aws.amazon.com/tags'
  const tags = { principal_tags: { app_name: ['weather-cat'], Team: ['a b'] }, transitive_tag_keys: ['app_name'] }
  const without = await start(t, { iam: roleWith(ISS, {}) })
  t.match(await without.ask({ WebIdentityToken: await without.issuer.sign({ [CLAIM]: tags }) }), {
    status: 403,
    code: 'AccessDenied',
  })
  t.match(
    await without.ask({ WebIdentityToken: await without.issuer.sign({ [CLAIM]: {} }) }),
    { status: 403 },
    'an empty claim as well',
  )
  const both = ['sts:AssumeRoleWithWebIdentity', 'sts:TagSession']
  const iam = roleWith(
    ISS,
    {
      StringEquals: { 'aws:RequestTag/TEAM': 'a b' },
      'ForAllValues:StringEquals': { 'sts:TransitiveTagKeys': 'app_name' },
    },
    both,
  )
  const { issuer, ask } = await start(t, { iam })
  const sign = (value: unknown): Promise<string> => issuer.sign({ [CLAIM]: value })
  t.equal((await ask({ WebIdentityToken: await sign(tags) })).status, 200)
  t.match((await ask({ WebIdentityToken: await sign(tags) })).text, /<PackedPolicySize>\d+<\/PackedPolicySize>/)
  t.equal((await ask({ WebIdentityToken: await sign([tags]) })).status, 200, 'the other shape')
  t.equal(
    (await ask({ WebIdentityToken: await sign({ principal_tags: { Team: ['x'] } }) })).status,
    403,
    'another value',
  )
  const many = (count: number): object => ({
    principal_tags: Object.fromEntries(Array.from({ length: count }, (_, index) => [`k${index}`, ['v']])),
  })
  for (const [name, value, code] of [
    ['51 tags', many(51), 'ValidationError'],
    ['a key of 129', { principal_tags: { ['k'.repeat(129)]: ['v'] } }, 'ValidationError'],
    ['a value of 257', { principal_tags: { k: ['v'.repeat(257)] } }, 'ValidationError'],
    ['keys that differ in case only', { principal_tags: { Key: ['v'], key: ['v'] } }, 'ValidationError'],
    ['a reserved key', { principal_tags: { 'aws:x': ['v'] } }, 'ValidationError'],
    ['a key with odd letters', { principal_tags: { 'a{': ['v'] } }, 'ValidationError'],
    [
      'together too much',
      {
        principal_tags: Object.fromEntries(Array.from({ length: 10 }, (_, index) => [`k${index}`, ['v'.repeat(250)]])),
      },
      'PackedPolicyTooLarge',
    ],
    ['two values', { principal_tags: { k: ['v', 'w'] } }, 'InvalidIdentityToken'],
    ['a text', 'tags', 'InvalidIdentityToken'],
    ['keys that are no list', { transitive_tag_keys: 'k' }, 'InvalidIdentityToken'],
    ['keys that are no texts', { transitive_tag_keys: [7] }, 'InvalidIdentityToken'],
  ] as const) {
    t.match(await ask({ WebIdentityToken: await sign(value) }), { status: 400, code }, name)
  }
  const fifty = await start(t, { iam: roleWith(ISS, {}, both) })
  t.equal(
    (await fifty.ask({ WebIdentityToken: await fifty.issuer.sign({ [CLAIM]: many(50) }) })).status,
    200,
    '50 tags',
  )
})

test('what a request must be', async (t) => {
  const { issuer, ask, url } = await start(t)
  const WebIdentityToken = await issuer.sign()
  const told = async (form: Record<string, string>): Promise<unknown[]> => {
    const { status, code, message } = await ask({ WebIdentityToken, ...form })
    return [status, code, message]
  }
  const invalid = (what: string): unknown[] => [400, 'ValidationError', `1 validation error detected: ${what}`]
  t.same(
    await told({ RoleArn: '-' }),
    invalid("Value null at 'roleArn' failed to satisfy constraint: Member must not be null"),
  )
  t.same(
    await told({ RoleArn: 'arn:aws' }),
    invalid(
      "Value 'arn:aws' at 'roleArn' failed to satisfy constraint: Member must have length greater than or equal to 20",
    ),
  )
  t.same(await told({ RoleArn: `${ROLE}${'x'.repeat(2048)}` }).then(([status, code]) => [status, code]), [
    400,
    'ValidationError',
  ])
  t.same(await told({ RoleArn: 'arn:aws:iam::1234:role/weather-cat' }), [
    400,
    'ValidationError',
    'Request ARN is invalid',
  ])
  t.same(
    await told({ RoleSessionName: 'c' }),
    invalid(
      "Value 'c' at 'roleSessionName' failed to satisfy constraint: Member must have length greater than or equal to 2",
    ),
  )
  t.same(
    await told({ RoleSessionName: 'a:b' }),
    invalid(
      "Value 'a:b' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]*",
    ),
  )
  t.same(await told({ RoleSessionName: 'c'.repeat(65) }).then(([status]) => status), 400)
  t.same(
    await told({ DurationSeconds: '899' }),
    invalid(
      "Value '899' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900",
    ),
  )
  t.same(
    await told({ DurationSeconds: '43201' }),
    invalid(
      "Value '43201' at 'durationSeconds' failed to satisfy constraint: Member must have value less than or equal to 43200",
    ),
  )
  t.same(await told({ DurationSeconds: '3601' }), [
    400,
    'ValidationError',
    'The requested DurationSeconds exceeds the MaxSessionDuration set for this role.',
  ])
  t.same(await told({ DurationSeconds: '1e3' }).then(([, code]) => code), 'ValidationError')
  t.match(await told({ RoleArn: '-', RoleSessionName: '-' }), [
    400,
    'ValidationError',
    /^2 validation errors detected: .*; /,
  ])
  t.match(await told({ WebIdentityToken: 'x'.repeat(20_001) }), [
    400,
    'ValidationError',
    /^1 validation error detected: Value at 'webIdentityToken'/,
  ])
  t.same(await told({ ProviderId: 'www.amazon.com' }).then(([, code]) => code), 'ValidationError')
  t.same(
    await told({ 'PolicyArns.member.1.arn': 'arn:aws:iam::aws:policy/ReadOnlyAccess' }).then(([, code]) => code),
    'ValidationError',
  )
  t.same(await told({ Policy: '{' }), [400, 'MalformedPolicyDocument', 'This policy contains invalid Json'])
  t.same(await told({ Policy: '{"Statement":[{}]}' }).then(([, code]) => code), 'MalformedPolicyDocument')
  t.same(await told({ Policy: 'x'.repeat(2049) }).then(([, code]) => code), 'ValidationError')
  t.same(await told({ RoleArn: 'arn:aws:iam::123456789012:role/nobody' }), [
    403,
    'AccessDenied',
    'Not authorized to perform sts:AssumeRoleWithWebIdentity',
  ])
  t.match(await told({ RoleArn: 'arn:aws:iam::210987654321:role/weather-cat' }), [
    400,
    'InvalidIdentityToken',
    /^No OpenIDConnect provider found in your account/,
  ])
  t.same(await told({ Action: '-' }).then(([, code]) => code), 'MissingAction')
  t.same(await told({ Action: 'AssumeRole' }), [
    400,
    'InvalidAction',
    'Could not find operation AssumeRole for version 2011-06-15',
  ])
  t.same(await told({ Version: '2010-01-01' }), [
    400,
    'NoSuchVersion',
    'The requested version ( 2010-01-01 ) is not valid.',
  ])
  t.same(await told({ Action: 'GetCallerIdentity' }), [
    403,
    'MissingAuthenticationToken',
    'Request is missing Authentication Token',
  ])
  const asJson = await read(
    await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"Action":"GetCallerIdentity"}',
    }),
  )
  t.equal(asJson.code, 'MissingAction', 'a form, not JSON')
  t.equal((await fetch(url, { method: 'POST', body: 'x'.repeat(200_000) })).status, 413)
})

test('what no request brings about can be asked for', async (t) => {
  for (const [refuse, status] of [
    ['IDPRejectedClaim', 403],
    ['RegionDisabledException', 403],
    ['IDPCommunicationError', 400],
  ] as const) {
    const { issuer, ask } = await start(t, { refuse })
    const answer = await ask({ WebIdentityToken: await issuer.sign() })
    t.same([answer.status, answer.code], [status, refuse])
    t.match(
      answer.text,
      /^<ErrorResponse xmlns="https:\/\/sts\.amazonaws\.com\/doc\/2011-06-15\/"><Error><Type>Sender<\/Type><Code>/,
    )
  }
})

test('a file of roles is read strictly', async (t) => {
  const trust = { Statement: { Effect: 'Allow', Principal: '*', Action: '*' } }
  const role = (over: object): object => ({ roles: [{ arn: ROLE, trust, ...over }] })
  t.equal(parseIam(role({})).roles[0]?.maxSessionSeconds, 3600)
  t.equal(parseIam(role({ arn: 'arn:aws:iam::123456789012:role/path/to/cat' })).roles[0]?.name, 'cat')
  for (const [name, iam] of Object.entries({
    'no object': [],
    'a misspelt member': { role: [] },
    'no ARN': role({ arn: 'x' }),
    'too long a session': role({ max_session_seconds: 43_201 }),
    'no trust': role({ trust: undefined }),
    'no statement': role({ trust: { Statement: [] } }),
    'no action': role({ trust: { Statement: { Effect: 'Allow', Principal: '*' } } }),
    'no principal': role({ trust: { Statement: { Effect: 'Allow', Action: '*' } } }),
    'an effect of another name': role({ trust: { Statement: { Effect: 'allow', Principal: '*', Action: '*' } } }),
    'another version': role({ trust: { ...trust, Version: '2012' } }),
    'a resource in a trust policy': role({
      trust: { Statement: { Effect: 'Allow', Principal: '*', Action: '*', Resource: '*' } },
    }),
    'an operator that is none': role({
      trust: { Statement: { ...trust.Statement, Condition: { StringMatches: { a: 'b' } } } },
    }),
    'an operator that is not modelled': role({
      trust: { Statement: { ...trust.Statement, Condition: { IpAddress: { a: 'b' } } } },
    }),
    'Null with a set': role({
      trust: { Statement: { ...trust.Statement, Condition: { 'ForAnyValue:Null': { a: 'true' } } } },
    }),
    'a condition without values': role({
      trust: { Statement: { ...trust.Statement, Condition: { StringLike: { a: [] } } } },
    }),
    'permissions without a resource': role({ permissions: [{ Statement: { Effect: 'Allow', Action: '*' } }] }),
    'an account that is none': { providers: [{ url: ISS, audiences: [], account: '1' }] },
    'too many audiences': { providers: [{ url: ISS, audiences: Array.from({ length: 101 }, String) }] },
  })) {
    t.throws(() => parseIam(iam), { name: 'ConfigError' }, name)
  }
})
