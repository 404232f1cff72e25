// What an init in JavaScript costs, from source and built, beside a bare node and tini: all interleaved in one run on one
// machine, medians. Ratios mean something, milliseconds only here. `node bench/init.ts [ROUNDS]`, after `npm run build`;
// tini by `apt-get install tini`, reaping only as root.

import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, watch, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CREDENTIAL } from '../test/support/corpus.ts'
import { startFlyd } from '../test/support/flyd.ts'
import { ask, MINT } from '../test/support/guest.ts'
import { installed, linkFlags } from './installed.ts'
import { kill, startInit } from '../test/init/support.ts'

const ROUNDS = Number(process.argv[2] ?? 15)
const REQUESTS = 10_000
const ORPHANS = 5_000
const at = (path: string): string => fileURLToPath(new URL(`../${path}`, import.meta.url))
const directory = mkdtempSync(join(tmpdir(), 'dotfly-bench-'))
const ends: (() => Promise<void> | void)[] = [() => rmSync(directory, { recursive: true, force: true })]
const scope = { teardown: (end: () => Promise<void> | void): void => void ends.push(end) }
const print = (text: string): void => void process.stdout.write(`${text}\n`)
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
const median = (numbers: readonly number[]): number =>
  numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN

/** Node's own words before those of `init`. */
interface Form {
  name: string
  node: readonly string[]
  main: string
}
if (!existsSync(at('dist/main.cjs'))) throw new Error('there is no dist/: run npm run build first')
const forms: readonly Form[] = [
  { name: 'source', node: ['--disable-warning=ExperimentalWarning'], main: at('bin/dotfly.ts') },
  { name: 'built', node: linkFlags(at('bin/dotfly.cjs')), main: installed(at('.'), directory) },
]

/** ms from exec until the program has ended by itself. */
function toEnd(words: string[]): Promise<number> {
  const began = performance.now()
  const [program = '', ...args] = words
  const child = spawn(program, args, { stdio: 'ignore' })
  return new Promise((resolve) => child.on('exit', () => resolve(performance.now() - began)))
}

const STAGES = ['accepts', 'runs', 'answers'] as const
type Stages = Record<(typeof STAGES)[number], number>

/** ms from exec until the socket accepts, the entrypoint has written its file, the first request is answered. */
async function toServe({ node, main }: Form): Promise<Stages> {
  const path = join(directory, 'api')
  const mark = join(directory, 'mark')
  const file = join(directory, 'macaroon')
  writeFileSync(file, CREDENTIAL)
  const options = ['--socket', path, '--flyd', 'http://127.0.0.1:9', '--macaroon-file', file]
  // Woken by the kernel: one of two CPUs that asks again and again is one that dotfly has not.
  const watcher = watch(directory)
  const there = (name: string): Promise<void> =>
    new Promise((resolve) => {
      watcher.on('change', (_, found) => found === name && resolve())
    })
  const [bound, marked] = [there('api'), there('mark')]
  const began = performance.now()
  const child = spawn(process.execPath, [...node, main, 'init', ...options, '--', 'sh', '-c', `: > ${mark}; sleep 9`], {
    stdio: 'ignore',
  })
  const since = (): number => performance.now() - began
  const served = (async () => {
    await bound
    for (;;) {
      const found = await firstAnswer(path, since)
      if (found !== undefined) return found
    }
  })()
  await marked
  const runs = since()
  const found = { runs, ...(await served) }
  watcher.close()
  kill(child.pid ?? 0, 'SIGTERM')
  await new Promise((resolve) => child.on('exit', resolve))
  rmSync(mark)
  return found
}

/** Undefined where nobody listens yet. */
function firstAnswer(path: string, since: () => number): Promise<{ accepts: number; answers: number } | undefined> {
  return new Promise((resolve) => {
    let accepts = 0
    const socket = connect({ path }, () => {
      accepts = since()
      socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
    })
    socket.on('data', () => {
      socket.destroy()
      resolve({ accepts, answers: since() })
    })
    socket.on('error', () => resolve(undefined))
  })
}

/** MB that only this process has, and its share of all it uses. */
function memory(pid: number): { dirty: number; pss: number } {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1')
  const kilobytes = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)?.[1] ?? 0)
  return { dirty: kilobytes('Private_Dirty') / 1024, pss: kilobytes('Pss') / 1024 }
}

