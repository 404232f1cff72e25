// The units under a real systemd. Prints TAP. Needs root, systemd-container, systemd, util-linux and curl.

import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { CREDENTIAL, leaks } from '../support/corpus.ts'
import { healthy, sized, startFlyd, type FlydConnection, type RawFlyd, type Seen } from '../support/flyd.ts'
import { dial, whileCalling, type Count } from './callers.ts'
import { boot, type Container } from './container.ts'

const WATCHDOG = 6 // s, in place of the unit's 30
const WAIT = 60_000 // ms for anything that must come
const TOKEN_LIFE = 15 // s
const API = '/.fly/api'
const CURL = `curl -sS --max-time 30 --unix-socket ${API} -X POST http://localhost/v1/tokens/oidc`

const programs = ['systemd-nspawn', 'systemd-analyze', 'nsenter', 'unshare', 'setpriv', 'curl']
const missing = programs.filter((program) => !found(program))
if (missing.length > 0 || process.geteuid?.() !== 0) {
  process.stdout.write(`1..0 # SKIP test:systemd needs root and ${missing.join(', ') || 'its programs'}\n`)
  process.exit(process.env['CI'] === 'true' ? 1 : 0)
}

const ends: (() => Promise<void> | void)[] = []
const scope = { teardown: (end: () => Promise<void> | void): void => void ends.push(end) }
let count = 0
let running: Container | undefined
let failures = 0
function check(holds: boolean, name: string, why = ''): void {
  process.stdout.write(`${holds ? 'ok' : 'not ok'} ${++count} - ${name}\n`)
  if (holds) return
  failures++
  process.stdout.write(why.replace(/^/gm, '#   ').replace(/\s*$/, '\n'))
}
const say = (text: string): void => void process.stdout.write(`# ${text}\n`)
const told = (calls: Count): string =>
  `${calls.answered} answered, ${calls.refused} refused, ${calls.broken} broken off`

const unit = (name: string): string => readFileSync(new URL(`../../systemd/${name}`, import.meta.url), 'utf8')

/** Two ordinary users; one of them may dial. */
const USERS = { 'etc/sysusers.d/guests.conf': 'u guest - - /\nu stranger - - /\nm guest fly\n' }

try {
  await whereFlydHasAnAddress()
  await whereFlydHasASocket()
} catch (error) {
  check(false, 'the run went through', error instanceof Error ? (error.stack ?? error.message) : String(error))
  const journal = await running?.sh("journalctl --no-pager -n 40 -u 'dotfly*'")
  process.stdout.write((journal?.stdout ?? '').replace(/^/gm, '#   '))
} finally {
  for (const end of ends.toReversed()) await end()
}
process.stdout.write(`1..${count}\n`)
process.exitCode = failures > 0 ? 1 : 0

async function whereFlydHasAnAddress(): Promise<void> {
  say('flyd at an address, the macaroon in the credential store')
  const flyd = await startFlyd(scope, 'tcp')
  flyd.answer = mint
  const door = directory()
  const container = await boot(
    {
      ...USERS,
      'etc/credstore/dotfly.macaroon': { content: `${CREDENTIAL}\n`, mode: 0o600 },
      'etc/dotfly/dotfly.env': `DOTFLY_FLYD=${flyd.url}\n`,
      'etc/dotfly/keep-guest.env': 'AWS_ROLE_ARN=arn:aws:iam::123456789012:role/cat\n',
      'etc/systemd/system/dotfly.service.d/watchdog.conf': `[Service]\nWatchdogSec=${WATCHDOG}s\n`,
      'etc/systemd/system/dotfly-keep@.service.d/watchdog.conf': `[Service]\nWatchdogSec=${WATCHDOG}s\n`,
    },
    door,
  )
  running = container
  scope.teardown(() => container.stop())
  await gates(container)
  await activation(container, flyd)
  await secrecy(container)
  await encrypted(container)
  await crashes(container)
  await watchdog(container)
  await upgrade(container, flyd)
  await tokenFiles(container)
  await anotherSocket(container)
  await end(container, flyd)
}

