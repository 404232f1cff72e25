// Microsoft Entra on the wire, over https with a certificate of this run: what passes and every way not to.

import { X509Certificate, createPublicKey } from 'node:crypto'
import { createLocalJWKSet, jwtVerify } from 'jose'
import type { JSONWebKeySet } from 'jose'
import { test } from 'tap'
import type { Test } from 'tap'
import { Agent, request } from 'undici'
import { parseApplications, SEED_CLIENT, SEED_TENANT, seedApplications } from '../../src/parties/azure/application.ts'
import type { Application } from '../../src/parties/azure/application.ts'
import { startAzure } from '../../src/parties/azure/azure.ts'
import { selfSigned } from '../../src/parties/azure/certificate.ts'
import { needRecord } from '../../src/parties/shape.ts'
import { closedPort, forge, makeKey, seconds, startTestIssuer } from './support.ts'
import type { TestIssuer } from './support.ts'

const FLY = 'https://oidc.fly.io'
const ISS = `${FLY}/example`
const SUB = 'example:weather-cat:ancient-snow-4824'

type Answer = { status: number; body: Record<string, unknown> }

interface World {
  readonly issuer: TestIssuer
  readonly url: string
  readonly get: (path: string) => Promise<Answer>
  readonly sign: (claims?: object, header?: object) => Promise<string>
  readonly ask: (form?: Record<string, string | undefined>, tenant?: string) => Promise<Answer>
}

async function start(t: Test, applications: Application[] = seedApplications(ISS), via?: string): Promise<World> {
  const issuer = await startTestIssuer(FLY)
  const azure = await startAzure({ applications, reach: { via: { [FLY]: via ?? issuer.url }, patience: 400 } })
  const dispatcher = new Agent({ connect: { ca: azure.ca } })
  t.teardown(async () => {
    await dispatcher.close()
    await Promise.all([issuer.close(), azure.close()])
  })
  const read = async (path: string, body?: string): Promise<Answer> => {
    const how =
      body === undefined
        ? {}
        : { method: 'POST', body, headers: { 'content-type': 'application/x-www-form-urlencoded' } }
    const answer = await request(`${azure.url}${path}`, { dispatcher, ...how })
    return { status: answer.statusCode, body: needRecord(await answer.body.json(), 'answer') }
  }
  const sign: World['sign'] = (claims, header) => issuer.sign({ aud: 'api://AzureADTokenExchange', ...claims }, header)
  return {
    issuer,
    url: azure.url,
    get: (path) => read(path),
    sign,
    ask: async (form = {}, tenant = SEED_TENANT) => {
      const full = { ...FORM, client_assertion: await sign(), ...form }
      const given = Object.entries(full).filter((pair): pair is [string, string] => pair[1] !== undefined)
      return read(`/${tenant}/oauth2/v2.0/token`, String(new URLSearchParams(given)))
    },
  }
}

const FORM = {
  grant_type: 'client_credentials',
  client_id: SEED_CLIENT,
  scope: 'https://graph.microsoft.com/.default',
  client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
}

const isKeySet = (body: object): body is JSONWebKeySet => 'keys' in body && Array.isArray(body.keys)

const refused = (status: number, error: string, code: number): object => ({
  status,
  body: {
    error,
    error_description: new RegExp(
      `^AADSTS${code}: .* Trace ID: [0-9a-f-]{36} Correlation ID: [0-9a-f-]{36} Timestamp: \\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\dZ$`,
    ),
    error_codes: [code],
    timestamp: /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ$/,
    trace_id: /^[0-9a-f-]{36}$/,
    correlation_id: /^[0-9a-f-]{36}$/,
    error_uri: new RegExp(`/error\\?code=${code}$`),
  },
})

test('the one Machine gets an access token that the published keys prove', async (t) => {
  const { ask, get, url, sign } = await start(t)
  const answer = await ask()
  t.match(answer, { status: 200, body: { token_type: 'Bearer', expires_in: 3599, ext_expires_in: 3599 } })
  const discovery = await get(`/${SEED_TENANT}/v2.0/.well-known/openid-configuration`)
  t.match(discovery.body, {
    issuer: `${url}/${SEED_TENANT}/v2.0`,
    token_endpoint: `${url}/${SEED_TENANT}/oauth2/v2.0/token`,
  })
  const { body: keys } = await get(`/${SEED_TENANT}/discovery/v2.0/keys`)
  if (!isKeySet(keys)) throw new TypeError('not a key set')
  const { payload } = await jwtVerify(String(answer.body['access_token']), createLocalJWKSet(keys), {
    audience: 'https://graph.microsoft.com',
    issuer: String(discovery.body['issuer']),
  })
  t.match(payload, { tid: SEED_TENANT, azp: SEED_CLIENT, idtyp: 'app' })
  t.match((await get('/common/discovery/instance?api-version=1.1')).body, {
    tenant_discovery_endpoint: /openid-configuration$/,
    metadata: [{}],
  })
  t.equal((await get(`/${SEED_TENANT}/nothing`)).status, 404)
  t.equal(
    (await ask({ client_assertion: await sign({ aud: ['api://AzureADTokenExchange'] }) })).status,
    200,
    'a list of one audience',
  )
  t.equal(
    (await ask({ scope: 'https://vault.azure.net/.default openid profile offline_access' })).status,
    200,
    'as msal asks',
  )
})

