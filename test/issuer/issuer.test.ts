import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createRemoteJWKSet, decodeJwt, decodeProtectedHeader, jwtVerify } from 'jose'
import { test } from 'tap'
import { ClaimError, parseSignRequest } from '../../src/issuer/claims.ts'
import type { Subject } from '../../src/issuer/claims.ts'
import { signerAt } from '../../src/issuer/client.ts'
import type { Signer } from '../../src/issuer/client.ts'
import { parseIssuerOptions } from '../../src/issuer/options.ts'
import { startIssuer } from '../../src/issuer/start.ts'
import type { Issuer } from '../../src/issuer/start.ts'

const SUBJECT: Subject = {
  org_id: '29873298',
  org_name: 'example',
  app_id: '3671581',
  app_name: 'weather-cat',
  machine_id: '3d8d377ce9e398',
  machine_name: 'ancient-snow-4824',
  machine_version: '01HZJXGTQ084DX0G0V92QH3XW4',
  image: 'registry.fly.io/weather-cat:latest',
  image_digest: `sha256:${'dff79c6d'.repeat(8)}`,
  region: 'yyz',
}
const RIVAL: Subject = { ...SUBJECT, org_id: '1', org_name: 'rival' }

interface Setting {
  readonly issuer: Issuer
  readonly signer: Signer
  readonly path: string
  readonly sign: (ask?: { subject?: Subject; aud?: string; awsPrincipalTags?: boolean }) => Promise<string>
}

type Test = { readonly teardown: (run: () => unknown) => void }

async function start(t: Test, now: () => number = Date.now, base?: string): Promise<Setting> {
  const dir = mkdtempSync(join(tmpdir(), 'dotfly-'))
  const path = join(dir, 'sign.sock')
  const issuer = await startIssuer(
    {
      orgs: ['example', 'rival'],
      aliases: { personal: 'example' },
      signer: path,
      ...(base === undefined ? {} : { base }),
    },
    now,
  )
  const signer = signerAt(path)
  t.teardown(async () => {
    await signer.close()
    await issuer.stop()
    rmSync(dir, { recursive: true })
  })
  return {
    issuer,
    signer,
    path,
    sign: ({ subject = SUBJECT, aud, awsPrincipalTags = false } = {}) =>
      signer.sign({ subject, aud, awsPrincipalTags }),
  }
}

const get = async (url: string): Promise<{ status: number; json: () => Record<string, unknown>; text: string }> => {
  const answer = await fetch(url)
  const text = await answer.text()
  return { status: answer.status, text, json: () => JSON.parse(text) }
}

/** Verifies as any relying party does: from nothing but the issuer's URL. */
async function verify(jwt: string, iss: string, audience: string, now?: number): Promise<Record<string, unknown>> {
  const { jwks_uri: uri, issuer } = (await get(`${iss}/.well-known/openid-configuration`)).json()
  const keys = createRemoteJWKSet(new URL(String(uri)))
  const clock = now === undefined ? {} : { currentDate: new Date(now) }
  return (await jwtVerify(jwt, keys, { issuer: String(issuer), audience, algorithms: ['RS256'], ...clock })).payload
}

