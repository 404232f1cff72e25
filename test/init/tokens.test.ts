// Token files of dotfly init: there before the first instruction of the program, whoever it is, or it does not start.

import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { decodeJwt } from 'jose'
import tap, { test } from 'tap'
import type { Test } from 'tap'
import { ASKING } from '../../src/cli/init.ts'
import { arrange } from '../../src/identity/arrange.ts'
import { identityOptions } from '../../src/identity/options.ts'
import { startMock } from '../../src/mock/start.ts'
import { directory, keeperOf, kill, NODE, ROOT, type RunningInit, startInit, status } from './support.ts'
import type { InitStart } from './support.ts'

const skip = ROOT ? false : 'needs root, for a PID namespace'
const sh = (script: string): string[] => ['sh', '-c', script]
const PATH = '/usr/bin:/bin'
const ROLE = 'arn:aws:iam::123456789012:role/weather-cat'
const NOBODY = 'http://127.0.0.1:9'

/** One for all tests of this file: each asks it for tokens and leaves it as it is. */
const mock = await startMock({ dir: directory(tap), parties: false })
tap.teardown(() => mock.stop())

/** Init of the mock's first Machine. */
function startOn(t: Test, start: InitStart): Promise<RunningInit> {
  const machine = mock.file.machines[0]!
  return startInit(t, {
    flyd: machine.flyd_url,
    macaroon: ['--macaroon-file', machine.macaroon_file],
    ...start,
    env: { PATH, ...start.env },
  })
}

test(
  'the first instruction finds file and variables, the file is its user’s, and it is kept from then on',
  { skip },
  async (t) => {
    const dir = join(directory(t), 'fly')
    const other = join(directory(t), 'vault')
    const init = await startOn(t, {
      options: [
        '--token-dir',
        dir,
        '--user',
        '4242:4243',
        '--token-file',
        `${other},aud=https://vault.example,mode=0640`,
      ],
      env: { AWS_ROLE_ARN: ROLE, FLY_APP_NAME: 'weather-cat', FLY_MACHINE_ID: 'd891234ce56789', DOTFLY_X: '1' },
      command: sh('cat "$AWS_WEB_IDENTITY_TOKEN_FILE"; echo; env | sort; echo ready; exec sleep 30'),
    })
    await init.until(/^ready$/m)
    const [token = ''] = init.out().split('\n')
    t.match(decodeJwt(token), { aud: 'sts.amazonaws.com', sub: 'example:weather-cat:ancient-snow-4824' })
    t.match(init.out(), `AWS_WEB_IDENTITY_TOKEN_FILE=${dir}/oidc_token\n`)
    t.match(init.out(), 'AWS_ROLE_SESSION_NAME=weather-cat-d891234ce56789\n')
    t.notMatch(init.out(), /DOTFLY/)
    t.match(statSync(`${dir}/oidc_token`), { uid: 4242, gid: 4243, mode: 0o100600 })
    t.match(statSync(other), { uid: 4242, gid: 4243, mode: 0o100640 })
    t.match(decodeJwt(readFileSync(other, 'utf8')), { aud: 'https://vault.example' })
    await init.until(/Preparing to run/) // by another pipe than what the command says
    t.match(
      init.log(),
      /INFO \[token files\] .*oidc_token is fresh for (?:600\.0|5\d\d\.\d) s\n[^]*2 files are ready after[^]*Preparing/,
    )

    const keeper = keeperOf(init)
    t.ok(keeper > 0, 'it is a process of its own')
    t.notMatch(readFileSync(`/proc/${keeper}/environ`, 'latin1'), /./, 'which was not given the environment')
    t.equal(status(keeper, 'NoNewPrivs'), '1')
    t.equal(
      status(keeper, 'CapPrm'),
      '000000000000000b',
      'chown, dac_override and fowner, as it gives files to another',
    )
    rmSync(`${dir}/oidc_token`)
    kill(keeper, 'SIGKILL')
    await init.until(/WARN \[token files\] their keeper was killed by SIGKILL, starting it again in/)
    await init.until(/again in[^]*oidc_token is fresh/)
    t.match(statSync(`${dir}/oidc_token`), { uid: 4242, gid: 4243, mode: 0o100600 }, 'written by the next one')

    kill(init.pid, 'SIGTERM')
    t.equal((await init.ended).code, 143)
    t.ok(existsSync(other), 'files stay')
    t.match(init.log(), /Main child exited[^]*Starting clean up\.\n[^]*\[fly api proxy\] stopped/)
    t.equal([...init.log().matchAll(/starting it again/g)].length, 1, 'nothing was restarted while it ended')
  },
)