test('each error of a credential that does not match', async (t) => {
  const { ask, sign } = await start(t)
  for (const [name, claims, code] of [
    ['issuer', { iss: `${FLY}/other` }, 700211],
    ['issuer with a slash', { iss: `${ISS}/` }, 700211],
    ['no issuer', { iss: undefined }, 700211],
    ['another Machine of the app', { sub: 'example:weather-cat:other-snow-1' }, 700213],
    ['a longer name', { sub: `${SUB}0` }, 700213],
    ['no subject', { sub: undefined }, 700213],
    ['another case', { sub: SUB.toUpperCase() }, 7002138],
    ['audience', { aud: 'sts.amazonaws.com' }, 700212],
    ['audience in another case', { aud: 'api://azureadtokenexchange' }, 700212],
    ['no audience', { aud: undefined }, 700212],
    ['expired', { iat: seconds() - 1000, nbf: seconds() - 1000, exp: seconds() - 400 }, 700024],
    ['of the future', { nbf: seconds() + 400 }, 700024],
    ['a float', { exp: seconds() + 0.5 }, 50027],
    ['no exp', { exp: undefined }, 50027],
  ] as const) {
    t.match(await ask({ client_assertion: await sign(claims) }), refused(401, 'invalid_client', code), name)
  }
  const none = await start(t, parseApplications([{ tenant: SEED_TENANT, client_id: SEED_CLIENT }]))
  t.match(await none.ask(), refused(400, 'invalid_request', 70021), 'an application without credentials')
})

test('each error of an assertion that proves nothing', async (t) => {
  const { ask, sign, issuer } = await start(t)
  const claims = { iss: ISS, sub: SUB, aud: 'api://AzureADTokenExchange', exp: seconds() + 60 }
  const other = await makeKey('key-1')
  t.match(await ask({ client_assertion: 'x' }), refused(401, 'invalid_client', 50027))
  for (const [name, client_assertion] of Object.entries({
    'alg none': forge({ alg: 'none', kid: 'key-1' }, claims),
    HS256: forge({ alg: 'HS256', kid: 'key-1' }, claims, 'AAAA'),
    ES256: forge({ alg: 'ES256', kid: 'key-1' }, claims, 'AAAA'),
    'a foreign key': await issuer.sign(claims, {}, other.privateKey),
    'an unknown kid': await sign({}, { kid: 'x' }),
    jku: await sign({}, { jku: `${issuer.url}/evil` }),
  })) {
    t.match(await ask({ client_assertion }), refused(401, 'invalid_client', 50013), name)
  }
  const curve = await makeKey('ec', 'ES256')
  issuer.keys = { keys: [curve.jwk] }
  const onCurve = await issuer.sign(claims, { alg: 'ES256', kid: 'ec' }, curve.privateKey)
  t.match(await ask({ client_assertion: onCurve }), refused(401, 'invalid_client', 50013), 'good, but not RS256')
  issuer.keys = (_, response) => void response.writeHead(302, { location: '/' }).end()
  t.match(await ask(), refused(400, 'invalid_request', 90061))
  const away = await start(t, seedApplications(ISS), `http://127.0.0.1:${await closedPort()}`)
  t.match(await away.ask(), refused(400, 'invalid_request', 90061))
})

test('each error of a request', async (t) => {
  const { ask, issuer } = await start(t)
  for (const name of ['grant_type', 'client_id', 'scope'])
    t.match(await ask({ [name]: undefined }), refused(400, 'invalid_request', 900144), name)
  t.match(await ask({ grant_type: 'password' }), refused(400, 'unsupported_grant_type', 70003))
  t.match(await ask({ client_id: SEED_TENANT }), refused(400, 'unauthorized_client', 700016))
  t.match(await ask({ client_assertion: undefined }), refused(401, 'invalid_client', 7000218))
  t.match(await ask({ client_assertion_type: 'x' }), refused(401, 'invalid_client', 7000218))
  t.match(await ask({ scope: 'https://graph.microsoft.com/User.Read' }), refused(400, 'invalid_scope', 1002012))
  t.match(await ask({}, SEED_CLIENT), refused(400, 'invalid_request', 90002))
  t.same(issuer.asked, [], 'an issuer is asked only when all else is right')
})

test('a file of applications is read strictly', async (t) => {
  const credential = { name: 'a', issuer: ISS, subject: SUB }
  const parse = (over: object): unknown =>
    parseApplications([{ tenant: SEED_TENANT, client_id: SEED_CLIENT, credentials: [credential], ...over }])
  t.doesNotThrow(() => parse({}))
  for (const [name, over] of Object.entries({
    'a pattern': { credentials: [{ ...credential, subject: 'example:weather-cat:*' }] },
    'a flexible credential': { credentials: [{ ...credential, claimsMatchingExpression: 'x' }] },
    'an issuer with a slash': { credentials: [{ ...credential, issuer: `${ISS}/` }] },
    'the same twice': { credentials: [credential, { ...credential, name: 'b' }] },
    'twenty-one': {
      credentials: Array.from({ length: 21 }, (_, index) => ({ ...credential, subject: `a:b:${index}` })),
    },
    'a tenant that is no GUID': { tenant: 'example' },
  })) {
    t.throws(() => parse(over), { name: 'ConfigError' }, name)
  }
})

test('the certificate is one that others read as well', async (t) => {
  const now = Date.now()
  const { key, cert } = selfSigned(now)
  const read = new X509Certificate(cert)
  t.equal(read.subjectAltName, 'IP Address:127.0.0.1, DNS:localhost')
  t.ok(read.ca)
  t.ok(read.verify(createPublicKey(key)))
  t.ok(read.validFromDate.getTime() < now && read.validToDate.getTime() > now + 29 * 86_400_000)
  t.equal(read.checkIP('127.0.0.1'), '127.0.0.1')
})