/** What systemd itself says of the units, read as strictly as it can be. */
async function gates(container: Container): Promise<void> {
  const units = '/etc/systemd/system'
  const verify = (name: string): Promise<{ code: number; stderr: string }> =>
    container.sh(`systemd-analyze verify --man=no ${name}`)
  const exposure = async (name: string): Promise<number> => {
    const text = await container.must(`systemd-analyze security --offline=true --no-pager ${name}`)
    return Number(/Overall exposure level for \S+: ([0-9.]+)/.exec(text)?.[1])
  }
  for (const name of ['dotfly.socket', 'dotfly.service', 'dotfly-keep@guest.service']) {
    const { code, stderr } = await verify(name)
    check(code === 0 && stderr === '', `systemd-analyze verify says nothing of ${name}`, stderr)
  }
  await put(container, `${units}/control.service`, `${unit('dotfly.service')}\n[Service]\nProtectHomme=yes\n`)
  const typo = await verify('control.service')
  check(typo.code === 0 && typo.stderr.includes('ProtectHomme'), 'control: its exit code is 0 for a mistyped key')

  const limits: [name: string, text: string, most: number][] = [
    ['dotfly.service', unit('dotfly.service'), 1.1],
    ['with flyd-network.conf', `${unit('dotfly.service')}\n${unit('dotfly.service.d/flyd-network.conf')}`, 1.2],
    ['with flyd-vsock.conf', `${unit('dotfly.service')}\n${unit('dotfly.service.d/flyd-vsock.conf')}`, 1.0],
    ['with flyd-unix.conf', `${unit('dotfly.service')}\n${unit('dotfly.service.d/flyd-unix.conf')}`, 0.5],
    ['dotfly-keep@.service', unit('dotfly-keep@.service'), 0.5],
  ]
  for (const [name, text, most] of limits) {
    const file = `${units}/control@x.service`
    await put(container, file, text)
    const measured = await exposure(file)
    check(measured <= most, `exposure of ${name}: ${measured}, at most ${most}`)
    await put(container, file, `${text}\n[Service]\nSystemCallFilter=\n`)
    const weaker = await exposure(file)
    check(weaker > most, `control: without its system call filter ${weaker} is too much`)
  }
  await container.must(`rm ${units}/control*.service && systemctl daemon-reload`)
}

async function activation(container: Container, flyd: RawFlyd): Promise<void> {
  await container.must('systemctl start dotfly.socket')
  check((await property(container, 'ActiveState')) === 'inactive', 'the socket is there before the service')
  const file = await container.must(`stat -c '%a %U %G' ${API}`)
  check(file === '660 root fly', 'the socket is 0660, root, group fly', file)
  const outsider = await container.sh(CURL, 'stranger')
  check(outsider.code === 7 && outsider.stdout === '', 'a user outside the group is refused by the kernel')
  check((await property(container, 'ActiveState')) === 'inactive', 'and starts nothing')
  const token = await container.sh(CURL, 'guest')
  check(/^[\w-]+\.[\w-]+\.[\w-]+$/.test(token.stdout), 'one in it gets a token, and starts the service', token.stderr)
  check(
    flyd.requests.some(({ raw }) => raw.includes(CREDENTIAL)),
    'flyd saw the credential that systemd handed over',
  )
  const status = await property(container, 'StatusText')
  check(status === `serving ${API}`, 'systemctl status tells what is served', status)
}

