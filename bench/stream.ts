// One large answer: MB a second, CPU seconds for a GiB, and how much memory the peer takes for it at most. Once more with
// the peer and its client held to one processor, as in a Machine that has one, and to one each: where there are two it is
// the kernel's choice whether they share one, which costs more than half, and it chooses anew in each round.

import { cpus } from 'node:os'
import { anonymousOf, cpuOf, pin } from './support/process.ts'
import { type Figure, figure, interleave } from './support/statistics.ts'
import { type Arena, type Contestant, Lost } from './support/arena.ts'
import { download } from './support/wire.ts'

/** How the answer is framed; `together` and `apart`: with a length, the peer and its client on one processor, or on two. */
const KINDS = ['length', 'chunked', 'together', 'apart'] as const
type Kind = (typeof KINDS)[number]

interface Pair {
  contestant: Contestant
  kind: Kind
}

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
  const kinds = KINDS.filter((kind) => kind !== 'apart' || cpus().length > 1)
  const pairs = kinds.flatMap((kind) => contestants.map((contestant) => ({ contestant, kind })))
  const ask = (kind: Kind, size: number): string =>
    download(`/v1/${kind === 'chunked' ? 'chunked' : 'length'}/${size}/0`)
  const lost = new Lost()
  for (const { contestant, kind } of pairs)
    await lost.run(contestant, () => wire.read(contestant.socket, ask(kind, bytes >> 4)))
  const last = `${cpus().length - 1}`
  const everywhere = { peer: `0-${last}`, client: `0-${last}` }
  const held: { [kind in Kind]?: typeof everywhere } = {
    together: { peer: '0', client: '0' },
    apart: { peer: '0', client: last },
  }
  /** One answer, whole; undefined where the peer is out. */
  const read = ({ contestant, kind }: Pair): Promise<{ speed: number; cpu: number } | undefined> =>
    lost.run(contestant, async () => {
      const pids = contestant.pids()
      const processors = held[kind] ?? everywhere
      pin(pids, processors.peer)
      const spent = cpuOf(pids)
      const got = await wire.read(contestant.socket, ask(kind, bytes), processors.client)
      if (got.bytes !== bytes) throw new Error(`${got.bytes} bytes came of ${bytes}`)
      return { speed: bytes / 1e6 / got.seconds, cpu: ((cpuOf(pids) - spent) / 1e9 / bytes) * GIB }
    })
  const timed = await interleave(rounds, pairs, read)
  // In rounds of its own: whoever looks every 20 ms takes a processor, and with it who of the others runs where.
  const watched = await interleave(Math.ceil(rounds / 3), pairs, async (pair) => {
    const pids = pair.contestant.pids()
    const before = anonymousOf(pids)
    let peak = before
    const look = setInterval(() => (peak = Math.max(peak, anonymousOf(pids))), 20)
    const got = await read(pair)
    clearInterval(look)
    peak = Math.max(peak, anonymousOf(pids))
    return got && { peak, grown: peak - before }
  })
  return pairs.flatMap((pair) => {
    if (lost.has(pair.contestant)) return []
    const times = (timed.get(pair) ?? []).filter((one) => one !== undefined)
    const sizes = (watched.get(pair) ?? []).filter((one) => one !== undefined)
    const { name, title } = pair.contestant.peer
    return {
      peer: name,
      title,
      kind: pair.kind,
      speed: figure(times.map(({ speed }) => speed)),
      cpu: figure(times.map(({ cpu }) => cpu)),
      peak: figure(sizes.map(({ peak }) => peak)),
      grown: figure(sizes.map(({ grown }) => grown)),
    }
  })
}
