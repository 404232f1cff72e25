// One fixture for each finding: a Machine with exactly that fault, and the finding that names it.

import { chmodSync, chownSync, closeSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test, type Test } from 'tap'
import { type Diagnosis, type Examination, examine } from '../../src/doctor/examine.ts'
import { type Code, explain, FINDINGS } from '../../src/doctor/finding.ts'
import { IdentityError, type Trouble } from '../../src/identity/client.ts'
import { identityOptions } from '../../src/identity/options.ts'
import { hardeningOf } from '../../src/init/harden.ts'
import { listenUnix } from '../../src/os/listen.ts'
import { dotfly, start, until } from '../cli/dotfly.ts'
import { directory, issuer, mint } from '../identity/support.ts'

const ISS = 'https://oidc.example/example'
const SUB = 'example:weather-cat:ancient-snow-4824'
const ROLE = { AWS_ROLE_ARN: 'arn:aws:iam::123456789012:role/weather-cat' }
const AZURE = { AZURE_CLIENT_ID: '11111111-2222-4333-8444-555555555555', AZURE_TENANT_ID: 'tenant.example' }
const GCP = {
  GOOGLE_WORKLOAD_IDENTITY_PROVIDER: 'projects/1/locations/global/workloadIdentityPools/pool/providers/prov',
}

interface Bed {
  dir: string
  socket: string
}
type Change = Partial<Omit<Examination, 'identity'>> & {
  words?: Parameters<typeof identityOptions>[0]
  socket?: string
}
type Fixture = (bed: Bed, t: Test) => Change | Promise<Change>

/** A trust policy that is right for the Machine of the fixtures, with one thing changed. */
function trust(change: { conditions?: object; actions?: string[]; provider?: string; effect?: string } = {}): Change {
  const { provider = 'oidc.example/example', actions = ['sts:AssumeRoleWithWebIdentity'], effect = 'Allow' } = change
  const conditions = change.conditions ?? {
    ...aud(provider),
    StringLike: { [`${provider}:sub`]: 'example:weather-cat:*' },
  }
  const statement = {
    Sid: 'cats',
    Effect: effect,
    Principal: { Federated: `arn:aws:iam::123456789012:oidc-provider/${provider}` },
    Action: actions,
    Condition: conditions,
  }
  return { policy: { name: 'role.json', text: JSON.stringify({ Version: '2012-10-17', Statement: [statement] }) } }
}
const aud = (provider = 'oidc.example/example', value = 'sts.amazonaws.com'): object => ({
  StringEquals: { [`${provider}:aud`]: value },
})
const subject = (operator: string, value: string): Change =>
  trust({
    conditions:
      operator === 'StringEquals'
        ? { StringEquals: { 'oidc.example/example:aud': 'sts.amazonaws.com', 'oidc.example/example:sub': value } }
        : { ...aud(), [operator]: { 'oidc.example/example:sub': value } },
  })
const answers = (code: Trouble, status = 0): Change => ({
  request: () => Promise.reject(new IdentityError(code, code, status)),
})
/** AWS's token file as `make` leaves it. */
const file =
  (make: (path: string, bed: Bed) => void, env: Record<string, string> = ROLE): Fixture =>
  (bed) => {
    mkdirSync(join(bed.dir, 'fly'), { mode: 0o755 })
    make(join(bed.dir, 'fly/oidc_token'), bed)
    return { env }
  }
const write = (path: string, token: string, mode = 0o600): void => {
  writeFileSync(path, token)
  chmodSync(path, mode)
}
const good = (path: string): void => write(path, mint(600))

