// google-auth-library, unmodified: a credential file with a token file, one with an executable, and a supplier.

import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'tap'
import type { Test } from 'tap'
import { startGcp } from '../../src/parties/gcp/gcp.ts'
import type { Gcp } from '../../src/parties/gcp/gcp.ts'
import { SEED_ACCOUNT, SEED_PROVIDER, seedProject } from '../../src/parties/gcp/pool.ts'
import { needRecord } from '../../src/parties/shape.ts'
import { runGuest, startTestIssuer } from './support.ts'

const FLY = 'https://oidc.fly.io'
const AUDIENCE = `//iam.googleapis.com/${SEED_PROVIDER}`

async function start(
  t: Test,
): Promise<{ gcp: Gcp; dir: string; token: string; credential: (source: object, own?: boolean) => Promise<string> }> {
  const issuer = await startTestIssuer(FLY)
  const gcp = await startGcp({ project: seedProject(issuer.iss), reach: { via: { [FLY]: issuer.url } } })
  const dir = await mkdtemp(join(tmpdir(), 'dotfly-gcp-'))
  t.teardown(() => Promise.all([issuer.close(), gcp.close(), rm(dir, { recursive: true })]))
  const credential = async (source: object, own = false): Promise<string> => {
    const file = join(dir, 'credential.json')
    const content = {
      type: 'external_account',
      audience: AUDIENCE,
      subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
      token_url: `${gcp.url}/v1/token`,
      credential_source: source,
      ...(own
        ? {
            service_account_impersonation_url: `${gcp.url}/v1/projects/-/serviceAccounts/${SEED_ACCOUNT}:generateAccessToken`,
          }
        : {}),
    }
    await writeFile(file, JSON.stringify(content))
    return file
  }
  return { gcp, dir, token: await issuer.sign({ aud: AUDIENCE }), credential }
}

const GUEST = new URL('./guest/gcp.ts', import.meta.url)

async function ask(t: Test, task: string, env: Record<string, string>): Promise<Record<string, unknown>> {
  const { code, out, err } = await runGuest(GUEST, task, {
    GOOGLE_CLOUD_PROJECT: 'example',
    METADATA_SERVER_DETECTION: 'none',
    ...env,
  })
  t.equal(code, 0, err)
  return needRecord(JSON.parse(out), 'what the script printed')
}

test('google-auth-library: a token file', async (t) => {
  const { gcp, dir, token, credential } = await start(t)
  const file = join(dir, 'token')
  await writeFile(file, token)
  for (const own of [false, true]) {
    const env = { GOOGLE_APPLICATION_CREDENTIALS: await credential({ file, format: { type: 'text' } }, own) }
    const got = await ask(t, 'default', { HOME: dir, ...env })
    t.equal(
      gcp.principal(String(got['token'])),
      own
        ? SEED_ACCOUNT
        : `principal://iam.googleapis.com/${SEED_PROVIDER.replace(/\/providers.*/, '')}/subject/example:weather-cat:ancient-snow-4824`,
      JSON.stringify(got['message']),
    )
  }
})

test('google-auth-library: an executable', async (t) => {
  const { gcp, dir, token, credential } = await start(t)
  const program = join(dir, 'token.sh')
  const answer = {
    version: 1,
    success: true,
    token_type: 'urn:ietf:params:oauth:token-type:id_token',
    id_token: token,
    expiration_time: Math.floor(Date.now() / 1000) + 600,
  }
  await writeFile(program, `#!/bin/sh\ncat <<'END'\n${JSON.stringify(answer)}\nEND\n`)
  await chmod(program, 0o700)
  const file = await credential({ executable: { command: program, timeout_millis: 5000 } }, true)
  const allowed = await ask(t, 'default', {
    HOME: dir,
    GOOGLE_APPLICATION_CREDENTIALS: file,
    GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES: '1',
  })
  t.equal(gcp.principal(String(allowed['token'])), SEED_ACCOUNT, JSON.stringify(allowed['message']))
  t.match(await ask(t, 'default', { HOME: dir, GOOGLE_APPLICATION_CREDENTIALS: file }), {
    message: /GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES/,
  })
})

test('google-auth-library: a supplier, and how refusals come out', async (t) => {
  const { gcp, dir, token } = await start(t)
  const got = await ask(t, 'supplier', { HOME: dir, AUDIENCE, TOKEN: token, TOKEN_URL: `${gcp.url}/v1/token` })
  t.match(got, {
    target: { message: /^Error code invalid_target: The target service/ },
    grant: { message: /^Error code invalid_grant:/ },
  })
  t.match(gcp.principal(String(needRecord(got['good'], 'good')['token'])), /ancient-snow-4824$/)
})
