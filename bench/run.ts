// npm run bench: what dotfly costs beside what a user would pick instead, in one run on one machine. Only the ratios
// of one run mean anything: load, peer and upstream share the cores, and so does everybody else on the machine.
//
//     npm run bench -- --quick --only requests --peers nginx          dotfly and nginx, half a minute
//     npm run bench -- --quick --only requests --peers nginx --against ../other-checkout
//                                                                     and a second dotfly, for before and after
//
// The second dotfly is run from its own bin/ (or dist/, where it was built) with this checkout's clients.
// Needs gcc and nginx; measures besides what is installed, and says what is not.

import { writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { PEERS } from './peers/all.ts'
import { dotfly } from './peers/dotfly.ts'
import { type RequestRow, requests } from './requests.ts'
import { type Contestant, inArena } from './support/arena.ts'
import { fixed, spread, table, whole } from './support/table.ts'

const HELP = `Usage: npm run bench -- [OPTION…]

    --quick            fewer and shorter rounds: under two minutes
    --only PART,…      requests
    --peers NAME,…     ${PEERS.map(({ name }) => name).join(', ')};
                       default all that are installed; dotfly always is
    --against DIR      another checkout of dotfly, as a peer
    --rounds N, --seconds S
    --json FILE        all figures

Example: npm run bench -- --quick --only requests --peers nginx,relay
`

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string' },
    peers: { type: 'string' },
    against: { type: 'string' },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    json: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  },
})

const print = (line: string): void => void process.stdout.write(`${line}\n`)

async function main(): Promise<void> {
  const names = values.peers?.split(',')
  const wanted = PEERS.filter(({ name }) => name === 'dotfly' || names === undefined || names.includes(name))
  if (values.against !== undefined) wanted.splice(1, 0, dotfly(resolve(values.against)))
  const peers = wanted.filter((peer) => {
    const missing = peer.missing()
    if (missing !== undefined) print(`without ${peer.title}: ${missing}`)
    return missing === undefined
  })
  const rounds = Number(values.rounds ?? (values.quick ? 3 : 6))
  const seconds = Number(values.seconds ?? (values.quick ? 1 : 2))
  await inArena(async (arena) => {
    const contestants: Contestant[] = []
    for (const peer of peers) contestants.push(await arena.enter(peer))
    const rows = await requests(arena, contestants, { rounds, seconds })
    print(
      `medians of ${rounds} interleaved rounds of ${seconds} s; 700-byte answers, keep-alive, Unix socket in, TCP out\n`,
    )
    print(requestTable(rows))
    print(`\n${ratios(rows, 'nginx')}`)
    if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ requests: rows }, null, 2)}\n`)
  })
}

function requestTable(rows: readonly RequestRow[]): string {
  return table([
    [
      '',
      'connections',
      'CPU µs a request (min–max)',
      'of it supervisor',
      'requests/s',
      'p50',
      'p99',
      'p99.9 µs',
      'foreign CPU',
    ],
    ...rows.map(({ title, concurrency, cpu, first, rps, p50, p99, p999, foreign }) => [
      title,
      String(concurrency),
      spread(cpu, fixed(1)),
      fixed(1)(first.median),
      whole(rps.median),
      whole(p50.median),
      whole(p99.median),
      whole(p999.median),
      `${whole(foreign.median * 100)} %`,
    ]),
  ])
}

function ratios(rows: readonly RequestRow[], to: string): string {
  const reference = rows.filter(({ peer }) => peer === to)
  const lines = rows
    .filter(({ peer }) => peer.startsWith('dotfly') || peer === 'other')
    .flatMap((row) => {
      const other = reference.find(({ concurrency }) => concurrency === row.concurrency)
      if (other === undefined) return []
      const ratio = (name: 'cpu' | 'rps' | 'p50' | 'p99'): string => (row[name].median / other[name].median).toFixed(2)
      return [[row.title, String(row.concurrency), ...(['cpu', 'rps', 'p50', 'p99'] as const).map(ratio)]]
    })
  return table([[`ratio to ${reference[0]?.title ?? to}`, 'connections', 'CPU', 'requests/s', 'p50', 'p99'], ...lines])
}

if (values.help) print(HELP)
else await main()