/** The finding, its fixture, and others that come with it of necessity. */
const FIXTURES: Record<Code, [Fixture, ...Code[]]> = {
  SOCKET_MISSING: [({ dir }) => ({ socket: join(dir, 'none') })],
  SOCKET_NOT_A_SOCKET: [
    ({ dir }) => {
      writeFileSync(join(dir, 'plain'), '')
      return { socket: join(dir, 'plain') }
    },
  ],
  SOCKET_FORBIDDEN: [() => answers('SOCKET_FORBIDDEN')],
  SOCKET_DEAD: [
    ({ dir }) => {
      closeSync(listenUnix(join(dir, 'dead'), 0o600))
      symlinkSync(join(dir, 'dead'), join(dir, 'link'))
      return { socket: join(dir, 'link') } // which connect follows
    },
  ],
  FLYD_UNREACHABLE: [() => answers('FLYD_DOWN', 502)],
  FLYD_SLOW: [() => answers('FLYD_SLOW', 504)],
  RATE_LIMITED: [() => answers('RATE_LIMITED', 429)],
  TOKEN_NOT_SERVED: [() => answers('NOT_SERVED', 404)],
  TOKEN_NOT_ALLOWED: [() => answers('NOT_ALLOWED', 403)],
  TOKEN_REFUSED: [() => answers('REQUEST_REFUSED', 422)],
  AUDIENCE_NOT_ALLOWED: [() => ({ ...answers('AUDIENCE_REFUSED', 403), audience: 'x' })],
  CLOCK_BEHIND: [() => ({ now: () => Date.now() - 60_000 })],
  CLOCK_AHEAD: [() => ({ now: () => Date.now() + 60_000 })],
  ISSUER_ALIAS: [() => ({ issuer: 'https://oidc.example/personal' })],
  ISSUER_SLASH: [() => ({ issuer: `${ISS}/` })],
  ISSUER_OTHER: [() => ({ issuer: 'https://oidc.example/Example' })],
  POLICY_UNREADABLE: [() => ({ policy: { name: 'role.json', text: '{' } })],
  POLICY_WITHOUT_WEB_IDENTITY: [() => trust({ actions: ['sts:AssumeRole'] })],
  AUDIENCE_UNCHECKED: [() => trust({ conditions: { StringLike: { 'oidc.example/example:sub': 'example:*' } } })],
  AUDIENCE_MISMATCH: [
    () =>
      trust({
        conditions: {
          ...aud(undefined, 'https://fly.io/example'),
          StringLike: { 'oidc.example/example:sub': 'example:*' },
        },
      }),
  ],
  SUB_UNCHECKED: [() => trust({ conditions: aud() })],
  SUB_STRING_EQUALS_WILDCARD: [() => subject('StringEquals', 'example:weather-cat:*')],
  SUB_WITHOUT_COLON: [() => subject('StringLike', 'example:weather-cat*')],
  SUB_ANYBODY: [() => subject('StringLike', '*:weather-cat:*')],
  SUB_ALIAS: [() => subject('StringLike', 'personal:weather-cat:*')],
  SUB_MISMATCH: [() => subject('StringLike', 'example:storm-dog:*')],
  SUB_FOR_ALL_VALUES: [() => subject('ForAllValues:StringLike', 'example:weather-cat:*')],
  CONDITION_OF_ANOTHER_PROVIDER: [
    () => trust({ conditions: { ...aud(), StringLike: { 'oidc.example/other:sub': 'example:weather-cat:*' } } }),
  ],
  TAG_SESSION_MISSING: [() => ({ ...trust(), words: { awsPrincipalTags: true } })],
  AZURE_ONE_MACHINE_EACH: [
    ({ dir }) => {
      mkdirSync(join(dir, 'fly'), { mode: 0o755 })
      write(join(dir, 'fly/azure_token'), mint(600))
      return { env: AZURE }
    },
  ],
  GCP_SUBJECT_TOO_LONG: [
    ({ dir }) => {
      mkdirSync(join(dir, 'fly'), { mode: 0o755 })
      write(join(dir, 'fly/gcp_token'), mint(600))
      return {
        env: GCP,
        request: () => Promise.resolve(mint(600, { sub: `example:${'a'.repeat(60)}:${'b'.repeat(63)}` })),
      }
    },
  ],
  FILE_MISSING: [() => ({ env: ROLE })],
  FILE_OWNER: [
    file((path) => {
      good(path)
      if (process.getuid?.() === 0) chownSync(path, 1234, 1234)
    }),
  ],
  FILE_MODE: [file((path) => write(path, mint(600), 0o666))],
  FILE_EXPIRED: [file((path) => write(path, mint(-60, { iat: Date.now() / 1000 - 660 })))],
  FILE_OLD: [file((path) => write(path, mint(20, { iat: Date.now() / 1000 - 580 })))],
  FILE_NOT_A_TOKEN: [file((path) => write(path, '{"error":"no"}'))],
  FILE_DIRECTORY: [
    file((path, { dir }) => {
      good(path)
      chmodSync(join(dir, 'fly'), 0o777)
    }),
  ],
  VARIABLE_MALFORMED: [() => ({ env: { AWS_ROLE_ARN: `${ROLE.AWS_ROLE_ARN}\n` } })],
  STATIC_KEYS_WIN: [file(good, { ...ROLE, AWS_ACCESS_KEY_ID: 'AKIAEXAMPLE' })],
  VARIABLE_KEPT: [() => ({ env: { ...GCP, GOOGLE_APPLICATION_CREDENTIALS: '/key.json' } })],
  PROFILE_MAY_WIN: [file(good, { ...ROLE, AWS_PROFILE: 'work' })],
  SESSION_NAME_INVALID: [file(good, { ...ROLE, AWS_ROLE_SESSION_NAME: 'x' })],
  HARDENING_OFF: [
    () => ({
      hardening: () => [
        { step: 'core', state: 'off', because: 'limits of process 1' },
        { step: 'lockdown', state: 'unknown', because: 'this kernel has none' },
        { step: 'dumpable', state: 'on', because: 'owner' },
      ],
    }),
  ],
}

