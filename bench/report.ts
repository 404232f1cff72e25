// The figures of a run, for people: tables on a terminal, docs/performance.md with its pictures. What the tricks are
// that were left out is written by hand, in docs/performance.notes.md, and taken into the page as it stands.
//
//     node bench/report.ts [FILE]     writes the page again, from bench/results.json

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { verdicts } from './goals.ts'
import type { Curve } from './growth.ts'
import { type Flatness, IDLE, WORK } from './memory.ts'
import type { Results } from './results.ts'
import { bars, lines, type Panel } from './support/plot.ts'
import { fixed, spread, table, whole } from './support/table.ts'

const DOCS = join(import.meta.dirname, '../docs')
export const RESULTS = join(import.meta.dirname, 'results.json')

/** The tables, each under its heading. */
export function sections(results: Results): Map<string, string> {
  const found = new Map<string, string>()
  const { requests, calls, stream, cold, memory, flatness } = results
  if (requests !== undefined) {
    found.set(
      'Requests',
      table([
        ['', 'connections', 'CPU µs a request (min–max)', 'requests/s', 'p50 µs', 'p99', 'p99.9', 'others'],
        ...requests.map(({ title, concurrency, cpu, rps, p50, p99, p999, foreign }) => [
          title,
          String(concurrency),
          spread(cpu, fixed(1)),
          whole(rps.median),
          whole(p50.median),
          whole(p99.median),
          whole(p999.median),
          `${whole(foreign.median * 100)} %`,
        ]),
      ]),
    )
    const own = requests.filter(({ title }) => title.startsWith('dotfly'))
    found.set(
      'Ratios to nginx with sub_filter',
      table([
        ['', 'connections', 'CPU', 'of it the supervisor', 'requests/s', 'p50', 'p99'],
        ...own.flatMap((row) => {
          const nginx = requests.find(({ peer, concurrency }) => peer === 'nginx' && concurrency === row.concurrency)
          if (nginx === undefined) return []
          const ratio = (name: 'cpu' | 'rps' | 'p50' | 'p99'): string =>
            `${(row[name].median / nginx[name].median).toFixed(2)}×`
          const supervisor = `${((row.first.median / row.cpu.median) * 100).toFixed(0)} %`
          return [
            [row.title, String(row.concurrency), ratio('cpu'), supervisor, ratio('rps'), ratio('p50'), ratio('p99')],
          ]
        }),
      ]),
    )
  }
  if (calls !== undefined) {
    found.set(
      'A connection for each request',
      table([
        ['', 'at once', 'CPU µs a request (min–max)', '× nginx with sub_filter', 'requests/s', 'p50 µs', 'p99'],
        ...calls.map(({ title, concurrency, cpu, rps, p50, p99 }) => {
          const nginx = calls.find((row) => row.peer === 'nginx' && row.concurrency === concurrency)
          return [
            title,
            String(concurrency),
            spread(cpu, fixed(1)),
            nginx === undefined ? '' : (cpu.median / nginx.cpu.median).toFixed(2),
            whole(rps.median),
            whole(p50.median),
            whole(p99.median),
          ]
        }),
      ]),
    )
  }
  if (stream !== undefined) {
    found.set(
      'Large answers',
      table([
        ['', 'framing', 'MB/s (min–max)', 'CPU s a GiB (min–max)', 'anonymous MB, peak', 'grown by'],
        ...stream.map(({ title, kind, speed, cpu, peak, grown }) => [
          title,
          {
            length: 'content-length',
            chunked: 'chunked',
            together: 'content-length, one processor',
            apart: 'content-length, two processors',
          }[kind],
          spread(speed, whole),
          spread(cpu, fixed(2)),
          fixed(1)(peak.max),
          fixed(1)(grown.max),
        ]),
      ]),
    )
  }
  if (cold !== undefined) {
    const bare = cold.node.median
    found.set(
      'Cold start',
      table([
        ['', 'exec to accepts, ms (min–max)', 'to the first answer', 'to the entrypoint', 'accepts, × `node -e 0`'],
        ['node -e 0, to its end', spread(cold.node, fixed(1)), '', '', '1.00×'],
        ...cold.rows.map(({ title, accepts, answers, runs }) => [
          title,
          spread(accepts, fixed(1)),
          spread(answers, fixed(1)),
          runs === undefined ? '' : spread(runs, fixed(1)),
          `${(accepts.median / bare).toFixed(2)}×`,
        ]),
      ]),
    )
  }
  if (memory !== undefined) {
    const each = (processes: readonly number[]): string => processes.map((n) => n.toFixed(1)).join(' + ')
    found.set(
      'Memory',
      table([
        [
          '',
          'anonymous MB, idle',
          'PSS',
          `after ${whole(WORK)} requests`,
          'PSS',
          `with ${whole(IDLE)} idle connections`,
          'KB a connection',
        ],
        ...memory.map(({ title, idle, processes, worked, workedProcesses, holding, connection }) => [
          title,
          each(processes),
          fixed(1)(idle.pss),
          each(workedProcesses),
          fixed(1)(worked.pss),
          fixed(1)(holding.anonymous),
          fixed(1)(connection),
        ]),
      ]),
    )
  }
  if (flatness !== undefined) {
    found.set(
      'Flatness',
      table([
        ['the working process, anonymous MB', 'start', 'lowest', 'highest', 'end'],
        ...flatness.flatMap(({ title, requests: asked, streamed }) =>
          (
            [
              [asked, `${whole(asked.at(-1)?.done ?? 0)} requests`],
              [streamed, `${streamed.at(-1)?.done ?? 0} GiB`],
            ] as const
          ).map(([points, what]) => {
            const values = points.map(({ anonymous }) => anonymous)
            const [first = 0, last = 0] = [values[0], values.at(-1)]
            return [
              `${title}, ${what}`,
              ...[first, Math.min(...values.slice(1)), Math.max(...values), last].map(fixed(1)),
            ]
          }),
        ),
      ]),
    )
  }
  return found
}