async function secrecy(container: Container): Promise<void> {
  const { launcher, trusted } = await processes(container)
  const everywhere = await container.must(
    'systemctl show dotfly.service dotfly.socket; journalctl -b --no-pager -o export; cat /proc/*/environ /proc/*/cmdline 2>/dev/null || :',
  )
  check(
    everywhere.includes(`serving ${API}`) && leaks(Buffer.from(everywhere)) < 0,
    'no show, journal, environment or command line has it',
  )
  const stored = await container.must('cat /etc/credstore/dotfly.macaroon /run/credentials/dotfly.service/macaroon')
  check(leaks(Buffer.from(stored)) >= 0, 'control: the search finds it where it is')
  const theft = await container.sh('cat /run/credentials/dotfly.service/macaroon', 'guest')
  check(theft.code !== 0 && theft.stdout === '', 'a guest cannot read it there')

  const journal = await container.must('journalctl -u dotfly.service --no-pager')
  check(!journal.includes('NO_SECRET_MEMORY'), 'the sandbox lets it have secret memory', journal)
  check((await container.must(`grep -c secretmem /proc/${trusted}/maps`)) !== '0', 'and there it is')
  check((await container.must(`wc -c < /proc/${trusted}/environ`)) === '0', 'the trusted process has no environment')
  for (const pid of [launcher, trusted]) {
    const state = await container.must(`grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/${pid}/status`)
    const [uid = 0] = /^Uid:\s+(\d+)/m.exec(state)?.slice(1).map(Number) ?? []
    const none = /CapEff:\s+0+\n/.test(`${state}\n`) && /CapBnd:\s+0+\n/.test(`${state}\n`)
    const shut = /NoNewPrivs:\s+1/.test(state) && /Seccomp:\s+2/.test(state)
    check(
      uid >= 61_184 && uid <= 65_519 && none && shut,
      `${pid === launcher ? 'launcher' : 'trusted process'}: a user of its own, no capability, a filter`,
      state,
    )
  }
}

/** As docs/systemd.md has it: on disk it is of no use to another computer. */
async function encrypted(container: Container): Promise<void> {
  const plain = '/etc/credstore/dotfly.macaroon'
  const store = '/etc/credstore.encrypted'
  const conf = '/etc/systemd/system/dotfly.service.d/encrypted.conf'
  await container.must(
    `mkdir -p -m 0700 ${store} && systemd-creds encrypt --name=macaroon ${plain} ${store}/dotfly.macaroon`,
  )
  await put(container, conf, '[Service]\nLoadCredential=\nLoadCredentialEncrypted=macaroon:dotfly.macaroon\n')
  await container.must(`mv ${plain} /root/macaroon && systemctl daemon-reload && systemctl restart dotfly.service`)
  const token = await container.sh(CURL, 'guest')
  const stored = await container.must(`cat ${store}/dotfly.macaroon`)
  check(
    /^[\w-]+\.[\w-]+\.[\w-]+$/.test(token.stdout) && leaks(Buffer.from(stored)) < 0,
    'an encrypted credential serves',
    token.stderr,
  )
  await container.must(
    `mv /root/macaroon ${plain} && rm ${conf} && systemctl daemon-reload && systemctl restart dotfly.service`,
  )
}

async function crashes(container: Container): Promise<void> {
  const before = await processes(container)
  const calls = await whileCalling(`${container.root}${API}`, async () => {
    await sleep(300)
    await container.must(`kill -KILL ${before.trusted}`)
    await until('a new trusted process', async () => (await processes(container)).trusted !== before.trusted)
    await sleep(300)
  })
  check(calls.refused === 0 && calls.answered > 0, `SIGKILL of the trusted process refuses nobody: ${told(calls)}`)
  const between = await processes(container)
  check(between.launcher === before.launcher, 'its launcher stayed')
  const status = await property(container, 'StatusText')
  check(status === `serving ${API}, restarts of its process: 1`, 'and the status tells of it', status)

  const more = await whileCalling(`${container.root}${API}`, async () => {
    await sleep(300)
    await container.must(`kill -KILL ${between.launcher}`)
    await until('a new launcher', async () => (await processes(container)).launcher !== between.launcher)
    await sleep(300)
  })
  check(more.refused === 0 && more.answered > 0, `SIGKILL of the launcher refuses nobody: ${told(more)}`)
  check((await property(container, 'NRestarts')) === '1', 'systemd restarted the service')
}