test('files are kept while the last programs end, and by nobody afterwards', { skip }, async (t) => {
  const dir = directory(t)
  const out = join(directory(t), 'out')
  writeFileSync(
    join(dir, 'goodbye.mjs'),
    `import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
const keepers = () => readdirSync('/proc').filter((pid) => {
  try { return /identity.main/.test(readFileSync('/proc/' + pid + '/cmdline')) && readFileSync('/proc/' + pid + '/cmdline').includes(process.argv[2]) } catch { return false }
})
process.on('SIGTERM', () => setTimeout(() => {
  writeFileSync(process.argv[3], String(keepers().length))
  process.exit()
}, 700))
setInterval(() => {}, 1000)
writeFileSync(process.argv[3] + '.ready', '')`,
  )
  const init = await startOn(t, {
    options: ['--token-dir', dir, '--kill-timeout', '60'],
    namespace: false,
    env: { AWS_ROLE_ARN: ROLE },
    // In one process: whatever it would start now would be told to end too.
    command: sh(
      `${NODE.join(' ')} ${dir}/goodbye.mjs ${dir} ${out} & until [ -e ${out}.ready ]; do sleep 0.05; done; exit 3`,
    ),
  })
  t.equal((await init.ended).code, 3, init.log())
  t.equal(readFileSync(out, 'utf8').trim(), '1', 'a program that says goodbye has its keeper')
  t.notMatch(init.log(), /starting it again/)
})

test('without a token: fail is one line and exit code 1, continue starts and goes on trying', { skip }, async (t) => {
  const dir = directory(t)
  const started = join(dir, 'started')
  const start = (wait: string, options: string[] = []): Promise<RunningInit> =>
    startInit(t, {
      flyd: NOBODY,
      options: ['--token-dir', `${dir}/fly`, '--wait-token', wait, ...options],
      env: { PATH, AWS_ROLE_ARN: ROLE },
      command: sh(
        `echo "$AWS_WEB_IDENTITY_TOKEN_FILE"; touch ${started}; until [ -e ${dir}/enough ]; do sleep 0.05; done`,
      ),
    })
  const failing = await start('2s')
  t.equal((await failing.ended).code, 1)
  t.notOk(existsSync(started), 'it was not started')
  t.equal(failing.log().match(/^ERROR (?!\[fly api proxy\]).*$/gm)?.length, 1, failing.log())
  t.match(
    failing.log(),
    /^ERROR no token in .*oidc_token after \d+(?:\.\d)? s \(FLYD_DOWN\): see dotfly doctor, or .*continue$/m,
  )
  t.notMatch(failing.log(), /Preparing to run|starting it again/)

  const going = await start('300ms,continue')
  await going.until(/WARN \[token files\] no new token for .*: flyd is unreachable, again in/)
  writeFileSync(`${dir}/enough`, '')
  t.equal((await going.ended).code, 0)
  t.ok(existsSync(started))
  t.equal(going.out(), `${dir}/fly/oidc_token\n`, 'the variable is there, and the file will be')
  t.match(going.log(), /ERROR \[token files\] going on without .*oidc_token\n[^]*Preparing to run/)
})

test('what cannot be set up is said in one line', { skip }, async (t) => {
  const dir = directory(t)
  const cases: [string, Record<string, string>, string[], number, RegExp][] = [
    ['a malformed ARN', { AWS_ROLE_ARN: 'cat' }, [], 1, /^ERROR AWS_ROLE_ARN is wrong \(ROLE_ARN_MALFORMED\)/m],
    ['a path', {}, ['--token-file', 'x'], 2, /^dotfly: token file x: the path/],
    ['a time', {}, ['--wait-token', 'soon'], 2, /^dotfly: waiting time soon is not/],
    ['a variable', { DOTFLY_TOKEN_DIR: 'fly' }, [], 2, /^dotfly: token directory fly is not/],
    ['an audience', {}, ['--token-file', `${dir}/t,aud=${'a'.repeat(513)}`], 2, /513 bytes long: 512 is the most/],
    [
      'a directory open to all',
      { AWS_ROLE_ARN: ROLE },
      ['--token-dir', `${dir}/open`],
      1,
      /ERROR \[token files\] .* everybody may write to its directory/,
    ],
  ]
  mkdirSync(`${dir}/open`)
  chmodSync(`${dir}/open`, 0o777)
  for (const [name, env, options, code, line] of cases) {
    t.test(name, async (t) => {
      const init = await startInit(t, {
        options: ['--token-dir', dir, ...options].slice(name === 'a variable' ? 2 : 0),
        env: { PATH, ...env },
        command: ['true'],
      })
      t.equal((await init.ended).code, code)
      t.match(init.log(), line)
      t.notMatch(init.log(), /Preparing/)
    })
  }
})