/** `all`, or only those that this run has measured. */
export function goalTable(results: Results, all: boolean): string {
  return table([
    ['goal', 'measured', ''],
    ...verdicts(results)
      .filter(({ met }) => all || met !== undefined)
      .map(({ goal, measured, met }) => [goal, measured, met === undefined ? '' : met ? 'met' : '**not met**']),
  ])
}

/** File name -> picture. */
function pictures({ requests, growth, flatness }: Results): Map<string, string> {
  const found = new Map<string, string>()
  if (requests !== undefined) {
    const concurrencies = [...new Set(requests.map(({ concurrency }) => concurrency))]
    const groups = concurrencies.map((concurrency) => ({
      title: `${concurrency} connection${concurrency === 1 ? '' : 's'}`,
      rows: requests
        .filter((row) => row.concurrency === concurrency)
        .map(({ peer, title, cpu }) => ({ name: peer, title, y: cpu.median, min: cpu.min, max: cpu.max })),
    }))
    found.set(
      'performance-requests.svg',
      bars('CPU for one request', 'µs of all processes of the proxy; median, and the whole spread as a line', groups),
    )
  }
  if (growth !== undefined) {
    const panel = (title: string, x: string, curves: readonly Curve[], more: Partial<Panel> = {}) => ({
      title,
      x,
      y: 'CPU µs a request',
      names: curves.map(({ peer }) => peer),
      series: curves.map(({ title: name, points }) => ({
        name,
        points: points.map(({ x: at, cpu }) => ({ x: at, y: cpu.median, min: cpu.min, max: cpu.max })),
      })),
      ...more,
    })
    found.set(
      'performance-growth.svg',
      lines([
        panel('Connections', 'connections (doubling)', growth.concurrency, { logX: true }),
        panel('Headers', 'fields more, in the request and in the answer', growth.headers),
        panel('Size of the answer', 'bytes (logarithmic, as is the CPU)', growth.body, { logX: true, logY: true }),
        panel('What is looked for', 'tokens in the credential; 16 KiB answers', growth.tokens, { logX: true }),
      ]),
    )
  }
  if (flatness !== undefined) {
    const names = flatness.map(({ peer }) => peer)
    const panel = (
      title: string,
      x: string,
      of: (one: Flatness) => readonly { done: number; anonymous: number }[],
      by: number,
    ) => ({
      title,
      x,
      y: 'MB of anonymous memory',
      names,
      series: flatness.map((one) => ({
        name: one.title,
        points: of(one).map(({ done, anonymous }) => ({ x: done / by, y: anonymous })),
      })),
    })
    found.set(
      'performance-memory.svg',
      lines([
        panel('Memory over many requests', 'requests, thousands', (one) => one.requests, 1000),
        panel('Memory over many bytes', 'GiB in answers of 1 GiB', (one) => one.streamed, 1),
      ]),
    )
  }
  return found
}

