// Anybody's relying party, Anthropic's token endpoint, and the libraries that others verify with: openid-client and jose.

import { createRemoteJWKSet, jwtVerify } from 'jose'
import { allowInsecureRequests, discovery } from 'openid-client'
import { test } from 'tap'
import { seedRules, startAnthropic } from '../../src/parties/generic/anthropic.ts'
import { SEED_AUDIENCE, startRelyingParty } from '../../src/parties/generic/relying-party.ts'
import { needRecord } from '../../src/parties/shape.ts'
import { forge, makeKey, seconds, startTestIssuer } from './support.ts'

test('a relying party tells the caller who it is, or why not', async (t) => {
  const issuer = await startTestIssuer()
  const party = await startRelyingParty({ expected: { issuer: issuer.iss, audience: SEED_AUDIENCE } })
  t.teardown(() => Promise.all([issuer.close(), party.close()]))
  const ask = async (token?: string): Promise<{ status: number; body: unknown; scheme: string | null }> => {
    const response = await fetch(
      `${party.url}/whoami`,
      token === undefined ? {} : { headers: { authorization: `Bearer ${token}` } },
    )
    return { status: response.status, body: await response.json(), scheme: response.headers.get('www-authenticate') }
  }
  const sign = (claims: object = {}, header: object = {}): Promise<string> =>
    issuer.sign({ aud: SEED_AUDIENCE, ...claims }, header)
  t.match(await ask(await sign()), {
    status: 200,
    body: { subject: 'example:weather-cat:ancient-snow-4824', claims: { region: 'yyz' } },
  })
  t.match(await ask(), { status: 401, scheme: 'Bearer realm="dotfly"' })
  t.equal((await fetch(party.url)).status, 404)
  const other = await makeKey('key-1')
  for (const [token, code] of [
    ['x', 'NOT_A_JWT'],
    [await sign({ iss: 'https://oidc.fly.io/example' }), 'WRONG_ISSUER'],
    [forge({ alg: 'none', kid: 'key-1' }, { iss: issuer.iss }), 'BAD_SIGNATURE'],
    [await issuer.sign({ aud: SEED_AUDIENCE }, {}, other.privateKey), 'BAD_SIGNATURE'],
    [await sign({ sub: undefined }), 'CLAIM_MISSING'],
    [await sign({ exp: seconds() - 120 }), 'EXPIRED'],
    [await sign({ nbf: seconds() + 120 }), 'NOT_YET_VALID'],
    [await sign({ aud: 'sts.amazonaws.com' }), 'WRONG_AUDIENCE'],
    [await sign({ aud: [SEED_AUDIENCE, 'other'] }), 'WRONG_AUDIENCE'],
    [await sign({ azp: 'other' }), 'WRONG_AUDIENCE'],
  ] as const) {
    t.match(await ask(token), {
      status: 401,
      body: { error: 'invalid_token', code },
      scheme: new RegExp(`error="invalid_token", error_description="${code}"$`),
    })
  }
  t.equal((await ask(await sign({ aud: [SEED_AUDIENCE, 'other'], azp: SEED_AUDIENCE }))).status, 200)
  issuer.keys = []
  t.match(await ask(await sign()), { status: 503, body: { code: 'NO_KEYS' } })
})

test('openid-client finds the keys by discovery, and jose verifies with them', async (t) => {
  const issuer = await startTestIssuer()
  t.teardown(() => issuer.close())
  // http, for loopback: the one thing that a real issuer would have otherwise.
  const find = (): ReturnType<typeof discovery> =>
    discovery(new URL(issuer.iss), 'client', undefined, undefined, { execute: [allowInsecureRequests] })
  const metadata = (await find()).serverMetadata()
  t.equal(metadata.issuer, issuer.iss)
  const keys = createRemoteJWKSet(new URL(metadata.jwks_uri ?? ''))
  const expected = { issuer: issuer.iss, audience: 'sts.amazonaws.com', algorithms: ['RS256'] }
  const { payload } = await jwtVerify(await issuer.sign(), keys, expected)
  t.equal(payload.sub, 'example:weather-cat:ancient-snow-4824')
  await t.rejects(jwtVerify(await issuer.sign({ aud: 'x' }), keys, expected), {
    code: 'ERR_JWT_CLAIM_VALIDATION_FAILED',
  })
  await t.rejects(jwtVerify(await issuer.sign({}, { kid: 'x' }), keys, expected), { code: 'ERR_JWKS_NO_MATCHING_KEY' })
  issuer.discovery = { ...metadata, issuer: `${issuer.url}/real` }
  await t.rejects(
    find(),
    { code: 'OAUTH_JSON_ATTRIBUTE_COMPARISON_FAILED' },
    'an alias: its discovery names another issuer',
  )
})

test("Anthropic's token endpoint", async (t) => {
  const issuer = await startTestIssuer()
  const [rule] = seedRules(issuer.iss)
  if (rule === undefined) throw new TypeError('the seed has a rule')
  const party = await startAnthropic({ rules: [rule] })
  t.teardown(() => Promise.all([issuer.close(), party.close()]))
  const beta = 'oauth-2025-04-20,oidc-federation-2026-04-01'
  const ask = async (
    over: object = {},
    headers: Record<string, string> = {},
  ): Promise<{ status: number; body: unknown }> => {
    const assertion = await issuer.sign({ aud: rule.audience })
    const body = {
      grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer',
      assertion,
      federation_rule_id: rule.id,
      organization_id: rule.organization,
      ...over,
    }
    const response = await fetch(`${party.url}/v1/oauth/token`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'anthropic-beta': beta, ...headers },
      body: JSON.stringify(body),
    })
    t.equal(response.headers.has('request-id'), response.status !== 200)
    return { status: response.status, body: await response.json() }
  }
  t.match(await ask(), {
    status: 200,
    body: { access_token: /^sk-ant-oat01-/, token_type: 'Bearer', expires_in: 3600 },
  })
  const models = async (token: string): Promise<number> =>
    (await fetch(`${party.url}/v1/models`, { headers: { authorization: `Bearer ${token}` } })).status
  const { access_token: token } = needRecord((await ask()).body, 'the answer')
  t.equal(await models(String(token)), 200)
  t.equal(await models(`${String(token)}x`), 401, 'what was not given opens nothing')
  for (const [name, over, status, error] of [
    ['another grant', { grant_type: 'x' }, 400, 'unsupported_grant_type'],
    ['no assertion', { assertion: undefined }, 400, 'invalid_request'],
    ['16 KiB and more', { assertion: 'x'.repeat(16_385) }, 400, 'invalid_request'],
    ['another rule', { federation_rule_id: 'fdrl_x' }, 401, 'invalid_grant'],
    ['another organisation', { organization_id: 'x' }, 401, 'invalid_grant'],
    ['another audience', { assertion: await issuer.sign() }, 401, 'invalid_grant'],
    [
      'another app',
      { assertion: await issuer.sign({ aud: rule.audience, sub: 'example:weather-cat-evil:m' }) },
      401,
      'invalid_grant',
    ],
  ] as const) {
    t.match(await ask(over), { status, body: { error } }, name)
  }
  t.match(await ask({}, { 'anthropic-beta': 'oauth-2025-04-20' }), { status: 400 })
  t.match(await ask({}, { 'content-type': 'text/plain' }), { status: 400 })
  t.equal((await fetch(`${party.url}/v1/messages`)).status, 404)
})
