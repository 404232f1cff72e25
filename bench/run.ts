// npm run bench: what dotfly costs beside what a user would pick instead, in one run on one machine. Only the ratios
// of one run mean anything: load, peer and upstream share the cores, and so does everybody else on the machine.
//
//     npm run bench -- --quick --only requests --peers nginx          dotfly and nginx, half a minute
//     npm run bench -- --quick --only requests --peers nginx --against ../other-checkout
//                                                                     and a second dotfly, for before and after
//     npm run bench -- --long --write                                 everything, and docs/performance.md
//
// The second dotfly is run from its own bin/ (or dist/, where it was built) with this checkout's clients.
// Needs gcc and nginx; measures besides what is installed, and says what is not.

import { writeFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { cold } from './cold.ts'
import { growth } from './growth.ts'
import { flatness, memory } from './memory.ts'
import { PEERS } from './peers/all.ts'
import { dotfly, isBuilt } from './peers/dotfly.ts'
import type { Peer } from './peers/peer.ts'
import { goalTable, sections, write } from './report.ts'
import { requests } from './requests.ts'
import type { Results } from './results.ts'
import { GIB, stream } from './stream.ts'
import { type Arena, type Contestant, inArena } from './support/arena.ts'

const PARTS = ['requests', 'stream', 'cold', 'memory', 'growth'] as const
type Part = (typeof PARTS)[number]

const HELP = `Usage: npm run bench -- [OPTION…]

    --quick            fewer and shorter rounds, about two minutes
    --long             also 1,000,000 requests and 10 GiB, for flatness
    --only PART,…      ${PARTS.join(', ')}; default all
    --peers NAME,…     ${PEERS.slice(0, 7)
      .map(({ name }) => name)
      .join(', ')},
                       ${PEERS.slice(7)
                         .map(({ name }) => name)
                         .join(', ')};
                       default all that are installed; dotfly always is
    --logging          also dotfly with a log line for every exchange, its default
    --against DIR      another checkout of dotfly, as a peer
    --rounds N, --seconds S
    --json FILE        all figures
    --write            docs/performance.md, its pictures, bench/results.json
    -h, --help         this text

Example: npm run bench -- --quick --only requests --peers nginx,relay
`

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    long: { type: 'boolean', default: false },
    only: { type: 'string', default: PARTS.join(',') },
    peers: { type: 'string' },
    logging: { type: 'boolean', default: false },
    against: { type: 'string' },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    json: { type: 'string' },
    write: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
})
const { quick, long } = values
const only = new Set(values.only.split(','))
const LIMIT = quick ? 10 : 60 // minutes, for a machine that has much else to do

const print = (line: string): void => void process.stdout.write(`${line}\n`)

function chosen(): Peer[] {
  const names = values.peers?.split(',')
  for (const name of names ?? [])
    if (!PEERS.some((peer) => peer.name === name)) throw new Error(`no peer is called ${name}`)
  for (const name of only) if (!PARTS.includes(name as Part)) throw new Error(`no part is called ${name}`)
  const wanted = PEERS.filter(({ name }) => name === 'dotfly' || names === undefined || names.includes(name))
  if (values.logging) wanted.splice(1, 0, dotfly(undefined, 'info'))
  if (values.against !== undefined) wanted.splice(1, 0, dotfly(resolve(values.against)))
  return wanted.filter((peer) => {
    const missing = peer.missing()
    if (missing !== undefined) print(`without ${peer.title}: ${missing}`)
    return missing === undefined
  })
}

