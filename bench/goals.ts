// What was aimed at, and what one run says of it.

import { CALLERS, CONCURRENCIES } from './requests.ts'
import type { Results } from './results.ts'

export interface Verdict {
  goal: string
  measured: string
  /** Undefined: not measured in this run. */
  met: boolean | undefined
}

export function verdicts(results: Results): Verdict[] {
  const request = (peer: string, concurrency: number, rows = results.requests) =>
    rows?.find((row) => row.peer === peer && row.concurrency === concurrency)
  const stream = (peer: string, kind: string): number =>
    results.stream?.find((row) => row.peer === peer && row.kind === kind)?.speed.median ?? Number.NaN

  /** ours / theirs of one figure, at each concurrency. */
  const ratios = (
    peer: string,
    figure: 'cpu' | 'rps' | 'p99',
    at = CONCURRENCIES,
    ours = 'dotfly',
    rows = results.requests,
  ): number[] =>
    at.map(
      (concurrency) =>
        (request(ours, concurrency, rows)?.[figure].median ?? Number.NaN) /
        (request(peer, concurrency, rows)?.[figure].median ?? Number.NaN),
    )
  const inverse = (numbers: readonly number[]): number[] => numbers.map((n) => 1 / n)

  // Of the Node libraries the one that costs least at most concurrencies stands for all.
  const libraries = [...new Set(results.requests?.map(({ peer }) => peer))].filter((peer) => NODE.has(peer))
  const cheapest = CONCURRENCIES.map((concurrency) =>
    Math.min(...libraries.map((peer) => request(peer, concurrency)?.cpu.median ?? Number.NaN)),
  )
  const overLibraries = cheapest.map(
    (theirs, i) => theirs / (request('dotfly', CONCURRENCIES[i] ?? 0)?.cpu.median ?? Number.NaN),
  )
  const kinds = ['length', 'chunked']
  const streams = (peer: string): number[] => kinds.map((kind) => stream('dotfly', kind) / stream(peer, kind))
  const ours = results.memory?.find(({ peer }) => peer === 'dotfly')
  const start = results.cold?.rows.find(({ peer }) => peer === 'dotfly')
  const flat = results.flatness?.find(({ peer }) => peer === 'dotfly')
  const drift = (points: readonly { anonymous: number }[] | undefined): number => {
    // The first tenth is warm-up.
    const values = (points ?? []).slice(Math.ceil((points?.length ?? 0) / 10)).map(({ anonymous }) => anonymous)
    return values.length === 0 ? Number.NaN : (Math.max(...values) - Math.min(...values)) / 2
  }
  const drifts = [drift(flat?.streamed), drift(flat?.requests)]
  const own = [ours?.processes.at(-1) ?? Number.NaN, ours?.workedProcesses.at(-1) ?? Number.NaN]

  return [
    verdict(
      'CPU a request at most 1.1× nginx with sub_filter (1, 8, 64 connections)',
      ratios('nginx', 'cpu'),
      (x) => x <= 1.1,
    ),
    verdict(
      'the same where no request repeats the one before it',
      ratios('nginx', 'cpu', CONCURRENCIES, 'dotfly-varied'),
      (x) => x <= 1.1,
    ),
    verdict(
      'the same where each has a connection of its own (1, 8 at once)',
      ratios('nginx', 'cpu', CALLERS, 'dotfly', results.calls),
      (x) => x <= 1.1,
    ),
    verdict('requests/s at least 1.0× nginx with sub_filter', ratios('nginx', 'rps'), (x) => x >= 1),
    verdict("at least 2× Go's ReverseProxy with a scan, by CPU a request", inverse(ratios('go', 'cpu')), (x) => x >= 2),
    verdict('at least 4× the best Node library that strips, by CPU a request', overLibraries, (x) => x >= 4),
    verdict('p99 at one connection at most 1.3× nginx with sub_filter', ratios('nginx', 'p99', [1]), (x) => x <= 1.3),
    verdict(
      'a GiB at least as fast as nginx with sub_filter (content-length, chunked)',
      streams('nginx'),
      (x) => x >= 1,
    ),
    verdict(
      'the same with the proxy and its reader held to one processor, and to one each',
      ['together', 'apart'].map((kind) => stream('dotfly', kind) / stream('nginx', kind)),
      (x) => x >= 1,
    ),
    verdict('a GiB at least 0.5× as fast as nginx without', streams('nginx-plain'), (x) => x >= 0.5),
    verdict(
      'exec to accepts at most 1.2× `node -e 0`',
      [(start?.accepts.median ?? Number.NaN) / (results.cold?.node.median ?? Number.NaN)],
      (x) => x <= 1.2,
    ),
    verdict(
      'anonymous memory of the trusted process at most 12 MB (idle, after 100,000 requests)',
      own,
      (x) => x <= 12,
      ' MB',
      1,
    ),
    verdict('flat, ± 2 MB over 10 GiB and over 1,000,000 requests', drifts, (x) => x <= 2, ' MB', 1, '± '),
    verdict('an idle connection at most 8 KB', [ours?.connection ?? Number.NaN], (x) => x <= 8, ' KB', 1),
  ]
}

const NODE = new Set(['fast-proxy', 'fastify-http-proxy', 'httpxy', 'http-proxy-3'])

function verdict(
  goal: string,
  values: readonly number[],
  holds: (value: number) => boolean,
  unit = '×',
  digits = 2,
  before = '',
): Verdict {
  const known = values.every((value) => Number.isFinite(value))
  if (!known) return { goal, measured: 'not measured', met: undefined }
  return {
    goal,
    measured: values.map((value) => `${before}${value.toFixed(digits)}${unit}`).join(', '),
    met: values.every((value) => holds(value)),
  }
}
