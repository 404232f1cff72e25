// All of them together, as dotfly mock runs them.

import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'tap'
import type { Test } from 'tap'
import { startParties } from '../../src/parties/start.ts'
import type { Parties } from '../../src/parties/start.ts'
import { startTestIssuer } from './support.ts'
import type { TestIssuer } from './support.ts'

async function start(t: Test, base?: string, file?: string): Promise<{ issuer: TestIssuer; parties: Parties }> {
  const issuer = await startTestIssuer(base)
  const parties = await startParties({
    issuer: { base: base ?? issuer.url, url: issuer.url },
    ...(file === undefined ? {} : { file }),
  })
  t.teardown(() => Promise.all([issuer.close(), parties.close()]))
  return { issuer, parties }
}

const assume = async (url: string, role: string, token: string): Promise<number> =>
  (
    await fetch(url, {
      method: 'POST',
      body: new URLSearchParams({
        Action: 'AssumeRoleWithWebIdentity',
        Version: '2011-06-15',
        RoleArn: role,
        RoleSessionName: 'cat',
        WebIdentityToken: token,
      }),
    })
  ).status

test('one issuer, known by its public name or by its loopback address', async (t) => {
  for (const base of ['https://oidc.fly.io', undefined]) {
    const { issuer, parties } = await start(t, base)
    const { sts, gcp, generic } = parties.json
    t.equal(await assume(sts.url, sts.role_arn, await issuer.sign()), 200, 'AWS')
    const exchanged = await fetch(`${gcp.url}/v1/token`, {
      method: 'POST',
      body: new URLSearchParams({
        grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
        audience: gcp.audience,
        scope: 'x',
        requested_token_type: 'urn:ietf:params:oauth:token-type:access_token',
        subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
        subject_token: await issuer.sign({ aud: gcp.audience }),
      }),
    })
    t.equal(exchanged.status, 200, 'Google')
    const whoami = await fetch(`${generic.url}/whoami`, {
      headers: { authorization: `Bearer ${await issuer.sign({ aud: generic.audience })}` },
    })
    t.equal(whoami.status, 200, 'anybody')
    for (const party of Object.values(parties.json)) t.match(party.url, /^https?:\/\/127\.0\.0\.1:\d+$/)
    t.match(parties.azureCa, /^-----BEGIN CERTIFICATE-----\n/)
  }
})

test('more roles from a file', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'dotfly-parties-'))
  t.teardown(() => rm(dir, { recursive: true }))
  const file = join(dir, 'parties.json')
  const arn = 'arn:aws:iam::123456789012:role/dogs'
  const statement = {
    Effect: 'Allow',
    Principal: { Federated: 'arn:aws:iam::123456789012:oidc-provider/{issuer_key}/example' },
    Action: 'sts:AssumeRoleWithWebIdentity',
    Condition: { StringLike: { '{issuer_key}/example:sub': 'example:dog:*' } },
  }
  await writeFile(
    file,
    JSON.stringify({
      iam: { roles: [{ arn, trust: { Version: '2012-10-17', Statement: [statement] } }] },
      azure: [],
      gcp: {},
    }),
  )
  const { issuer, parties } = await start(t, undefined, file)
  const { url, role_arn } = parties.json.sts
  t.equal(await assume(url, arn, await issuer.sign({ sub: 'example:dog:rex' })), 200)
  t.equal(await assume(url, arn, await issuer.sign()), 403)
  t.equal(await assume(url, role_arn, await issuer.sign()), 200, 'the seed stays')
  for (const text of ['{', '[]', '{"roles":[]}', '{"iam":{"roles":[{"arn":"x"}]}}']) {
    await writeFile(file, text)
    await t.rejects(
      startParties({ issuer: { base: issuer.url, url: issuer.url }, file }),
      { name: 'ConfigError', message: /parties\.json: / },
      text,
    )
  }
})
