// npm run bench:guard: has a request become dearer for the trusted process? Time would not tell on a machine that has
// other work; what is counted here does: instructions a request, by valgrind, with V8 made as predictable as it can be,
// and reads and writes a request, by the kernel. Fails where either is more than a tenth above bench/baseline.json.
//
//     npm run bench:guard [-- --update] [-- --dotfly DIR]
//
// --update writes the baseline from this run; --dotfly measures the source of another checkout. Needs valgrind and gcc. Half a minute where nothing else runs.

import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { loadMacaroon } from '../src/init/credential.ts'
import { listenUnix } from '../src/os/listen.ts'
import { CREDENTIAL } from './peers/peer.ts'
import { fixed, table, whole } from './support/table.ts'
import { installed, NUMBER, request, Wire } from './support/wire.ts'

interface Cost {
  /** Of user space, one request that repeats the one before it to the byte. */
  repeated: number
  /** One that does not. */
  fresh: number
  /** read(2), write(2) and their kin, one request. */
  calls: number
}

const BASELINE = join(import.meta.dirname, 'baseline.json')
const LIMIT = 1.1
const WARM = 12_000 // requests until V8 has compiled what it will
const COUNTED = 4_000 // several collections of the young generation
const ASK = request('/v1/tokens/oidc')
const FRESH = request('/v1/tokens/oidc', 0, NUMBER)
const FLAGS = ['--disable-warning=ExperimentalWarning', '--disable-sigusr1', '--disable-proto=throw']

const { values } = parseArgs({ options: { update: { type: 'boolean', default: false }, dotfly: { type: 'string' } } })

async function measure(root: string): Promise<Cost> {
  const directory = mkdtempSync(join(tmpdir(), 'dotfly-guard-'))
  const wire = new Wire(directory)
  const origin = await wire.origin()
  const entry = join(root, 'src/proxy/main.ts') // what was built may be older than what is to be judged
  const file = join(directory, 'macaroon')
  writeFileSync(file, CREDENTIAL, { mode: 0o600 })

  /** The trusted process as src/init/launch.ts starts it, behind other words: no time limit, and no permission model. */
  async function serve<R>(before: readonly string[], work: (pid: number, socket: string) => Promise<R>): Promise<R> {
    const socket = join(directory, 'sock')
    const page = loadMacaroon({ file }, false).fd
    const listening = listenUnix(socket, 0o700)
    const flyd = { host: '127.0.0.1', port: origin.port, secure: false }
    const sockets = [{ fd: 4, preset: 'all', allow: [], audiences: [] }]
    const launch = JSON.stringify({
      page: 3,
      room: 16,
      holds: 2 ** 26,
      flyd,
      sockets,
      tellsAll: true,
      keeps: ['dumpable'], // or valgrind cannot be asked
    })
    const [command = '', ...words] = [...before, process.execPath, ...FLAGS]
    const more = before.length === 0 ? [] : ['--predictable', '--hash-seed=1', '--random-seed=1']
    const child = spawn(command, [...words, ...more, entry, launch], {
      stdio: ['pipe', 'pipe', 'pipe', page, listening],
      env: {},
    })
    closeSync(page)
    closeSync(listening)
    const kill = (): boolean => child.kill('SIGKILL')
    process.once('exit', kill)
    let said = ''
    child.stderr?.on('data', (bytes: Buffer) => (said = `${said}${bytes.toString()}`.slice(-2000)))
    const ended = once(child, 'close')
    try {
      await Promise.race([
        once(child.stdout ?? child, 'data'), // it says that it listens
        ended.then(() => {
          throw new Error(`the trusted process does not start: ${said}`)
        }),
      ])
      child.stdout?.resume()
      return await work(child.pid ?? 0, socket)
    } finally {
      kill()
      await ended
      process.off('exit', kill)
      rmSync(socket, { force: true })
    }
  }

  const ask = (socket: string, requests: number, words = ASK) => wire.load(socket, words, 1, { requests })
  try {
    const counts = join(directory, 'counts')
    const valgrind = ['valgrind', '--tool=callgrind', '--smc-check=all-non-file', `--callgrind-out-file=${counts}`]
    const [repeated, fresh] = await serve(valgrind, async (pid, socket) => {
      let dumps = 0
      const dump = (): number => {
        execFileSync('callgrind_control', ['-d', String(pid)], { stdio: 'ignore' })
        return Number(/^totals: (\d+)/m.exec(readFileSync(`${counts}.${++dumps}`, 'latin1'))?.[1])
      }
      const counted = async (words: string): Promise<number> => {
        await ask(socket, WARM, words)
        dump()
        await ask(socket, COUNTED, words)
        return dump() / COUNTED
      }
      return [await counted(ASK), await counted(FRESH)] as const
    })
    const calls = await serve([], async (pid, socket) => {
      await ask(socket, WARM)
      const before = callsOf(pid)
      await ask(socket, COUNTED)
      return (callsOf(pid) - before) / COUNTED
    })
    return { repeated, fresh, calls }
  } finally {
    await origin.stop()
    rmSync(directory, { recursive: true, force: true })
  }
}

function callsOf(pid: number): number {
  const text = readFileSync(`/proc/${pid}/io`, 'latin1')
  return Number(/^syscr: (\d+)/m.exec(text)?.[1]) + Number(/^syscw: (\d+)/m.exec(text)?.[1])
}

const print = (line: string): void => void process.stdout.write(`${line}\n`)

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1)) // what it started ends too
if (!installed('valgrind') || !installed('cc')) throw new Error('apt-get install valgrind gcc libc6-dev')
const found = await measure(values.dotfly === undefined ? join(import.meta.dirname, '..') : resolve(values.dotfly))
if (values.update) {
  const [repeated, fresh] = [Math.round(found.repeated), Math.round(found.fresh)]
  const rounded = { repeated, fresh, calls: Number(found.calls.toFixed(2)) }
  writeFileSync(BASELINE, `${JSON.stringify(rounded, null, 2)}\n`)
}
const baseline = JSON.parse(readFileSync(BASELINE, 'utf8')) as Cost
const rows = [
  ['instructions, the request repeated', 'repeated', whole],
  ['instructions, no request repeated', 'fresh', whole],
  ['reads and writes', 'calls', fixed(2)],
] as const
print(
  table([
    ['one request costs the trusted process', 'now', 'baseline', 'ratio'],
    ...rows.map(([title, name, show]) => [
      title,
      show(found[name]),
      show(baseline[name]),
      fixed(3)(found[name] / baseline[name]),
    ]),
  ]),
)
if (!rows.every(([, name]) => found[name] <= baseline[name] * LIMIT)) {
  print('bench:guard: dearer by more than a tenth: find out why, or take it into the baseline with --update')
  process.exitCode = 1
}
