// What an init in JavaScript costs, beside a bare node and tini, all in one run on one machine: ratios mean something,
// milliseconds only here. `node bench/init.ts [ROUNDS [MAIN]]`: MAIN is a built
// main.js, without which Node strips types at every start.

import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CREDENTIAL } from '../test/support/corpus.ts'
import { startFlyd } from '../test/support/flyd.ts'
import { ask, MINT } from '../test/support/guest.ts'
import { childrenOf, kill, startInit } from '../test/init/support.ts'

const ROUNDS = Number(process.argv[2] ?? 15)
const REQUESTS = 10_000
const MAIN = process.argv[3] ?? fileURLToPath(new URL('../test/init/main.ts', import.meta.url))
const NODE = [process.execPath, '--disable-warning=ExperimentalWarning']
const directory = mkdtempSync(join(tmpdir(), 'dotfly-bench-'))
const ends: (() => Promise<void> | void)[] = [() => rmSync(directory, { recursive: true, force: true })]
const scope = { teardown: (end: () => Promise<void> | void): void => void ends.push(end) }
const print = (text: string): void => void process.stdout.write(`${text}\n`)
const median = (numbers: number[]): number => numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** ms from exec until the program has ended by itself. */
function toEnd(words: string[]): Promise<number> {
  const began = performance.now()
  const [program = '', ...args] = words
  const child = spawn(program, args, { stdio: 'ignore' })
  return new Promise((resolve) => child.on('exit', () => resolve(performance.now() - began)))
}

/** ms from exec until the socket accepts, and until the entrypoint has written its file. */
async function toServe(): Promise<{ accepts: number; runs: number }> {
  const path = join(directory, 'api')
  const mark = join(directory, 'mark')
  const file = join(directory, 'macaroon')
  writeFileSync(file, CREDENTIAL)
  const began = performance.now()
  const args = [
    ...NODE.slice(1),
    MAIN,
    '--socket',
    path,
    '--flyd',
    'http://127.0.0.1:9',
    '--macaroon-file',
    file,
    '--',
    'sh',
    '-c',
    `: > ${mark}; sleep 9`,
  ]
  const child = spawn(process.execPath, args, { stdio: 'ignore' })
  const accepts = (async () => {
    while (!existsSync(path) || !(await answers(path))) await pause(1)
    return performance.now() - began
  })()
  const runs = (async () => {
    while (!existsSync(mark)) await pause(1)
    return performance.now() - began
  })()
  const found = { accepts: await accepts, runs: await runs }
  kill(child.pid ?? 0, 'SIGTERM')
  await new Promise((resolve) => child.on('exit', resolve))
  rmSync(mark)
  return found
}

const answers = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect({ path }, () => {
      socket.destroy()
      resolve(true)
    })
    socket.on('error', () => resolve(false))
  })

/** MB that only this process has, and its share of all it uses. */
function memory(pid: number): { dirty: number; pss: number } {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1')
  const kilobytes = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)?.[1] ?? 0)
  return { dirty: kilobytes('Private_Dirty') / 1024, pss: kilobytes('Pss') / 1024 }
}

try {
  const tini = ['/usr/bin/tini', '/usr/bin/tini-static', '/usr/bin/docker-init'].find((path) => existsSync(path))
  const bare: number[] = []
  const accepts: number[] = []
  const runs: number[] = []
  const peer: number[] = []
  for (let i = 0; i < ROUNDS; i++) {
    bare.push(await toEnd([process.execPath, '-e', '0']))
    const served = await toServe()
    accepts.push(served.accepts)
    runs.push(served.runs)
    if (tini !== undefined) peer.push(await toEnd([tini, '-s', '--', 'true']))
  }
  const base = median(bare)
  print(`node -e 0                       ${base.toFixed(1)} ms`)
  print(
    `exec to socket accepts          ${median(accepts).toFixed(1)} ms, ${(median(accepts) / base).toFixed(2)}x (goal 1.3x)`,
  )
  print(
    `exec to entrypoint running      ${median(runs).toFixed(1)} ms, ${(median(runs) / base).toFixed(2)}x (goal 1.6x)`,
  )
  print(tini === undefined ? 'tini is not installed' : `tini: exec to the end of true    ${median(peer).toFixed(1)} ms`)

  const flyd = await startFlyd(scope, 'tcp')
  const init = await startInit(scope, { command: ['sleep', '60'], flyd: flyd.url, namespace: false, main: MAIN })
  await init.until(/listening/)
  for (let i = 0; i < REQUESTS / 100; i++) await ask(init.path, MINT.repeat(100), 100, 20_000)
  const idle = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 1e6)'], { stdio: 'ignore' })
  await pause(300)
  const node = memory(idle.pid ?? 0)
  idle.kill('SIGKILL')
  const [one, two] = [memory(init.pid), memory(childrenOf(init.pid).find((pid) => pid === init.proxy()) ?? 0)]
  print(`private dirty, a bare node      ${node.dirty.toFixed(1)} MB`)
  print(
    `private dirty, init + proxy     ${one.dirty.toFixed(1)} + ${two.dirty.toFixed(1)} = ${(one.dirty + two.dirty).toFixed(1)} MB after ${REQUESTS} requests (goal 24)`,
  )
  print(
    `PSS, init + proxy               ${one.pss.toFixed(1)} + ${two.pss.toFixed(1)} = ${(one.pss + two.pss).toFixed(1)} MB (goal 60)`,
  )
  kill(init.pid, 'SIGTERM')
  await init.ended

  const storm = fileURLToPath(new URL('../test/init/storm.ts', import.meta.url))
  const [program = '', ...flags] = NODE
  const reaping = (orphans: number): number => {
    const text = execFileSync(
      'unshare',
      ['--pid', '--mount', '--fork', '--mount-proc', '--kill-child', program, ...flags, storm, '1', String(orphans)],
      { encoding: 'utf8' },
    )
    return Number(/"cpuMs":(\d+)/.exec(text)?.[1])
  }
  const few = reaping(50)
  print(`reaping                         ${(((reaping(5050) - few) / 5000) * 1000).toFixed(1)} us of CPU an orphan`)
} finally {
  for (const end of ends.toReversed()) await end()
}
