// docs/images.md, done: each recipe is read from that page, its effects are made in a root of its kind, and what it
// starts gets a token. There is no container engine here; what one would do with these lines is little, and below.

import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  copyFileSync,
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import tap, { test } from 'tap'
import type { Test } from 'tap'
import { CREDENTIAL, JWT, leaks } from '../support/corpus.ts'
import { startFlyd } from '../support/flyd.ts'
import type { RawFlyd } from '../support/flyd.ts'
import { addBusybox, boot, buildSea, emptyRoot, keepRunning, linkTree, skip, SOURCE, temporary } from './root.ts'
import type { Ended, Scope } from './root.ts'

const fly = skip === false ? buildSea(tap) : ''
const PAGE = readFileSync(join(SOURCE, 'docs/images.md'), 'utf8')
const blocks = (language: string): string[] =>
  [...PAGE.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, 'gms'))].map(([, text = '']) => text)

/** What the platform puts into every root: the macaroon, and a way to flyd. */
async function platform(t: Scope, root: string): Promise<{ flyd: RawFlyd; env: Record<string, string> }> {
  const flyd = await startFlyd(t, 'unix')
  linkSync(flyd.url.replace('unix:', ''), join(root, 'fly/flyd'))
  chmodSync(join(root, 'fly/flyd'), 0o666)
  return { flyd, env: { DOTFLY_FLYD: 'unix:/fly/flyd', DOTFLY_MACAROON_FILE: '/fly/macaroon' } }
}

function judge(t: Test, flyd: RawFlyd, { code, out, log }: Ended): void {
  t.equal(code, 0, log)
  t.ok(out.includes(JWT), `the program has a token: ${out}${log}`)
  t.ok(
    flyd.requests.some(({ raw }) => raw.includes(CREDENTIAL)),
    'flyd saw the macaroon',
  )
  t.ok(leaks(Buffer.from(out + log)) < 0, 'nobody else did')
}

/** What images start from, as far as it matters here: which libc, which programs, which users. */
const BASES: Record<string, (root: string) => void> = {
  'debian:12-slim': (root) => {
    for (const program of ['/bin/sh', '/bin/ln', '/usr/bin/id']) copyWithLibraries(program, root)
    mkdirSync(join(root, 'usr/local/bin'), { recursive: true })
  },
  'alpine:3': (root) => {
    addBusybox(root, 'sh', 'ln', 'id')
    for (const path of ['usr/bin', 'etc', 'lib']) mkdirSync(join(root, path), { recursive: true })
    writeFileSync(join(root, 'lib/ld-musl-x86_64.so.1'), 'another libc')
    writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n')
    writeFileSync(join(root, 'etc/group'), 'root:x:0:\n')
  },
  'gcr.io/distroless/static-debian12': (root) => {
    mkdirSync(join(root, 'etc'))
    writeFileSync(
      join(root, 'etc/passwd'),
      'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532::/home/nonroot:\n',
    )
  },
  scratch: () => undefined,
}

function copyWithLibraries(program: string, root: string): void {
  const libraries = execFileSync('ldd', [program], { encoding: 'utf8' }).matchAll(/(\/\S+) \(0x/g)
  for (const path of [program, ...[...libraries].map(([, library = '']) => library)]) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    copyFileSync(realpathSync(path), join(root, path))
  }
}

/** A JSON array of words. */
function words(text: string): string[] {
  const list: unknown = JSON.parse(text)
  if (!Array.isArray(list) || !list.every((word) => typeof word === 'string')) throw new Error(`no words: ${text}`)
  return list
}

/** Makes the image, and says what it runs. */
function build(text: string, root: string): string[] {
  let entrypoint: string[] = []
  let command: string[] = []
  for (const line of text.trim().split('\n')) {
    const [, instruction, rest = ''] = /^([A-Z]+) (.*)$/.exec(line) ?? []
    if (instruction === 'FROM') {
      const base = BASES[rest]
      if (base === undefined) throw new Error(`what is in ${rest}?`)
      base(root)
    } else if (instruction === 'COPY') {
      const [from, to = ''] = rest.split(' ')
      if (from !== 'build/sea/.fly') throw new Error(`what is ${from}?`)
      linkTree(fly, join(root, to))
    } else if (instruction === 'RUN') execFileSync('chroot', [root, '/bin/sh', '-c', rest], { stdio: 'ignore' })
    else if (instruction === 'ENTRYPOINT') entrypoint = words(rest)
    else if (instruction === 'CMD') command = words(rest)
    else throw new Error(`what is ${line}?`)
  }
  return [...entrypoint, ...command]
}

const DOCKERFILES = blocks('dockerfile')

test('the page has every recipe that is asked of it', { skip }, async (t) => {
  t.same(DOCKERFILES.map((text) => /^FROM (.*)$/m.exec(text)?.[1] ?? '').toSorted(), Object.keys(BASES).toSorted())
  for (const language of ['sh', 'cmdline', 'ini', 'yaml']) t.equal(blocks(language).length, 1, language)
})

for (const text of DOCKERFILES) {
  test(text.split('\n')[0] ?? '', { skip }, async (t) => {
    const root = emptyRoot(t)
    const runs = build(text, root)
    const { flyd, env } = await platform(t, root)
    // Where dotfly mounts nothing, somebody else has.
    const ended = await boot(root, runs, { env, container: !runs.includes('--mount') })
    judge(t, flyd, ended)
    if (runs.includes('/bin/sh')) t.match(ended.out, /^1000\n/, 'as a user of its own')
  })
}

