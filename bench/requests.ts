// Requests through dotfly and through what a user would pick instead, side by side: rounds interleaved, one warm-up,
// medians quoted. Two cores are shared by load, peer and upstream, so only the ratios of one run mean anything.
//
//     node bench/requests.ts [--rounds N] [--seconds S] [--json FILE]

import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { parseArgs } from 'node:util'
import { cpuOf, dotfly, haproxyPeer, nginxPeer, upstream } from './support/peers.ts'
import type { Peer } from './support/peers.ts'

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '6' },
    seconds: { type: 'string', default: '2' },
    json: { type: 'string' },
  },
})
const CONCURRENCIES = [1, 8, 64]

interface Sample {
  cpu: number
  rps: number
  p50: number
  p99: number
  p999: number
}

async function sample(peer: Peer, concurrency: number, seconds: number): Promise<Sample> {
  const before = cpuOf(peer.pids())
  const load = spawn(
    process.execPath,
    [join(import.meta.dirname, 'support/load.ts'), peer.socket, String(concurrency), String(seconds)],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  const said = JSON.parse(await text(load.stdout)) as {
    requests: number
    errors: number
    p50: number
    p99: number
    p999: number
  }
  if (said.errors > 0) throw new Error(`${peer.name}: ${said.errors} errors at concurrency ${concurrency}`)
  const { requests, p50, p99, p999 } = said
  return { cpu: ((cpuOf(peer.pids()) - before) * 1000) / requests, rps: requests / seconds, p50, p99, p999 }
}

const median = (numbers: number[]): number => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0

const directory = mkdtempSync(join(tmpdir(), 'dotfly-bench-'))
const origin = await upstream(directory)
const peers = [
  await dotfly(directory, origin.port),
  await nginxPeer(directory, origin.port, true),
  await nginxPeer(directory, origin.port, false),
  await haproxyPeer(directory, origin.port),
].filter((peer) => peer !== undefined)

const seconds = Number(values.seconds)
const results = new Map<string, Sample[]>()
try {
  for (const peer of peers) await sample(peer, 8, 1)
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const concurrency of CONCURRENCIES) {
      for (const peer of peers) {
        const key = `${peer.name}|${concurrency}`
        results.set(key, [...(results.get(key) ?? []), await sample(peer, concurrency, seconds)])
      }
    }
  }
} finally {
  for (const peer of peers) await peer.stop()
  await origin.stop()
  rmSync(directory, { recursive: true })
}

const rows = peers.map((peer) => ({
  name: peer.name,
  at: CONCURRENCIES.map((concurrency) => {
    const samples = results.get(`${peer.name}|${concurrency}`) ?? []
    const figure = (of: (sample: Sample) => number): number => median(samples.map(of))
    const cpus = samples.map(({ cpu }) => cpu)
    return {
      concurrency,
      cpu: figure((s) => s.cpu),
      cpuMin: Math.min(...cpus),
      cpuMax: Math.max(...cpus),
      rps: figure((s) => s.rps),
      p50: figure((s) => s.p50),
      p99: figure((s) => s.p99),
      p999: figure((s) => s.p999),
    }
  }),
}))

console.log(
  `medians of ${values.rounds} interleaved rounds of ${values.seconds} s; 700-byte answers, keep-alive, Unix socket in, TCP out\n`,
)
console.log('| | concurrency | CPU µs a request (min–max) | requests/s | p50 / p99 / p99.9 µs |\n|---|---|---|---|---|')
for (const { name, at } of rows) {
  for (const { concurrency, cpu, cpuMin, cpuMax, rps, p50, p99, p999 } of at) {
    console.log(
      `| ${name} | ${concurrency} | ${cpu.toFixed(1)} (${cpuMin.toFixed(1)}–${cpuMax.toFixed(1)}) | ${Math.round(rps).toLocaleString('en')} | ${p50} / ${p99} / ${p999} |`,
    )
  }
}
const reference = rows.find(({ name }) => name === 'nginx, sub_filter')
const ours = rows[0]
if (reference !== undefined && ours !== undefined) {
  console.log('\nratios to nginx with sub_filter:')
  for (const [i, { concurrency, cpu, rps, p99 }] of ours.at.entries()) {
    const theirs = reference.at[i]
    if (theirs === undefined) continue
    console.log(
      `  concurrency ${concurrency}: CPU ${(cpu / theirs.cpu).toFixed(2)}×, requests/s ${(rps / theirs.rps).toFixed(2)}×, p99 ${(p99 / theirs.p99).toFixed(2)}×`,
    )
  }
}
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(rows, null, 2)}\n`)