test('asked to end while it waits, it does not wait', { skip }, async (t) => {
  const init = await startInit(t, {
    flyd: NOBODY,
    options: ['--token-dir', directory(t), '--wait-token', '1m'],
    env: { PATH, AWS_ROLE_ARN: ROLE },
    command: ['true'],
  })
  await init.until(/no new token for/)
  const began = performance.now()
  kill(init.pid, 'SIGTERM')
  t.equal((await init.ended).code, 143)
  t.ok(performance.now() - began < 30_000)
  t.notMatch(init.log(), /Preparing to run/)
})

test('what the user has set stays as it is, and the log says so', { skip }, async (t) => {
  const dir = directory(t)
  const env = {
    AWS_ROLE_ARN: ROLE,
    AWS_WEB_IDENTITY_TOKEN_FILE: '/mine',
    AWS_ROLE_SESSION_NAME: 'me-myself',
    AWS_ACCESS_KEY_ID: 'AKIAEXAMPLE',
  }
  const init = await startOn(t, { options: ['--token-dir', dir], env, command: sh('env | grep AWS | sort') })
  t.equal((await init.ended).code, 0, init.log())
  t.equal(
    init.out(),
    Object.entries(env)
      .map(([name, value]) => `${name}=${value}\n`)
      .sort()
      .join(''),
  )
  t.match(init.log(), /WARN \[token files\] AWS_ACCESS_KEY_ID is set, and SDKs take it before any token/)
  t.match(init.log(), /WARN \[token files\] AWS_WEB_IDENTITY_TOKEN_FILE is set already and stays as it is/)
  t.notOk(existsSync(`${dir}/oidc_token`))
})

test('run.json asks as the environment does, and its user owns the file', { skip }, async (t) => {
  const dir = directory(t)
  const config = join(dir, 'run.json')
  writeFileSync(
    config,
    JSON.stringify({
      ImageConfig: { Env: ['PATH=/bin:/usr/bin'], User: 'daemon' },
      ExecOverride: sh('cat $AWS_WEB_IDENTITY_TOKEN_FILE $EXTRA | wc -c; env | grep -c DOTFLY'),
      ExtraEnv: { AWS_ROLE_ARN: ROLE, EXTRA: `${dir}/extra`, DOTFLY_TOKEN_FILE: `${dir}/extra,aud=x` },
    }),
  )
  const init = await startOn(t, { options: ['--config', config, '--token-dir', `${dir}/fly`], command: [] })
  await init.ended
  t.match(init.out(), /^[0-9]{4}\n0\n$/, init.log())
  t.equal(statSync(`${dir}/fly/oidc_token`).uid, 1, 'daemon')

  writeFileSync(config, JSON.stringify({ ExecOverride: ['true'], ExtraEnv: { DOTFLY_TOKEN_FILE: 'x' } }))
  const wrong = await startOn(t, { options: ['--config', config], command: [] })
  t.equal((await wrong.ended).code, 1)
  t.match(wrong.log(), /^ERROR token file x: the path is not/m)
})