async function memories(form: Form): Promise<[init: ReturnType<typeof memory>, proxy: ReturnType<typeof memory>]> {
  const flyd = await startFlyd(scope, 'tcp')
  const init = await startInit(scope, {
    command: ['sleep', '60'],
    flyd: flyd.url,
    namespace: false,
    node: [...form.node, form.main],
    main: 'init',
  })
  await init.until(/listening/)
  for (let i = 0; i < REQUESTS / 100; i++) await ask(init.path, MINT.repeat(100), 100, 20_000)
  await pause(2500) // both tidy up when there is nothing else to do
  const found: Awaited<ReturnType<typeof memories>> = [memory(init.pid), memory(init.proxy())]
  kill(init.pid, 'SIGTERM')
  await init.ended
  return found
}

/** us of CPU for each orphan: the difference between many and few. */
function reaping(run: (orphans: number) => number): number {
  const few = run(50)
  return ((run(ORPHANS + 50) - few) / ORPHANS) * 1000
}

const NAMESPACE = ['--pid', '--mount', '--fork', '--mount-proc', '--kill-child']

/** ms of CPU of a PID 1 that reaps as init does. */
function ours(orphans: number): number {
  const storm = [
    process.execPath,
    '--disable-warning=ExperimentalWarning',
    at('test/init/storm.ts'),
    '1',
    String(orphans),
  ]
  return Number(/"cpuMs":(\d+)/.exec(execFileSync('unshare', [...NAMESPACE, ...storm], { encoding: 'utf8' }))?.[1])
}

/** The same of tini, which below its entrypoint has nothing else to do: from its own line in /proc, in ticks of 10 ms. */
function tinis(tini: string, orphans: number): number {
  const script = `i=0; while [ $i -lt ${orphans} ]; do ( : & ); i=$((i+1)); done; sleep 0.5; cat /proc/1/schedstat`
  const text = execFileSync('unshare', [...NAMESPACE, tini, '--', 'sh', '-c', script], { encoding: 'utf8' })
  return Number(text.split(' ')[0]) / 1e6
}

try {
  const tini = ['/usr/bin/tini', '/usr/bin/tini-static', '/usr/bin/docker-init'].find((path) => existsSync(path))
  const bare: number[] = []
  const peer: number[] = []
  const found = forms.map((form) => ({ form, stages: [] as Stages[] }))
  for (let i = 0; i < ROUNDS; i++) {
    bare.push(await toEnd([process.execPath, '-e', '0']))
    for (const { form, stages } of found) stages.push(await toServe(form))
    if (tini !== undefined) peer.push(await toEnd([tini, '-s', '--', 'true']))
  }
  const base = median(bare)
  print(`| from exec, median of ${ROUNDS} | the socket accepts | the entrypoint runs | the first answer |`)
  print('|---|---|---|---|')
  print(`| \`node -e 0\`, to its end | ${base.toFixed(1)} ms | | |`)
  for (const { form, stages } of found) {
    const cells = STAGES.map((stage) => {
      const ms = median(stages.map((of) => of[stage]))
      return `${ms.toFixed(1)} ms, ${(ms / base).toFixed(2)}x`
    })
    print(`| dotfly init, ${form.name} | ${cells.join(' | ')} |`)
  }
  if (tini !== undefined) print(`| tini, to the end of \`true\` | | ${median(peer).toFixed(1)} ms | |`)
  print('Goals: accepts 1.3x, runs 1.6x.\n')

  print(`| MiB at rest, after ${REQUESTS} requests | private dirty: init + proxy | PSS: init + proxy |`)
  print('|---|---|---|')
  const idle = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 1e6)'], { stdio: 'ignore' })
  await pause(500)
  const node = memory(idle.pid ?? 0)
  print(`| a bare node, idle | ${node.dirty.toFixed(1)} | ${node.pss.toFixed(1)} |`)
  for (const form of forms) {
    const [one, two] = await memories(form)
    const sum = (which: 'dirty' | 'pss'): string =>
      `${one[which].toFixed(1)} + ${two[which].toFixed(1)} = ${(one[which] + two[which]).toFixed(1)}`
    print(`| dotfly init, ${form.name} | ${sum('dirty')} | ${sum('pss')} |`)
  }
  idle.kill('SIGKILL')
  print('Goals: 24 and 60. PSS shares the pages of the node binary among all that run it, the bare one too.\n')

  if (process.geteuid?.() !== 0) print('reaping is measured as root only')
  else {
    const us = reaping(ours)
    const theirs = tini === undefined ? Number.NaN : reaping((orphans) => tinis(tini, orphans))
    print(`reaping an orphan: dotfly ${us.toFixed(1)} us of CPU, tini ${theirs.toFixed(1)} us`)
  }
} finally {
  for (const end of ends.toReversed()) await end()
}