/** The kernel's command line, as the kernel reads it, which test/vm/run.ts shows: nothing from a second -- on. */
function ofKernel(line: string): string[] {
  const [before = '', after = ''] = line.trim().split(' -- ')
  const init = /(?:^| )init=(\S+)/.exec(before)?.[1] ?? ''
  return [init, ...after.split(' ')]
}

test('a root file system, and a kernel that starts it', { skip }, async (t) => {
  const root = emptyRoot(t)
  const here = temporary(t, 'dotfly-here-')
  mkdirSync(join(here, 'build'))
  symlinkSync(dirname(fly), join(here, 'build/sea'))
  const [script = ''] = blocks('sh')
  // The page makes it, the platform fills it.
  const given = { cwd: here, env: { PATH: process.env['PATH'], ROOT: root }, stdio: 'ignore' } as const
  execFileSync('sh', ['-ec', script], given)
  const { flyd, env } = await platform(t, root)
  const { DOTFLY_FLYD = '' } = env
  const [line = ''] = blocks('cmdline')
  judge(t, flyd, await boot(root, ofKernel(line), { env: { DOTFLY_FLYD } }))
  t.notOk(existsSync(join(root, 'fly/macaroon')), 'the file is gone')

  writeFileSync(join(root, '.fly/source/proxy/strip.js'), 'another')
  t.throws(
    () => execFileSync('sh', ['-ec', script.split('\n')[1] ?? ''], given),
    'one file changed, and sha256sum ends it',
  )
})

test('mkosi', { skip }, async (t) => {
  const [text = ''] = blocks('ini')
  const setting = (name: string): string => new RegExp(`^${name}=(.*)$`, 'm').exec(text)?.[1] ?? ''
  const [from, to = ''] = setting('ExtraTrees').split(':')
  t.equal(from, 'build/sea/.fly')
  const root = emptyRoot(t)
  linkTree(fly, join(root, to))
  for (const name of ['proc', 'sys', 'dev', 'run', 'tmp']) mkdirSync(join(root, name))
  const { flyd, env } = await platform(t, root)
  const { DOTFLY_FLYD = '' } = env
  judge(t, flyd, await boot(root, ofKernel(setting('KernelCommandLine')), { env: { DOTFLY_FLYD } }))
})

test('Kubernetes: a sidecar has the macaroon, the program has the socket', { skip }, async (t) => {
  const [text = ''] = blocks('yaml')
  const [sidecarText = '', appText = ''] = text.split(/^ {2}containers:$/m)
  const of = (part: string): { command: string[]; user: number } => ({
    command: words(/^ +command: (\[.*\])$/m.exec(part)?.[1] ?? ''),
    user: Number(/runAsUser: (\d+)/.exec(part)?.[1]),
  })
  const [sidecar, app] = [of(sidecarText), of(appText)]
  const probe = words(/startupProbe: \{ exec: \{ command: (\[.*\]) \} \}/.exec(text)?.[1] ?? '')
  const group = Number(/fsGroup: (\d+)/.exec(text)?.[1])
  const mode = Number.parseInt(/defaultMode: (\d+)/.exec(text)?.[1] ?? '', 8)

  const volume = (name: string): string => {
    const directory = temporary(t, `dotfly-${name}-`)
    chownSync(directory, 0, group)
    chmodSync(directory, 0o2775)
    return directory
  }
  const shared = volume('shared')
  const secret = volume('secret')
  writeFileSync(join(secret, 'macaroon'), CREDENTIAL)
  chownSync(join(secret, 'macaroon'), 0, group)
  chmodSync(join(secret, 'macaroon'), mode)

  const roots = [emptyRoot(t), emptyRoot(t)] as const
  for (const root of roots) {
    linkTree(fly, join(root, '.fly'))
    mkdirSync(join(root, 'shared'))
  }
  mkdirSync(join(roots[0], 'macaroon'))
  const { flyd, env } = await platform(t, roots[0])
  const { DOTFLY_FLYD = '' } = env
  const running = keepRunning(t, roots[0], sidecar.command, {
    env: { DOTFLY_FLYD },
    user: sidecar.user,
    container: true,
    shared: { [shared]: '/shared', [secret]: '/macaroon' },
  })
  for (let i = 0; i < 500 && !existsSync(join(shared, 'api')); i++) await sleep(20)
  t.equal((await boot(roots[0], probe, { user: sidecar.user, shared: { [shared]: '/shared' } })).code, 0, 'the probe')
  const ended = await boot(roots[1], app.command, { user: app.user, container: true, shared: { [shared]: '/shared' } })
  judge(t, flyd, { ...ended, log: ended.log + running.log() })
  t.match(running.log(), '[fly api proxy] listening at /shared/api')
})

test('upgrade: a new directory, and the one before is the rollback', { skip }, async (t) => {
  const root = emptyRoot(t)
  const { flyd, env } = await platform(t, root)
  const run = (): Promise<Ended> => boot(root, ['/.fly/init', 'init', '--', '/.fly/init', 'token'], { env })
  cpSync(fly, join(root, '.fly'), { recursive: true })
  judge(t, flyd, await run())
  execFileSync('mv', [join(root, '.fly'), join(root, '.fly.before')])
  linkTree(fly, join(root, '.fly'))
  judge(t, flyd, await run())
  execFileSync('sh', ['-ec', 'rm -r .fly; mv .fly.before .fly'], { cwd: root })
  judge(t, flyd, await run())
  mkdirSync(join(root, 'tmp'))
  const { code, out } = await boot(root, ['/.fly/init', 'canary', '--quick', '--seed', 'image'])
  t.equal(code, 0, out)
  t.match(out, /nothing leaked/)
})
