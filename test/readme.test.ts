// What a reader of the documents does: follows a link, pastes a line into a shell.

import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'tap'
import { BIN, NODE, plain, start, until } from './cli/dotfly.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const read = (path: string): string => readFileSync(join(root, path), 'utf8')
const DOCUMENTS = [
  ...readdirSync(root).filter((name) => name.endsWith('.md')),
  ...readdirSync(join(root, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
]

/** Code is not text: what looks like a link or a heading there is none. */
const prose = (text: string): string =>
  text.replaceAll(/^```[^]*?^```$/gm, '').replaceAll(/`[^`\n]*`/g, (code) => code.replaceAll(/[[\]#]/g, ' '))

/** As GitHub makes them of headings. */
function anchors(text: string): Set<string> {
  const seen = new Map<string, number>()
  return new Set(
    [...text.replaceAll(/^```[^]*?^```$/gm, '').matchAll(/^#{1,6} (.+)$/gm)].map(([, title = '']) => {
      const slug = title
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-')
      const count = seen.get(slug) ?? 0
      seen.set(slug, count + 1)
      return count === 0 ? slug : `${slug}-${count}`
    }),
  )
}

/** Links of a document that lead nowhere. */
function broken(path: string, text: string): string[] {
  return [...prose(text).matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, link = '']) => link)
    .filter((link) => {
      if (/^(?:https?|mailto):/.test(link)) return false
      const [file = '', anchor] = link.split('#')
      const target = file === '' ? path : relative(root, join(root, dirname(path), file))
      if (!existsSync(join(root, target))) return true
      return anchor !== undefined && !anchors(file === '' ? text : read(target)).has(anchor)
    })
}

test('every link of the documents leads to a file, and every anchor to a heading', async (t) => {
  t.ok(DOCUMENTS.length >= 7, DOCUMENTS.join(' '))
  let links = 0
  for (const path of DOCUMENTS) {
    const text = read(path)
    links += [...prose(text).matchAll(/\]\(([^)\s]+)\)/g)].length
    t.strictSame(broken(path, text), [], path)
  }
  t.ok(links > 40, `${links} links`)
  for (const wrong of ['[a](nowhere.md)', '[a](#no-such-heading)', '[a](docs/http.md#no-such-heading)'])
    t.equal(broken('README.md', wrong).length, 1, `found when broken: ${wrong}`)
})

test('every file of the source that a document names is there', async (t) => {
  for (const path of DOCUMENTS) {
    for (const [, name = ''] of read(path).matchAll(/`((?:src|test|docs|bench|build|systemd|bin)\/[\w./@-]*\w)`/g))
      // What a build makes is not there before it.
      t.ok(name.startsWith('build/sea/') || existsSync(join(root, name)), `${path}: ${name}`)
  }
})

/** The lines of README's shell blocks, without comments, continued ones joined. */
const lines = [...read('README.md').matchAll(/^```sh\n([^]*?)^```$/gm)]
  .flatMap(([, block = '']) => block.replaceAll('\\\n', ' ').split('\n'))
  .map((line) =>
    line
      .replace(/\s+# .*$/, '')
      .replaceAll(/\s+/g, ' ')
      .trim(),
  )
  .filter((line) => line !== '')

/** How each kind of line is tried: run to its end, run until it says so and then ended, or left to .ci/run. */
const KINDS: [pattern: RegExp, how: 'run' | 'doctor' | 'ci' | RegExp][] = [
  [/^curl /, 'run'],
  [/^(?:npx )?dotfly (?:token|strip|init) /, 'run'],
  [/^npx dotfly mock /, /^ready: /m],
  [/^dotfly doctor/, 'doctor'],
  [/^(?:npx )?dotfly proxy /, /\[fly api proxy\] listening at/],
  [/^dotfly keep /, /is fresh for/],
  [/^(?:npm |\.ci\/run$|npx dotfly canary$)/, 'ci'],
]

test('every line of a shell that README has does what it is there for', async (t) => {
  t.ok(lines.length >= 15, `${lines.length} lines`)
  const dir = mkdtempSync(join(tmpdir(), 'readme-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  mkdirSync(join(dir, 'bin'))
  writeFileSync(
    join(dir, 'bin/dotfly'),
    `#!/bin/sh\nexec '${NODE}' --disable-warning=ExperimentalWarning '${BIN}' "$@"\n`,
    { mode: 0o755 },
  )
  writeFileSync(join(dir, 'bin/npx'), '#!/bin/sh\nexec "$@"\n', { mode: 0o755 })
  writeFileSync(join(dir, 'bin/node'), `#!/bin/sh\nexec '${NODE}' "$@"\n`, { mode: 0o755 })
  writeFileSync(join(dir, 'server.js'), `require('node:fs').accessSync(process.env.API)\n`)

  const mock = start(['mock', '--dir', join(dir, 'fly'), '--json'])
  t.teardown(() => mock.kill('SIGTERM'))
  const fly: { machines: { macaroon_file: string; flyd_url: string; app: string; id: string }[] } = JSON.parse(
    await until(mock, /\n/),
  )
  const [machine] = fly.machines
  const { macaroon_file = '', flyd_url = '', app = '', id = '' } = machine ?? {}
  writeFileSync(join(dir, 'app.log'), `a line\n${readFileSync(macaroon_file, 'utf8')}\n`)
  const api = join(dir, 'api')
  const proxy = start(['proxy', '--macaroon-file', macaroon_file, '--flyd', flyd_url, '--socket', api])
  t.teardown(() => proxy.kill('SIGTERM'))
  await until(proxy, /listening at/)
  const env = {
    ...plain({ HOME: dir }),
    PATH: `${join(dir, 'bin')}:${process.env['PATH'] ?? ''}`,
    DOTFLY_FLYD: flyd_url,
    DOTFLY_SOCKET: api,
    DOTFLY_APP: app,
    DOTFLY_MACHINE: id,
    DOTFLY_NO_HARDEN: 'all',
    API: api,
  }
  const uid = process.getuid?.() ?? 0

  for (const line of lines) {
    const how = KINDS.find(([pattern]) => pattern.test(line))?.[1]
    t.ok(how !== undefined, `somebody tries: ${line}`)
    if (how === undefined) continue
    if (how === 'ci') {
      const words = line.split(/ && | -- /)
      for (const word of words.filter((part) => /^npm (?:ci|test|run )/.test(part)))
        t.ok(read('.ci/run').includes(word), `.ci/run has: ${word}`)
      continue
    }
    // Another place for what is a Machine's, and a user that this computer has.
    const here = line
      .replaceAll(/\/tmp\/dotfly-\w+\/api|\/\.fly\/api/g, api)
      .replaceAll('/run/macaroon', macaroon_file)
      // The mock that runs; the line that starts one has a directory of its own.
      .replaceAll('/tmp/fly', join(dir, line.includes(' mock ') ? 'mine' : 'fly'))
      .replaceAll('/run/app', join(dir, 'app'))
      .replaceAll('uid=1000', `uid=${uid}`)
      .replaceAll('--user app ', '')
      .replace(/^curl /, 'curl -sS ')
    // A second server does not take the first one's socket.
    const own = /^dotfly (?:proxy|init)/.test(line)
      ? { DOTFLY_SOCKET: join(dir, 'second'), API: join(dir, 'second') }
      : {}
    mkdirSync(join(dir, 'app'), { recursive: true })
    const { code, said } = await shell(here, { ...env, ...own }, how instanceof RegExp ? how : undefined)
    t.ok(how === 'doctor' ? code === 0 || code === 1 : code === 0, `${line}: ${code}`, { said })
    if (line.startsWith('curl')) t.match(said, /^[\w-]+\.[\w-]+\.[\w-]+$/)
  }

  function shell(
    line: string,
    variables: Record<string, string>,
    sign?: RegExp,
  ): Promise<{ code: number | null; said: string }> {
    const words = Object.entries(variables).map(([name, value]) => `${name}=${value}`)
    const child = spawn('env', ['-i', ...words, 'bash', '--norc', '-c', sign === undefined ? line : `exec ${line}`], {
      cwd: dir,
    })
    let said = ''
    let asked = false // a second signal would not wait for an orderly end
    const hear = (chunk: Buffer): void => {
      said += chunk.toString('utf8')
      if (asked || sign?.test(said) !== true) return
      asked = true
      child.kill('SIGTERM')
    }
    child.stdout.on('data', hear)
    child.stderr.on('data', hear)
    return new Promise((done) => child.on('close', (code) => done({ code, said })))
  }
})

test('the package that README installs is the one that npm pack makes', async (t) => {
  const { version }: { version: string } = JSON.parse(read('package.json'))
  t.match(read('README.md'), `npm install --global ./dotfly-${version}.tgz`)
})
