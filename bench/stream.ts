// One large answer: MB a second, CPU seconds for a GiB, and how much memory the peer takes for it at most. Once more with
// the peer and its client on one processor, as in a Machine that has one: where there are two it is the kernel's choice
// whether they share one, which costs half, and it chooses anew in each round.

import { cpus } from 'node:os'
import { anonymousOf, cpuOf, pin } from './support/process.ts'
import { type Figure, figure, interleave } from './support/statistics.ts'
import { type Arena, type Contestant, Lost } from './support/arena.ts'
import { download } from './support/wire.ts'

/** How the answer is framed; `together`: with a length, and on one processor. */
const KINDS = ['length', 'chunked', 'together'] as const
type Kind = (typeof KINDS)[number]

export interface StreamRow {
  peer: string
  title: string
  kind: Kind
  /** MB/s */
  speed: Figure
  /** Seconds a GiB, of all processes of the peer. */
  cpu: Figure
  /** The most of anonymous memory, MB, and how much of it this answer has added. */
  peak: Figure
  grown: Figure
}

export const GIB = 2 ** 30

export async function stream(
  { wire }: Arena,
  contestants: readonly Contestant[],
  { rounds, bytes }: { rounds: number; bytes: number },
): Promise<StreamRow[]> {
  const pairs = KINDS.flatMap((kind) => contestants.map((contestant) => ({ contestant, kind })))
  const ask = (kind: Kind, size: number): string =>
    download(`/v1/${kind === 'chunked' ? 'chunked' : 'length'}/${size}/0`)
  const lost = new Lost()
  for (const { contestant, kind } of pairs)
    await wire.read(contestant.socket, ask(kind, bytes >> 4)).catch(lost.take(contestant))
  const everywhere = `0-${cpus().length - 1}`
  const found = await interleave(rounds, pairs, async ({ contestant, kind }) => {
    if (lost.has(contestant)) return undefined
    const pids = contestant.pids()
    const processors = kind === 'together' ? '0' : everywhere
    pin(pids, processors)
    const before = anonymousOf(pids)
    const spent = cpuOf(pids)
    let peak = before
    const look = setInterval(() => (peak = Math.max(peak, anonymousOf(pids))), 20)
    const read = await wire.read(contestant.socket, ask(kind, bytes), processors).catch(lost.take(contestant))
    clearInterval(look)
    if (read === undefined) return undefined
    if (read.bytes !== bytes) {
      lost.take(contestant)(new Error(`\n${read.bytes} bytes came of ${bytes}`))
      return undefined
    }
    peak = Math.max(peak, anonymousOf(pids))
    return {
      speed: bytes / 1e6 / read.seconds,
      cpu: ((cpuOf(pids) - spent) / 1e9 / bytes) * GIB,
      peak,
      grown: peak - before,
    }
  })
  return pairs.flatMap((pair) => {
    if (lost.has(pair.contestant)) return []
    const samples = (found.get(pair) ?? []).filter((one) => one !== undefined)
    const { name, title } = pair.contestant.peer
    const of = (what: 'speed' | 'cpu' | 'peak' | 'grown'): Figure => figure(samples.map((one) => one[what]))
    return {
      peer: name,
      title,
      kind: pair.kind,
      speed: of('speed'),
      cpu: of('cpu'),
      peak: of('peak'),
      grown: of('grown'),
    }
  })
}