async function measure(peers: readonly Peer[], results: Results): Promise<void> {
  const { rounds, seconds } = results
  await inArena(async (arena) => {
    // Each part has peers of its own, fresh ones; the origin's are in front of wire.c instead of nginx.
    const of = (...names: string[]): Peer[] => peers.filter(({ name }) => names.includes(name))
    const part = async (name: Part, work: () => Promise<void>): Promise<void> => {
      if (!only.has(name)) return
      const since = performance.now()
      await work()
      process.stderr.write(`${name}: ${((performance.now() - since) / 1000).toFixed(0)} s\n`)
    }
    await part('cold', async () => {
      results.cold = await cold(arena, peers, quick ? 5 : 20)
    })
    await part('memory', () =>
      // The relay has nothing to remember, and two descriptors for each connection.
      within(
        arena,
        peers.filter(({ name }) => name !== 'relay'),
        undefined,
        async (entered) => {
          results.memory = await memory(arena, entered)
        },
      ),
    )
    await part('requests', () =>
      within(arena, peers, undefined, async (entered) => {
        Object.assign(results, await requests(arena, entered, { rounds, seconds }))
      }),
    )
    const origin = await arena.wire.origin()
    try {
      await part('stream', () =>
        within(arena, peers, origin.port, async (entered) => {
          results.stream = await stream(arena, entered, quick ? { rounds: 1, bytes: GIB / 4 } : { rounds, bytes: GIB })
        }),
      )
      await part('growth', () =>
        within(arena, of('dotfly', 'nginx', 'go', 'haproxy'), undefined, (small) =>
          within(arena, of('dotfly', 'nginx', 'go', 'haproxy'), origin.port, async (large) => {
            const [few, short] = quick ? [1, 0.15] : [rounds, seconds / 4]
            results.growth = await growth(
              arena,
              small,
              { port: origin.port, contestants: large },
              { rounds: few, seconds: short },
            )
          }),
        ),
      )
      if (!long) return
      await within(arena, of('dotfly', 'nginx'), undefined, (small) =>
        within(arena, of('dotfly', 'nginx'), origin.port, async (large) => {
          results.flatness = await flatness(arena, small, large, { requests: 1_000_000, gibibytes: 10 })
        }),
      )
    } finally {
      await origin.stop()
    }
  })
}

async function within(
  arena: Arena,
  peers: readonly Peer[],
  port: number | undefined,
  work: (entered: readonly Contestant[]) => Promise<void>,
): Promise<void> {
  const entered: Contestant[] = []
  for (const peer of peers) entered.push(await arena.enter(peer, port === undefined ? {} : { port }))
  await work(entered)
  for (const one of entered) await one.stop()
}

async function main(): Promise<void> {
  if (values.write && (quick || only.size < PARTS.length || values.against !== undefined))
    throw new Error('--write is for a whole run: without --quick, --only and --against')
  if (values.write && !isBuilt())
    throw new Error('--write is for what users run, and dist/ is missing or older than src/: run npm run build first')
  const peers = chosen()
  const results: Results = {
    at: new Date().toISOString(),
    machine: {
      cpu: cpus()[0]?.model.trim() ?? 'unknown',
      cores: cpus().length,
      memory: Math.round(totalmem() / 1e9),
      kernel: release(),
      node: process.version.slice(1),
    },
    mode: [quick ? '--quick' : '', long ? '--long' : ''].filter(Boolean).join(' '),
    rounds: Number(values.rounds ?? (quick ? 2 : 6)),
    seconds: Number(values.seconds ?? (quick ? 0.5 : 2)),
    peers: peers.map((peer) => ({ name: peer.name, title: peer.title, version: peer.version(), strips: peer.strips })),
  }
  const late = setTimeout(() => {
    process.stderr.write(`bench: not done after ${LIMIT} minutes, given up\n`)
    process.exit(1)
  }, LIMIT * 60_000)
  try {
    await measure(peers, results)
  } finally {
    // As far as it got.
    if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(results, null, 2)}\n`)
  }
  clearTimeout(late)
  for (const [heading, rows] of sections(results)) print(`\n${heading}\n\n${rows}`)
  if (goalTable(results, false).includes('met')) print(`\nGoals\n\n${goalTable(results, false)}`)
  print(`\nmedians of ${results.rounds} interleaved rounds of ${results.seconds} s`)
  if (values.write) write(results)
}

if (values.help) print(HELP)
else await main()