async function watchdog(container: Container): Promise<void> {
  const before = await processes(container)
  const began = performance.now()
  let took = 0
  const calls = await whileCalling(`${container.root}${API}`, async () => {
    await container.must(`kill -STOP ${before.trusted}`)
    await until('a restart by the watchdog', async () => (await processes(container)).launcher !== before.launcher)
    took = performance.now() - began
  })
  const journal = await container.must('journalctl -u dotfly.service --no-pager')
  check(
    /Watchdog timeout \(limit 6s\)/.test(journal),
    `SIGSTOP of the trusted process is noticed: ${(took / 1000).toFixed(1)} s`,
  )
  check(calls.refused === 0 && calls.answered > 0, `and refuses nobody: ${told(calls)}`)
  check(
    journal.includes('does not answer') || (await property(container, 'NRestarts')) === '2',
    'systemd restarted the service',
  )

  await put(container, '/etc/systemd/system/dotfly.service.d/watchdog.conf', '[Service]\nWatchdogSec=0\n')
  await container.must('systemctl daemon-reload && systemctl restart dotfly.service')
  const again = await processes(container)
  await container.must(`kill -STOP ${again.trusted}`)
  await sleep(took * 1.5)
  const after = await processes(container)
  check(
    after.launcher === again.launcher && after.trusted === again.trusted,
    'control: without WatchdogSec= it stays as it is',
  )
  await container.must(`kill -CONT ${again.trusted}`)
}

async function upgrade(container: Container, flyd: RawFlyd): Promise<void> {
  flyd.answer = (seen, connection) => void setTimeout(() => mint(seen, connection), 300)
  const before = await processes(container)
  const asked = flyd.requests.length
  const calls = await whileCalling(`${container.root}${API}`, async () => {
    await sleep(500)
    await container.must('systemctl restart dotfly.service')
    await sleep(500)
  })
  flyd.answer = mint
  check((await processes(container)).launcher !== before.launcher, 'systemctl restart starts a new one')
  // A connection whose request was not read yet when the end came is closed without an answer: flyd never saw it.
  const seen = flyd.requests.length - asked
  check(
    calls.refused === 0 && calls.answered === seen,
    `an upgrade refuses nobody, and all ${seen} that flyd saw have their answer: ${told(calls)}`,
  )
}

async function tokenFiles(container: Container): Promise<void> {
  const keep = 'dotfly-keep@guest.service'
  const file = '/run/dotfly/guest/oidc_token'
  const units = '/etc/systemd/system'
  await put(
    container,
    `${units}/reader.service`,
    `[Unit]\nRequires=${keep}\nAfter=${keep}\n[Service]\nType=oneshot\nUser=guest\nExecStart=/usr/bin/test -s ${file}\n`,
  )
  await put(
    container,
    `${units}/once.service`,
    `[Service]
Type=oneshot
User=guest
SupplementaryGroups=fly
RuntimeDirectory=once
ExecStartPre=dotfly keep --once --token-file /run/once/token,aud=https://vault.example
ExecStart=/usr/bin/test -s /run/once/token
`,
  )
  await container.must('systemctl daemon-reload')
  const reader = await container.sh('systemctl start reader.service')
  check(reader.code === 0, 'a unit that requires the keeper finds its token', reader.stderr)
  const once = await container.sh('systemctl start once.service')
  check(once.code === 0, 'and so does one that writes it itself with --once', once.stderr)
  const rights = await container.must(`stat -c '%a %U %G' ${file} /run/dotfly/guest`)
  check(rights === '600 guest guest\n700 guest guest', 'the file is its reader’s alone', rights)
  check((await container.sh(`cat ${file}`, 'stranger')).code !== 0, 'another user cannot read it')

  const first = await container.must(`cat ${file}`)
  let absent = 0
  let looked = 0
  await until('a fresh token', async () => {
    looked++
    const { code, stdout } = await container.sh(`cat ${file}`, 'guest')
    if (code !== 0) absent++
    return code === 0 && stdout !== first
  })
  await container.must(`systemctl restart ${keep}`)
  const pid = await container.must(`systemctl show -p MainPID --value ${keep}`)
  await container.must(`kill -STOP ${pid}`)
  await until('a restart of the keeper by the watchdog', async () => {
    looked++
    if ((await container.sh(`cat ${file}`, 'guest')).code !== 0) absent++
    const now = await container.must(`systemctl show -p ActiveState -p MainPID --value ${keep} | sort`)
    return /^[1-9][0-9]*\nactive$/.test(now) && !now.startsWith(`${pid}\n`)
  })
  check(absent === 0, `through a refresh, a restart and a watchdog it was there each of the ${looked} times`)
  await container.must(`systemctl stop ${keep}`)
  check((await container.sh(`test -e ${file}`)).code !== 0, 'a stopped keeper leaves no token')
}