test('a token verifies through discovery and has exactly the claims of the table', async (t) => {
  const { issuer, sign } = await start(t)
  const payload = await verify(await sign({ aud: 'sts.amazonaws.com' }), `${issuer.url}/example`, 'sts.amazonaws.com')
  const { iat, nbf, exp, jti, ...rest } = payload
  t.strictSame(rest, {
    ...SUBJECT,
    iss: `${issuer.url}/example`,
    aud: 'sts.amazonaws.com',
    sub: 'example:weather-cat:ancient-snow-4824',
  })
  t.equal(nbf, iat)
  t.equal(Number(exp) - Number(iat), 600)
  t.ok(Number.isInteger(iat) && Math.abs(Number(iat) - Date.now() / 1000) < 5)
  t.match(jti, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
})

test('the default audience is the org at fly.io', async (t) => {
  const { sign } = await start(t)
  t.equal(decodeJwt(await sign()).aud, 'https://fly.io/example')
  t.equal(decodeJwt(await sign({ subject: RIVAL })).aud, 'https://fly.io/rival')
})

test('no two tokens have the same jti', async (t) => {
  const { sign } = await start(t)
  const ids = await Promise.all(Array.from({ length: 50 }, async () => decodeJwt(await sign()).jti))
  t.equal(new Set(ids).size, 50)
})

test('AWS principal tags are there when asked for, in the shape that AWS documents', async (t) => {
  const { sign } = await start(t)
  t.strictSame(decodeJwt(await sign({ awsPrincipalTags: true }))['https://aws.amazon.com/tags'], {
    principal_tags: { org_name: ['example'], app_name: ['weather-cat'], machine_name: ['ancient-snow-4824'] },
    transitive_tag_keys: ['org_name', 'app_name', 'machine_name'],
  })
  t.notOk('https://aws.amazon.com/tags' in decodeJwt(await sign()))
})

test('discovery has the shape that relying parties need, per org', async (t) => {
  const { issuer } = await start(t)
  for (const org of ['example', 'rival']) {
    const found = (await get(`${issuer.url}/${org}/.well-known/openid-configuration`)).json()
    t.match(found, {
      issuer: `${issuer.url}/${org}`,
      jwks_uri: `${issuer.url}/${org}/.well-known/jwks`,
      response_types_supported: ['id_token'],
      subject_types_supported: ['public'],
      id_token_signing_alg_values_supported: ['RS256'],
      scopes_supported: ['openid'],
    })
  }
  t.equal((await get(`${issuer.url}/nobody/.well-known/openid-configuration`)).status, 404)
  t.equal((await get(`${issuer.url}/nobody/.well-known/jwks`)).status, 404)
})

test('the alias personal answers with the real slug, and signs nothing', async (t) => {
  const { issuer, sign } = await start(t)
  t.equal(
    (await get(`${issuer.url}/personal/.well-known/openid-configuration`)).json()['issuer'],
    `${issuer.url}/example`,
  )
  t.equal(
    (await get(`${issuer.url}/personal/.well-known/jwks`)).text,
    (await get(`${issuer.url}/example/.well-known/jwks`)).text,
  )
  await t.rejects(sign({ subject: { ...SUBJECT, org_name: 'personal' } }))
})

test('published keys are 2048-bit RSA for RS256, and nothing private is among them', async (t) => {
  const { issuer, sign } = await start(t)
  const { keys } = (await get(`${issuer.url}/example/.well-known/jwks`)).json()
  t.ok(Array.isArray(keys) && keys.length === 1)
  const [key] = Array.isArray(keys) ? keys : []
  t.strictSame(Object.keys(key).sort(), ['alg', 'e', 'kid', 'kty', 'n', 'use'])
  t.match(key, { kty: 'RSA', alg: 'RS256', use: 'sig', e: 'AQAB' })
  t.equal(Buffer.from(key.n, 'base64url').length, 256)
  t.strictSame(decodeProtectedHeader(await sign()), { alg: 'RS256', typ: 'JWT', kid: key.kid })
})

test('one org does not verify what another signed', async (t) => {
  const { issuer, sign } = await start(t)
  const jwt = await sign({ subject: RIVAL })
  t.equal(
    (await verify(jwt, `${issuer.url}/rival`, 'https://fly.io/rival'))['sub'],
    'rival:weather-cat:ancient-snow-4824',
  )
  const foreign = createRemoteJWKSet(new URL(`${issuer.url}/example/.well-known/jwks`))
  await t.rejects(jwtVerify(jwt, foreign), { code: 'ERR_JWKS_NO_MATCHING_KEY' })
})

test('after a rotation both keys verify, until the last token of the old one has expired', async (t) => {
  let now = 1_900_000_000_000
  const { issuer, signer, sign } = await start(t, () => now)
  const iss = `${issuer.url}/example`
  const kids = async (): Promise<unknown[]> => {
    const { keys } = (await get(`${iss}/.well-known/jwks`)).json()
    return Array.isArray(keys) ? keys.map(({ kid }) => kid) : []
  }
  const old = await sign()
  await signer.rotate('example')
  const fresh = await sign()
  t.not(decodeProtectedHeader(old).kid, decodeProtectedHeader(fresh).kid)
  t.strictSame(await kids(), [decodeProtectedHeader(fresh).kid, decodeProtectedHeader(old).kid])
  now += 599_000
  await t.resolves(verify(old, iss, 'https://fly.io/example', now))
  await t.resolves(verify(fresh, iss, 'https://fly.io/example', now))
  now += 61_000
  t.strictSame(await kids(), [decodeProtectedHeader(fresh).kid])
  await t.rejects(signer.rotate('nobody'))
})

test('with a public base, iss and jwks_uri begin with it', async (t) => {
  const { issuer, sign } = await start(t, Date.now, 'https://oidc.fly.io')
  t.equal(decodeJwt(await sign()).iss, 'https://oidc.fly.io/example')
  t.match((await get(`${issuer.url}/example/.well-known/openid-configuration`)).json(), {
    issuer: 'https://oidc.fly.io/example',
    jwks_uri: 'https://oidc.fly.io/example/.well-known/jwks',
  })
})

test('the public door signs nothing, whatever it is asked', async (t) => {
  const { issuer, path } = await start(t)
  const body = JSON.stringify({ subject: SUBJECT })
  const headers = { 'content-type': 'application/json' }
  for (const to of ['/sign', '/rotate/example', '/example/sign', '/', '/v1/tokens/oidc']) {
    for (const method of ['POST', 'PUT']) {
      const answer = await fetch(`${issuer.url}${to}`, { method, headers, body })
      t.equal(answer.status, 404, `${method} ${to}`)
      t.notMatch(await answer.text(), /eyJ/)
    }
  }
  t.equal(statSync(path).mode & 0o777, 0o600, 'and the private one is its owner’s')
})

test('only the issuer’s own files can sign', async (t) => {
  const signing = /SignJWT|CompactSign|generateKeyPair|createPrivateKey|importPKCS8|importJWK/
  const sources = ['flyd', 'mock'].flatMap((room) => readdirSync(`src/${room}`).map((name) => `src/${room}/${name}`))
  for (const source of sources) t.notMatch(readFileSync(source, 'utf8'), signing, source)
})

test('a name with a colon, or with anything else that sub could be misread by, is refused', async (t) => {
  const { sign } = await start(t)
  const bad: Partial<Subject>[] = [
    { org_name: 'example:weather-cat' },
    { app_name: 'weather-cat:x' },
    { machine_name: 'ancient:snow' },
    { app_name: '' },
    { app_name: '*' },
    { app_name: 'Weather' },
    { app_name: 'weather cat' },
    { app_name: 'weather/cat' },
    { app_name: '-weather' },
    { app_name: 'weather\n' },
    { app_name: 'wéather' },
    { app_name: 'x'.repeat(64) },
    { machine_name: 'a?b' },
    { machine_name: '' },
    { org_name: 'nobody' },
    { org_id: '0x1' },
    { machine_id: '3D8D377CE9E398' },
    { machine_version: 'latest' },
    { region: 'yyz,ams' },
    { image: 'a b' },
    { image_digest: 'sha256:xyz' },
  ]
  for (const part of bad) await t.rejects(sign({ subject: { ...SUBJECT, ...part } }), JSON.stringify(part))
  await t.resolves(sign(), 'and it goes on signing')
})

test('a request to sign that has not the right shape is refused', async (t) => {
  const good = { subject: SUBJECT }
  t.strictSame(parseSignRequest(good), { subject: SUBJECT, aud: undefined, awsPrincipalTags: false })
  const { region: _, ...lacking } = SUBJECT
  const bad: unknown[] = [
    null,
    [],
    'x',
    {},
    { subject: null },
    { subject: lacking },
    { subject: { ...SUBJECT, org_id: 29873298 } },
    { ...good, aud: '' },
    { ...good, aud: 1 },
    { ...good, aud: ['x'] },
    { ...good, aud: 'a\nb' },
    { ...good, aud: '\ud800' },
    { ...good, aud: 'x'.repeat(513) },
    { ...good, aws_principal_tags: 'yes' },
  ]
  for (const json of bad) t.throws(() => parseSignRequest(json), ClaimError, JSON.stringify(json)?.slice(0, 60))
  const more = parseSignRequest({ ...good, iss: 'https://evil', subject: { ...SUBJECT, exp: 9e9, sub: 'x' } })
  t.strictSame(more.subject, SUBJECT, 'whatever else is in it goes nowhere')
})

test('an issuer is not started with options that would make bad issuers', async (t) => {
  const good = { orgs: ['example'], signer: '/x/sign.sock' }
  t.strictSame(parseIssuerOptions(JSON.stringify(good)), { ...good, aliases: {} })
  const bad: unknown[] = [
    [],
    { signer: '/x' },
    { ...good, orgs: [] },
    { ...good, orgs: ['a:b'] },
    { ...good, orgs: ['../x'] },
    { ...good, signer: 'relative' },
    { ...good, base: 'https://oidc.fly.io/' },
    { ...good, base: 'https://oidc.fly.io/x' },
    { ...good, base: 'https://oidc.fly.io?x' },
    { ...good, base: 'ftp://oidc.fly.io' },
    { ...good, base: 'oidc.fly.io' },
    { ...good, port: 70_000 },
    { ...good, aliases: { personal: 'nobody' } },
    { ...good, aliases: { 'a:b': 'example' } },
    { ...good, orgs: ['example', 'rival'], aliases: { rival: 'example' } },
  ]
  for (const options of bad)
    t.throws(() => parseIssuerOptions(JSON.stringify(options)), TypeError, JSON.stringify(options))
})
