// Cold start of the proxies, and of dotfly init: exec to the socket accepts, to the first answer, and to the entrypoint.

import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { init } from './peers/dotfly.ts'
import type { Peer } from './peers/peer.ts'
import { CREDENTIAL } from './peers/peer.ts'
import { type Figure, figure, interleave } from './support/statistics.ts'
import { type Arena, NEEDLES } from './support/arena.ts'
import { request } from './support/wire.ts'

export interface ColdRow {
  peer: string
  title: string
  /** ms */
  accepts: Figure
  answers: Figure
  /** Of init's entrypoint. */
  runs?: Figure
}

/** The peers, and how long a Node that does nothing takes from its start to its end, ms. */
export async function cold(
  { directory, wire, port }: Arena,
  peers: readonly Peer[],
  rounds: number,
): Promise<{ node: Figure; rows: ColdRow[] }> {
  const bare: number[] = []
  const mark = join(directory, 'mark')
  const subjects = [...peers, init(mark)].map((peer) => {
    const home = join(directory, `cold-${peer.name}`)
    mkdirSync(home)
    const socket = join(home, 'sock')
    const task = { directory: home, socket, port, credential: CREDENTIAL, needles: NEEDLES }
    return { peer, socket, launch: peer.launch(task) }
  })
  const found = await interleave(rounds, [undefined, ...subjects], async (subject) => {
    if (subject === undefined) {
      bare.push(await wire.ended(process.execPath, ['-e', '0']))
      return { accepts: 0, answers: 0, runs: 0 }
    }
    const { peer, socket, launch } = subject
    rmSync(mark, { force: true })
    rmSync(socket, { force: true }) // most leave it behind
    return wire.start(socket, request('/v1/tokens/oidc'), launch, peer.name === 'init' ? mark : '-')
  })
  return {
    node: figure(bare),
    rows: subjects.map((subject) => {
      const samples = found.get(subject) ?? []
      return {
        peer: subject.peer.name,
        title: subject.peer.title,
        accepts: figure(samples.map(({ accepts }) => accepts)),
        answers: figure(samples.map(({ answers }) => answers)),
        ...(subject.peer.name === 'init' ? { runs: figure(samples.map(({ runs }) => runs)) } : {}),
      }
    }),
  }
}