const TEXTS: Readonly<Record<string, string>> = {
  Requests: `A POST of an audience, an answer of 700 bytes as a token has, connections kept alive. **CPU** is the time of all
threads of all processes of a proxy, by the scheduler's own nanoseconds, divided by the requests; it is the figure to
compare, because clients, proxy and upstream share the cores and so requests a second and latencies depend on all three.
**others** is how much of one core worked for somebody else meanwhile. Clients that keep a connection repeat
themselves, and dotfly does not read such a request anew; in the rows *none repeated* each differs from the one before it.

![CPU for one request, by proxy](performance-requests.svg)`,
  'A connection for each request': `As curl has it, and most that ask for a token. What one guest of a socket has asked, to the byte, dotfly does not read
again for the next. The clock starts before the client connects.`,
  'Large answers': `One answer of base64, read as fast as it comes. What a peer keeps of it shows in its memory. A reader that has its
proxy's processor finds the bytes in its cache and is woken for nothing; with two processors the kernel puts it there at
times and at times on the other, which no proxy chooses and which makes the medians of those rows leap. So the last rows
hold both to one, as in a Machine that has one, and to one each. Memory is looked at in rounds that are not timed.`,
  'Cold start': `All files are in the page cache. dotfly accepts as soon as its supervisor has bound the socket: who connects then is
answered when the trusted process is up. The last row is a whole init, whose entrypoint writes a file.`,
  Memory: `Anonymous memory is what no file can give back; where a proxy has two processes both are given, the one that works
last. PSS adds shared pages by their share, for dotfly most of it the pages of the Node binary. The kernel's memory for
sockets is the same for all and not counted. After the requests all have rested for a minute.`,
  Flatness: '![Memory over many requests and many bytes](performance-memory.svg)',
}

/** The page. */
export function page(results: Results, notes: string): string {
  const { at, machine, mode, rounds, seconds, peers } = results
  const parts = [
    '# Performance',
    `What dotfly costs beside what one would pick instead, all in one run on one machine: only the ratios mean anything
elsewhere. \`npm run bench -- ${mode} --write\` writes this page; how each peer is configured stands in its file under
\`bench/peers\`, and a peer that did not do what its row says would end the run.`,
    '## Goals',
    goalTable(results, true),
  ]
  const tables = sections(results)
  for (const [heading, rows] of tables) {
    parts.push(`## ${heading}`)
    const words = TEXTS[heading]
    if (words !== undefined) parts.push(words)
    parts.push(rows)
  }
  if (results.growth !== undefined)
    parts.push(
      '## Growth',
      `8 connections where nothing else is said. nginx and Go look for each token as it stands; dotfly for every spelling of
each, mixtures included.`,
      '![CPU a request by connections, headers, size and tokens](performance-growth.svg)',
    )
  parts.push(
    '## How it was measured',
    table([
      ['peer', 'version', 'takes the credential out of'],
      ...peers.map(({ title, version, strips }) => [
        title,
        version,
        strips.headers && strips.body
          ? 'headers and bodies'
          : strips.body
            ? 'bodies'
            : strips.headers
              ? 'headers'
              : 'nothing',
      ]),
    ]),
    `${machine.cpu}, ${machine.cores} cores, ${machine.memory} GB; Linux ${machine.kernel}; Node ${machine.node}; ${at.slice(0, 10)}.
Medians of ${rounds} rounds of ${seconds} s, interleaved (A B C, C B A) after a warm-up. A Unix socket in, TCP on loopback out, one
worker or thread each. The upstream of requests is nginx (\`return 200\`); the clients, and the origin of large answers, are
\`bench/support/wire.c\`: one thread, the same for all.`,
    notes.trim(),
  )
  return `${parts.join('\n\n')}\n`
}

export function write(results: Results): void {
  writeFileSync(RESULTS, `${JSON.stringify(results)}\n`)
  writeFileSync(join(DOCS, 'performance.md'), page(results, readFileSync(join(DOCS, 'performance.notes.md'), 'utf8')))
  for (const [name, picture] of pictures(results)) writeFileSync(join(DOCS, name), picture)
}

if (import.meta.main) write(JSON.parse(readFileSync(process.argv[2] ?? RESULTS, 'utf8')) as Results)