async function anotherSocket(container: Container): Promise<void> {
  const units = '/etc/systemd/system'
  const path = '/run/guest.sock'
  const uid = await container.must('id -u guest')
  const env = readFileSync(`${container.root}/etc/dotfly/dotfly.env`, 'utf8')
  const ask = (aud: string, user: string): Promise<{ stdout: string }> =>
    container.sh(
      `curl -sS --max-time 30 --unix-socket ${path} -X POST http://localhost/v1/tokens/oidc --data '{"aud":"${aud}"}'`,
      user,
    )
  await put(
    container,
    `${units}/dotfly-guest.socket`,
    `[Socket]\nListenStream=${path}\nSocketMode=0666\nService=dotfly.service\n`,
  )
  await container.must(
    'systemctl daemon-reload && systemctl stop dotfly.service && systemctl start dotfly-guest.socket',
  )
  const unnamed = await container.sh('systemctl start dotfly.service')
  const journal = await container.must('journalctl -u dotfly.service --no-pager')
  check(
    unnamed.code !== 0 && journal.includes(`hands over ${path} (dotfly-guest.socket), which no --socket names`),
    'a socket without settings is refused with one line',
  )
  const setting = `DOTFLY_SOCKET="${API};${path},uid=${uid},policy=token,aud=sts.amazonaws.com"\n`
  await put(container, '/etc/dotfly/dotfly.env', `${env}${setting}`)
  await container.must('systemctl restart dotfly.service')
  const good = await ask('sts.amazonaws.com', 'guest')
  check(/^[\w-]+\.[\w-]+\.[\w-]+$/.test(good.stdout), 'a second socket mints for its user', good.stdout)
  check((await ask('other', 'guest')).stdout.includes('AUDIENCE_NOT_ALLOWED'), 'and for its audience alone')
  check((await ask('sts.amazonaws.com', 'stranger')).stdout.includes('CALLER_NOT_ALLOWED'), 'and for nobody else')

  await put(container, `${units}/dotfly.service.d/users.conf`, '[Service]\nPrivateUsers=yes\n')
  await container.must('systemctl daemon-reload && systemctl restart dotfly.service')
  check(
    (await ask('sts.amazonaws.com', 'guest')).stdout.includes('CALLER_NOT_ALLOWED'),
    'control: with PrivateUsers= no user would be known',
  )
  await put(container, `${units}/dotfly.service.d/users.conf`, '[Service]\nSystemCallFilter=~memfd_secret\n')
  await container.must('systemctl daemon-reload && systemctl restart dotfly.service')
  check(
    (await container.must('journalctl -u dotfly.service --no-pager')).includes('NO_SECRET_MEMORY'),
    'control: with a filter that forbids secret memory, it is said',
  )
}

