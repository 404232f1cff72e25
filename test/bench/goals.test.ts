// The page says met or not met by these rules alone.

import { test } from 'tap'
import { verdicts } from '../../bench/goals.ts'
import type { Results } from '../../bench/results.ts'
import type { Figure } from '../../bench/support/statistics.ts'

const exactly = (median: number): Figure => ({ median, min: median, max: median })

/** A run in which dotfly is everywhere `factor` times as dear, or as slow, as just meets each goal. */
function run(factor: number): Results {
  const request = (peer: string, cpu: number, rps: number, p99: number) =>
    [1, 8, 64].map((concurrency) => ({
      peer,
      title: peer,
      concurrency,
      cpu: exactly(cpu),
      first: exactly(0),
      rps: exactly(rps),
      p50: exactly(1),
      p99: exactly(p99),
      p999: exactly(p99),
      foreign: exactly(0),
    }))
  const stream = (peer: string, speed: number) =>
    (['length', 'chunked', 'together', 'apart'] as const).map((kind) => ({
      peer,
      title: peer,
      kind,
      speed: exactly(speed),
      cpu: exactly(1),
      peak: exactly(1),
      grown: exactly(1),
    }))
  const memory = { anonymous: 11 * factor, pss: 11 }
  const along = [0, 1, 2, 3].map((done) => ({ done, anonymous: 10 + (done % 2) * 3 * factor }))
  return {
    at: '',
    machine: { cpu: '', cores: 2, memory: 1, kernel: '', node: '' },
    mode: '',
    rounds: 1,
    seconds: 1,
    peers: [],
    requests: [
      ...request('dotfly', 10 * factor, 1000 / factor, 100 * factor),
      ...request('dotfly-varied', 11 * factor, 1000, 100),
      ...request('nginx', 10, 1000, 100),
      ...request('go', 21, 1, 1),
      ...request('httpxy', 200, 1, 1),
      ...request('fast-proxy', 41, 1, 1),
    ],
    calls: [...request('dotfly', 11 * factor, 1, 1), ...request('nginx', 10, 1, 1)],
    stream: [...stream('dotfly', 1000 / factor), ...stream('nginx', 1000), ...stream('nginx-plain', 1900)],
    cold: {
      node: exactly(30),
      rows: [{ peer: 'dotfly', title: '', accepts: exactly(33 * factor), answers: exactly(40) }],
    },
    memory: [
      {
        peer: 'dotfly',
        title: '',
        idle: memory,
        processes: [99, 11 * factor],
        worked: memory,
        workedProcesses: [99, 11 * factor],
        holding: memory,
        connection: 7 * factor,
      },
    ],
    flatness: [{ peer: 'dotfly', title: '', requests: along, streamed: along }],
  }
}

test('a run that just meets every goal meets them, one that is half as good meets none', async (t) => {
  t.same([...new Set(verdicts(run(1)).map(({ met }) => met))], [true])
  t.same([...new Set(verdicts(run(2)).map(({ met }) => met))], [false])
})

test('what was not measured is neither met nor missed', async (t) => {
  const { requests, calls, stream, cold, memory, flatness, ...rest } = run(1)
  t.ok(requests && calls && stream && cold && memory && flatness)
  const found = verdicts(rest)
  t.same([...new Set(found.map(({ met }) => met))], [undefined])
  t.same([...new Set(found.map(({ measured }) => measured))], ['not measured'])
})