test('a keeper that dies before it is ready is started again, and the program waits', { skip }, async (t) => {
  // There is no flyd yet, so it cannot be ready however slow we are.
  const door = join(directory(t), 'door')
  const init = await startOn(t, {
    flyd: `unix:${door}`,
    options: ['--token-dir', directory(t), '--wait-token', '1m'],
    env: { AWS_ROLE_ARN: ROLE },
    command: sh('wc -c < $AWS_WEB_IDENTITY_TOKEN_FILE'),
  })
  await init.until(/no new token for/)
  kill(keeperOf(init), 'SIGKILL')
  await init.until(/their keeper was killed by SIGKILL, starting it again/)
  symlinkSync((mock.file.machines[0]?.flyd_url ?? '').replace('unix:', ''), door)
  t.equal((await init.ended).code, 0, init.log())
  t.match(init.out(), /^[0-9]{4}\n$/)
  t.match(init.log(), /their keeper was killed by SIGKILL, starting it again[^]*1 file is ready[^]*Preparing to run/)
})

test('several sockets: the keeper asks where its audiences are allowed', { skip }, async (t) => {
  const dir = directory(t)
  const narrow = ['--socket', `${dir}/a,aud=other`, '--socket', `${dir}/b,uid=4242,aud=sts.amazonaws.com`]
  const machine = mock.file.machines[0]!
  // Its own --socket comes first, so that one is closed to this audience too.
  const init = await startInit(t, {
    flyd: machine.flyd_url,
    macaroon: ['--macaroon-file', machine.macaroon_file, ...narrow],
    options: ['--token-dir', `${dir}/fly`],
    env: { PATH, AWS_ROLE_ARN: ROLE },
    command: ['true'],
    socket: 'aud=another',
  })
  t.equal((await init.ended).code, 0, init.log())
  t.ok(existsSync(`${dir}/fly/oidc_token`))
})

test('who asks for no token gets no file, no process, and no code for either', { skip }, async (t) => {
  const dir = directory(t)
  const preload = join(dir, 'list.mjs')
  // Every module that this process loads, by URL.
  writeFileSync(
    preload,
    `import { registerHooks } from 'node:module'
import { appendFileSync } from 'node:fs'
registerHooks({ load: (url, context, next) => (appendFileSync('${dir}/loaded', url + '\\n'), next(url, context)) })`,
  )
  const run = async (env: Record<string, string>): Promise<string[]> => {
    rmSync(join(dir, 'loaded'), { force: true })
    const init = await startOn(t, {
      node: [`--import=${preload}`],
      options: ['--token-dir', `${dir}/fly`],
      env,
      command: sh('echo ready; exec sleep 30'),
    })
    await init.until(/^ready$/m)
    t.equal(keeperOf(init) > 0, 'AWS_ROLE_ARN' in env)
    kill(init.pid, 'SIGTERM')
    await init.ended
    return readFileSync(join(dir, 'loaded'), 'utf8').split('\n')
  }
  const without = await run({ AWS_REGION: 'us-east-1' })
  t.ok(
    without.some((url) => url.includes('src/init/init.ts')),
    'modules were seen',
  )
  // --token-dir was typed, so what judges it is there.
  t.same(
    without.filter((url) => /src\/identity\/(?!options|custom|cloud)|undici|init\/tokens/.test(url)),
    [],
  )
  t.notOk(existsSync(`${dir}/fly`))
  const asked = await run({ AWS_ROLE_ARN: ROLE })
  t.ok(asked.some((url) => url.includes('identity/arrange')))
  t.same(
    asked.filter((url) => /undici|identity\/(keeper|client)/.test(url)),
    [],
    'init speaks no HTTP',
  )
})

test('no cloud asks by a variable that init does not look at', async (t) => {
  const env: Record<string, string> = {
    AWS_ROLE_ARN: ROLE,
    GOOGLE_WORKLOAD_IDENTITY_PROVIDER: 'projects/1/locations/global/workloadIdentityPools/pool/providers/fly-io',
    AZURE_CLIENT_ID: '11111111-1111-1111-1111-111111111111',
    AZURE_TENANT_ID: '11111111-1111-1111-1111-111111111111',
    ANTHROPIC_FEDERATION_RULE_ID: 'r',
    ANTHROPIC_ORGANIZATION_ID: 'o',
  }
  const made = (variables: Record<string, string>): number => {
    const { files, settings, env, problems, notices } = arrange(variables, identityOptions({}, variables, ''))
    return files.length + settings.length + Object.keys(env).length + problems.length + notices.length
  }
  t.ok(arrange(env, identityOptions({}, env, '')).files.length === 4, 'all four')
  const left = Object.fromEntries(Object.entries(env).filter(([name]) => !ASKING.some((asking) => asking === name)))
  t.equal(made(left), 0)
})