async function end(container: Container, flyd: RawFlyd): Promise<void> {
  flyd.answer = (seen, connection) => void setTimeout(() => mint(seen, connection), 1500)
  const asked = flyd.requests.length
  const open = dial(`${container.root}${API}`)
  await until('a request in flight', () => Promise.resolve(flyd.requests.length > asked))
  await container.must('systemctl stop dotfly.socket dotfly-guest.socket dotfly.service')
  const answer = await open
  check(typeof answer === 'string' && answer.startsWith('HTTP/1.1 200 '), 'a stop lets what is in flight finish')
  check((await property(container, 'Result')) === 'success', 'and is clean', await property(container, 'Result'))
  const closed = await whileCalling(`${container.root}${API}`, () => sleep(100))
  check(
    closed.refused > 0 && closed.answered === 0,
    `control: callers count refusals where there are any: ${told(closed)}`,
  )
}

async function whereFlydHasASocket(): Promise<void> {
  say('flyd at a Unix socket, the macaroon handed to the system by its host')
  const flyd = await startFlyd(scope, 'unix')
  const door = dirname(flyd.url.slice('unix:'.length))
  const name = flyd.url.slice(flyd.url.lastIndexOf('/') + 1)
  const handed = join(directory(), 'macaroon')
  writeFileSync(handed, `${CREDENTIAL}\n`, { mode: 0o600 })
  const container = await boot(
    {
      ...USERS,
      'etc/dotfly/dotfly.env': `DOTFLY_FLYD=unix:/srv/door/${name}\n`,
      'etc/systemd/system/dotfly.service.d/flyd-unix.conf': unit('dotfly.service.d/flyd-unix.conf'),
    },
    door,
    handed,
  )
  running = container
  scope.teardown(() => container.stop())
  await container.must(`chmod 0711 /srv/door && chmod 0666 /srv/door/${name} && systemctl start dotfly.socket`)
  const token = await container.sh(CURL, 'guest')
  check(/^[\w-]+\.[\w-]+\.[\w-]+$/.test(token.stdout), 'a guest gets a token', token.stderr)
  check(
    flyd.requests.some(({ raw }) => raw.includes(CREDENTIAL)),
    'flyd saw the credential that the host handed over',
  )
  const { trusted } = await processes(container)
  const links = await container.must(`cat /proc/${trusted}/net/dev`)
  const names = [...links.matchAll(/^\s*(\S+):/gm)].map(([, link = '']) => link)
  check(names.join() === 'lo', 'the trusted process has no network but its own loopback', names.join())
}

/** A token that is good for a little while, each another. */
function mint(seen: Seen, connection: FlydConnection): void {
  if (seen.target !== '/v1/tokens/oidc') return healthy(seen, connection)
  const iat = Math.floor(Date.now() / 1000)
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
  const claims = { iss: 'https://oidc.example/org', iat, nbf: iat, exp: iat + TOKEN_LIFE, jti: String(Math.random()) }
  const token = `${part({ alg: 'RS256', typ: 'JWT' })}.${part(claims)}.${part({ no: 'signature' })}`
  connection.socket.write(sized(token, 'text/plain; charset=utf-8'))
}

async function processes(container: Container): Promise<{ launcher: string; trusted: string }> {
  let launcher = ''
  let trusted = ''
  await until('launcher and trusted process', async () => {
    launcher = await property(container, 'MainPID')
    if (launcher === '0' || (await property(container, 'ActiveState')) !== 'active') return false
    trusted = (await container.sh(`cat /proc/${launcher}/task/${launcher}/children`)).stdout.trim()
    return /^[0-9]+$/.test(trusted)
  })
  return { launcher, trusted }
}

function property(container: Container, name: string): Promise<string> {
  return container.must(`systemctl show -p ${name} --value dotfly.service`)
}

async function put(container: Container, path: string, content: string): Promise<void> {
  await container.must(`mkdir -p ${dirname(path)} && cat > ${path} <<'END_OF_FILE'\n${content}END_OF_FILE\n`)
}

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + WAIT
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`${what} did not come`)
    await sleep(50)
  }
}

function directory(): string {
  const path = mkdtempSync('/tmp/dotfly-systemd-')
  scope.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

function found(program: string): boolean {
  return (process.env['PATH'] ?? '').split(':').some((path) => existsSync(join(path, program)))
}