async function diagnose(t: Test, fixture: Fixture): Promise<Diagnosis> {
  const dir = directory(t)
  const { socket } = await issuer(t)
  const { words = {}, socket: other = socket, env = {}, ...change } = await fixture({ dir, socket }, t)
  const identity = identityOptions({ tokenDir: join(dir, 'fly'), ...words }, {}, other)
  return examine({ env, identity, problems: {}, ...change })
}

for (const [code, [fixture, ...others]] of Object.entries(FIXTURES)) {
  test(`${code} is found, and nothing else`, async (t) => {
    if (code === 'FILE_OWNER' && process.getuid?.() !== 0) return
    const wanted = code === 'FILE_OWNER' ? [code] : [code, ...others]
    const { findings } = code === 'FILE_OWNER' ? await diagnose(t, withOwner(fixture)) : await diagnose(t, fixture)
    t.strictSame(
      findings.map((one) => one.code),
      wanted,
    )
    for (const found of findings) {
      const { what, fix } = explain(found)
      t.notMatch(`${what} ${fix}`, /undefined|\bNaN\b|[.]$/)
      t.ok(fix.length > 10 && what !== fix)
    }
  })
}

/** The owner of a file is known where it was asked for. */
const withOwner =
  (fixture: Fixture): Fixture =>
  async (bed, t) => {
    await fixture(bed, t)
    return { words: { tokenFile: [`${bed.dir}/fly/oidc_token,aud=x,uid=0`] } }
  }

test('a Machine that is right has no finding', async (t) => {
  const { findings, token } = await diagnose(t, async (bed, t) => ({
    ...(await file(good)(bed, t)),
    ...trust(),
    issuer: ISS,
  }))
  t.strictSame(findings, [])
  t.match(token, { iss: ISS, sub: SUB })
})

test('trust policies that are right, in every spelling', async (t) => {
  for (const change of [
    subject('StringEquals', SUB),
    subject('StringLike', 'example:*'),
    subject('StringLike', 'example:weather-cat:ancient-?now-*'),
    subject('ForAnyValue:StringLike', 'example:weather-cat:*'),
    trust({ actions: ['sts:*'] }),
  ])
    t.strictSame((await diagnose(t, () => change)).findings, [])
  const [text] = [trust().policy?.text ?? '']
  const role = JSON.stringify({ Role: { AssumeRolePolicyDocument: JSON.parse(text) } })
  t.strictSame((await diagnose(t, () => ({ policy: { name: 'x', text: role } }))).findings, [])
})

