// Memory at the start, a minute after work, and with many idle connections; and, in the long mode, whether it stays what
// it was.

import { memoryOf, pause } from './support/process.ts'
import type { Arena, Contestant } from './support/arena.ts'
import { GIB } from './stream.ts'
import { download, request } from './support/wire.ts'

/** MB */
interface Memory {
  anonymous: number
  pss: number
}

export interface MemoryRow {
  peer: string
  title: string
  idle: Memory
  /** Of each process, the first one first. */
  processes: number[]
  worked: Memory
  workedProcesses: number[]
  /** With the idle connections open. */
  holding: Memory
  /** KB of anonymous memory for one of them. The kernel's own for the socket is the same for all, and not counted. */
  connection: number
}

export const WORK = 100_000
export const IDLE = 10_000
const REST = 63_000 // ms; dotfly tidies up after 60 s

export async function memory({ wire }: Arena, contestants: readonly Contestant[], idle = IDLE): Promise<MemoryRow[]> {
  const ask = request('/v1/tokens/oidc')
  const each = (pids: readonly number[]): number[] => pids.map((pid) => memoryOf([pid]).anonymous)
  const before = new Map<Contestant, { idle: Memory; processes: number[] }>()
  await pause(1500)
  for (const contestant of contestants) {
    const pids = contestant.pids()
    before.set(contestant, { idle: memoryOf(pids), processes: each(pids) })
    await wire.load(contestant.socket, ask, 8, { requests: WORK })
  }
  await pause(REST)
  const rows: MemoryRow[] = []
  for (const [contestant, fresh] of before) {
    const pids = contestant.pids()
    const worked = memoryOf(pids)
    const workedProcesses = each(pids)
    const held = await wire.hold(contestant.socket, ask, idle)
    await pause(1500)
    const holding = memoryOf(pids)
    await held.release().catch((error: unknown) => {
      throw new Error(`${contestant.peer.title} closes idle connections`, { cause: error })
    })
    const connection = ((holding.anonymous - worked.anonymous) * 1000) / idle
    const { name, title } = contestant.peer
    rows.push({ peer: name, title, ...fresh, worked, workedProcesses, holding, connection })
  }
  return rows
}

/** Anonymous memory, MB, of the last process of a peer (the one that does the work) along a long run. */
export interface Flatness {
  peer: string
  title: string
  requests: { done: number; anonymous: number }[]
  /** GiB of one stream after another. */
  streamed: { done: number; anonymous: number }[]
}

/** `origin` has the same peers in front of the origin of large answers. */
export async function flatness(
  { wire }: Arena,
  contestants: readonly Contestant[],
  origin: readonly Contestant[],
  { requests, gibibytes }: { requests: number; gibibytes: number },
): Promise<Flatness[]> {
  const found: Flatness[] = []
  for (const [i, contestant] of contestants.entries()) {
    const { name, title } = contestant.peer
    const series = async (
      one: Contestant | undefined,
      total: number,
      steps: number,
      step: (share: number) => Promise<unknown>,
    ): Promise<{ done: number; anonymous: number }[]> => {
      const pids = one?.pids().slice(-1) ?? []
      const points = [{ done: 0, anonymous: memoryOf(pids).anonymous }]
      for (let at = 1; at <= steps; at++) {
        await step(total / steps)
        await pause(300)
        points.push({ done: (total / steps) * at, anonymous: memoryOf(pids).anonymous })
      }
      return points
    }
    found.push({
      peer: name,
      title,
      requests: await series(contestant, requests, 20, (share) =>
        wire.load(contestant.socket, request('/v1/tokens/oidc'), 8, { requests: share }),
      ),
      streamed: await series(origin[i], gibibytes, gibibytes, () =>
        wire.read(origin[i]?.socket ?? '', download(`/v1/length/${GIB}/0`)),
      ),
    })
  }
  return found
}
