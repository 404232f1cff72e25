// Small requests through each peer: CPU µs a request, requests a second, latencies.

import { type Figure, figure, interleave } from './support/statistics.ts'
import { type Arena, type Contestant, Lost } from './support/arena.ts'
import { cpuOf, machineCpu } from './support/process.ts'
import { NUMBER, request } from './support/wire.ts'

export const CONCURRENCIES = [1, 8, 64]
/** Of clients that connect for each request, as curl does. */
export const CALLERS = [1, 8]

interface Sample {
  /** µs a request, of all processes of the peer. */
  cpu: number
  /** Of that, the process that was started first: dotfly's supervisor, nginx's master. */
  first: number
  rps: number
  p50: number
  p99: number
  p999: number
  /** Share of the machine that worked for somebody else meanwhile: 0.1 is a tenth. */
  foreign: number
}

export interface RequestRow {
  peer: string
  title: string
  concurrency: number
  cpu: Figure
  first: Figure
  rps: Figure
  p50: Figure
  p99: Figure
  p999: Figure
  foreign: Figure
}

const ASK = request('/v1/tokens/oidc')
/** dotfly does not read a request again that is the last one of its connection to the byte; these are not. */
const VARIED = request('/v1/tokens/oidc', 0, NUMBER)

export async function sample(
  { wire, upstream }: Pick<Arena, 'wire' | 'upstream'>,
  contestant: Contestant,
  concurrency: number,
  limits: { seconds?: number; requests?: number },
  ask = ASK,
  how: 'load' | 'calls' = 'load',
): Promise<Sample> {
  const pids = contestant.pids()
  const since = performance.now()
  const one = [contestant.pid]
  const [all, own, first, theirs] = [machineCpu(), cpuOf(pids), cpuOf(one), cpuOf(upstream)]
  const load = await wire.load(contestant.socket, ask, concurrency, limits, how)
  const cpu = cpuOf(pids) - own
  const foreign = machineCpu() - all - cpu - (cpuOf(upstream) - theirs) - load.cpu
  const { requests, seconds, p50, p99, p999 } = load
  return {
    cpu: cpu / 1000 / requests,
    first: (cpuOf(one) - first) / 1000 / requests,
    rps: requests / seconds,
    p50,
    p99,
    p999,
    foreign: Math.max(0, foreign / ((performance.now() - since) * 1e6)),
  }
}

/** `calls`: each on a connection of its own. */
export async function requests(
  arena: Arena,
  contestants: readonly Contestant[],
  { rounds, seconds }: { rounds: number; seconds: number },
): Promise<{ requests: RequestRow[]; calls: RequestRow[] }> {
  // Long enough for every JIT: V8 compiles the last of a hot path after some ten thousand requests.
  const lost = new Lost()
  const warm = { requests: 20_000, seconds: 3 }
  for (const contestant of contestants) {
    for (const [ask, how] of [
      [ASK, 'load'],
      [VARIED, 'load'],
      [ASK, 'calls'],
    ] as const)
      await lost.run(contestant, () => sample(arena, contestant, 8, warm, ask, how))
  }
  const kept = CONCURRENCIES.flatMap((concurrency) =>
    contestants.flatMap((contestant): Pair[] => {
      const { name, title } = contestant.peer
      const repeated = { contestant, concurrency, name, title, ask: ASK, how: 'load' } as const
      if (!title.startsWith('dotfly')) return [repeated]
      return [repeated, { ...repeated, name: `${name}-varied`, title: `${title}, none repeated`, ask: VARIED }]
    }),
  )
  const once = CALLERS.flatMap((concurrency) =>
    contestants.map((contestant): Pair => {
      const { name, title } = contestant.peer
      return { contestant, concurrency, name, title, ask: ASK, how: 'calls' }
    }),
  )
  const found = await interleave(rounds, [...kept, ...once], ({ contestant, concurrency, ask, how }) =>
    lost.run(contestant, () => sample(arena, contestant, concurrency, { seconds }, ask, how)),
  )
  const row = (pair: Pair): RequestRow => {
    const samples = (found.get(pair) ?? []).filter((one) => one !== undefined)
    const of = (name: keyof Sample): Figure => figure(samples.map((one) => one[name]))
    return {
      peer: pair.name,
      title: pair.title,
      concurrency: pair.concurrency,
      cpu: of('cpu'),
      first: of('first'),
      rps: of('rps'),
      p50: of('p50'),
      p99: of('p99'),
      p999: of('p999'),
      foreign: of('foreign'),
    }
  }
  const rows = (pairs: readonly Pair[]): RequestRow[] =>
    pairs.filter(({ contestant }) => !lost.has(contestant)).map(row)
  return { requests: rows(kept), calls: rows(once) }
}

interface Pair {
  contestant: Contestant
  concurrency: number
  name: string
  title: string
  ask: string
  how: 'load' | 'calls'
}