test('a provider registered under the alias, and sub by the alias', async (t) => {
  const { findings } = await diagnose(t, () => trust({ provider: 'oidc.example/personal' }))
  t.strictSame(
    findings.map(({ code }) => code),
    ['ISSUER_ALIAS'],
  )
})

test('a variable that names a good token is nobody’s trouble: init itself has set it, and its directory is not known here', async (t) => {
  const { findings, token } = await diagnose(t, ({ dir }) => {
    good(join(dir, 'mine'))
    return { env: { ...ROLE, AWS_WEB_IDENTITY_TOKEN_FILE: join(dir, 'mine') } }
  })
  t.strictSame(findings, [])
  t.match(token, { aud: 'sts.amazonaws.com' }, 'asked for as AWS wants it all the same')
  const old = await diagnose(t, ({ dir }) => {
    write(join(dir, 'mine'), mint(-60, { iat: Date.now() / 1000 - 660 }))
    return { env: { ...ROLE, AWS_WEB_IDENTITY_TOKEN_FILE: join(dir, 'mine') } }
  })
  t.strictSame(
    old.findings.map(({ code }) => code),
    ['VARIABLE_KEPT', 'FILE_EXPIRED'],
  )
})

test('an issuer that cannot be right is found without a token to compare it with', async (t) => {
  const codes = async (change: Change): Promise<string[]> =>
    (await diagnose(t, () => ({ ...answers('FLYD_DOWN', 502), ...change }))).findings.map(({ code }) => code)
  t.strictSame(await codes({ issuer: 'https://oidc.example/personal' }), ['FLYD_UNREACHABLE', 'ISSUER_ALIAS'])
  t.strictSame(await codes({ issuer: `${ISS}/` }), ['FLYD_UNREACHABLE', 'ISSUER_SLASH'])
  t.strictSame(await codes({ issuer: ISS }), ['FLYD_UNREACHABLE'])
  t.strictSame(await codes(trust({ provider: 'oidc.example/personal' })), ['FLYD_UNREACHABLE', 'ISSUER_ALIAS'])
})

test('what is on of the defences is said, and not only what is off', async (t) => {
  const hardening = [
    { step: 'core', state: 'on', because: 'limits of process 1' },
    { step: 'lockdown', state: 'unknown', because: 'this kernel has none' },
  ] as const
  t.strictSame((await diagnose(t, () => ({ hardening: () => hardening }))).hardening, hardening)
})

test('dotfly doctor: why a defence is unknown is said in the text as in the JSON', async (t) => {
  const dir = directory(t)
  writeFileSync(join(dir, 'macaroon'), `FlyV1 fm2_${'A1b2'.repeat(40)}\n`)
  const socket = join(dir, 'api')
  const source = ['--macaroon-file', join(dir, 'macaroon'), '--flyd', `unix:${join(dir, 'flyd')}`]
  const proxy = start(['proxy', ...source, '--socket', socket])
  t.teardown(() => proxy.kill('SIGKILL'))
  await until(proxy, /listening at/)
  const [{ stdout: text }, { stdout: json }] = await Promise.all([
    dotfly(['doctor', '--socket', socket]),
    dotfly(['doctor', '--socket', socket, '--json']),
  ])
  const { hardening }: Diagnosis = JSON.parse(json)
  const unknown = hardening.filter(({ state }) => state === 'unknown')
  // Whoever runs this: root's proxy has an owner that says nothing, and another user may not look at its mappings.
  t.ok(unknown.length > 0)
  t.equal(
    /^unknown ([^]*?)\n(?! {8})/m.exec(text)?.[1],
    unknown.map(({ step, because }) => `${step}: ${because}`).join('\n        '),
  )
})

test('a defence that nobody can see is unknown for a reason', async (t) => {
  const nobody = 2 ** 22 + 1 // more than a pid can be
  const found = new Map(hardeningOf(nobody, nobody).map(({ step, state, because }) => [step, `${state}: ${because}`]))
  t.equal(found.get('dumpable'), 'unknown: status of the proxy cannot be read')
  t.equal(found.get('proxy-user'), 'unknown: status of the proxy cannot be read')
  t.equal(found.get('core'), `unknown: limits of process ${nobody} cannot be read`)
  t.equal(found.get('secret-page'), 'unknown: mappings of the proxy cannot be read')
})

test('a socket in a directory that this user may not enter is forbidden, and no crash', async (t) => {
  const dir = directory(t)
  chmodSync(dir, 0o600)
  const identity = identityOptions({}, {}, join(dir, 'api'))
  // Root enters every directory.
  if (process.getuid?.() === 0) process.seteuid?.(65534)
  try {
    const { findings } = await examine({ env: {}, identity, problems: {} })
    t.match(findings, [{ code: 'SOCKET_FORBIDDEN', about: join(dir, 'api') }])
  } finally {
    if (process.getuid?.() === 0) process.seteuid?.(0)
    chmodSync(dir, 0o700)
  }
})

test('whatever client says of a socket, doctor knows it too', async (t) => {
  for (const [trouble, code] of [
    ['NOT_A_SOCKET', 'SOCKET_NOT_A_SOCKET'],
    ['SOCKET_PATH_INVALID', 'SOCKET_NOT_A_SOCKET'],
    ['NOBODY_LISTENS', 'SOCKET_DEAD'],
  ] as const)
    t.match((await diagnose(t, () => answers(trouble))).findings, [{ code }])
})

test('a directory behind a link is not safe', async (t) => {
  const { findings } = await diagnose(t, ({ dir }) => {
    mkdirSync(join(dir, 'real'))
    good(join(dir, 'real/oidc_token'))
    symlinkSync(join(dir, 'real'), join(dir, 'fly'))
    return { env: ROLE }
  })
  t.match(findings, [{ code: 'FILE_DIRECTORY', seen: 'DIRECTORY_IS_LINK' }])
})

test('dotfly doctor: text and JSON, and exit code 1 when something is wrong', async (t) => {
  const { socket } = await issuer(t)
  const dir = directory(t)
  t.match(await dotfly(['doctor', '--socket', socket, '--issuer', ISS]), {
    stderr: '',
    stdout: new RegExp(`sub ${SUB}`),
  })
  const wrong = await dotfly(['doctor', '--socket', socket, '--issuer', `${ISS}/`])
  t.match(wrong, { code: 1, stdout: /wrong +what you registered has .*\n +fix: register exactly https/ })
  const path = join(dir, 'role.json')
  writeFileSync(path, subject('StringEquals', 'example:*').policy?.text ?? '')
  const { code, stdout } = await dotfly(['doctor', '--json', '--socket', socket, '--trust-policy', path])
  t.equal(code, 1)
  const json: { ok: boolean; findings: { code: string; level: string }[] } = JSON.parse(stdout)
  t.match(json, { ok: false, token: { iss: ISS, sub: SUB }, hardening: Array })
  t.match(json.findings[0], { code: 'SUB_STRING_EQUALS_WILDCARD', level: 'wrong', what: String, fix: /StringLike/ })
  t.match(await dotfly(['doctor', '--issuer', 'x']), { code: 2 })
})

test('advice alone is no failure', async (t) => {
  t.strictSame(
    Object.entries(FINDINGS)
      .filter(([, { level }]) => level === 'advice')
      .map(([code]) => code),
    ['RATE_LIMITED', 'AZURE_ONE_MACHINE_EACH', 'FILE_OLD', 'VARIABLE_KEPT', 'PROFILE_MAY_WIN', 'HARDENING_OFF'],
  )
})
