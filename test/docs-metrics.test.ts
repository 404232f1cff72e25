// The dashboard and the operator's document speak of the metrics that a scrape has, by name and label, and of all.

import { readFileSync } from 'node:fs'
import { test } from 'tap'
import { serveMetrics } from '../src/metrics/serve.ts'
import type { Event } from '../src/proxy/event.ts'

const read = (path: string): string => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8')
const SUFFIX = /_(?:bucket|sum|count)$/

interface Scrape {
  /** Metric -> its labels. */
  metrics: Map<string, string[]>
  /** Sample names, which for a histogram are three. */
  samples: Set<string>
}

async function scrape(): Promise<Scrape> {
  const served = await serveMetrics({ host: '127.0.0.1', port: 0 }, [
    { path: '/.fly/api', mode: 0o755, policy: 'self', allow: [], audiences: [] },
  ])
  served.event({ kind: 'listening', socket: 0 })
  const caller = { pid: 1, uid: 0, gid: 0 }
  const answer = { method: 'POST', route: '/v1/tokens/oidc', status: 200, hits: 1, bytes: 700, ms: 2 }
  served.event({ kind: 'exchange', time: 0, socket: 0, ...caller, ...answer })
  served.event({ kind: 'fault', code: 'UNCAUGHT' })
  const text = await (await fetch(`http://127.0.0.1:${served.port}/metrics`)).text()
  await served.close()
  const metrics = new Map([...text.matchAll(/^# TYPE (\S+) /gm)].map(([, name = '']): [string, string[]] => [name, []]))
  const samples = new Set<string>()
  for (const [, name = '', labels = ''] of text.matchAll(/^([a-z_]+)(?:\{(.*)\})? \S+$/gm)) {
    samples.add(name)
    const list = metrics.get(name) ?? metrics.get(name.replace(SUFFIX, '')) ?? []
    for (const [, label = ''] of labels.matchAll(/([a-z]+)="/g)) if (!list.includes(label)) list.push(label)
  }
  return { metrics, samples }
}

const named = (text: string): Set<string> => new Set(text.match(/\bdotfly_[a-z_]+/g))

test('docs/grafana.json asks for samples that a scrape has, by labels that they have, and leaves none out', async (t) => {
  const { metrics, samples } = await scrape()
  t.ok(metrics.size >= 7, `${metrics.size} metrics`)
  const text = read('docs/grafana.json')
  for (const name of named(text)) t.ok(samples.has(name), name)
  const used = new Set([...named(text)].map((name) => (metrics.has(name) ? name : name.replace(SUFFIX, ''))))
  t.same(
    [...metrics.keys()].filter((name) => !used.has(name)),
    [],
    'every metric is in a panel',
  )

  // What a scrape itself adds: the instance, and `le` for the steps of a histogram.
  const board: { panels: { title: string; targets: { expr: string; legendFormat: string }[] }[] } = JSON.parse(text)
  const { panels } = board
  t.ok(panels.length > 0)
  for (const { title, targets } of panels) {
    for (const { expr, legendFormat } of targets) {
      const labels = new Set([
        'instance',
        ...[...named(expr)].flatMap((name) => metrics.get(name.replace(SUFFIX, '')) ?? metrics.get(name) ?? []),
      ])
      const asked = [
        ...[...expr.matchAll(/by \(([^)]*)\)/g)].flatMap(([, list = '']) => list.split(', ')),
        ...[...expr.matchAll(/([a-z]+)(?:=~|!=|!~|=)"/g)].map(([, label = '']) => label),
        ...[...legendFormat.matchAll(/\{\{([a-z]+)\}\}/g)].map(([, label = '']) => label),
      ]
      for (const label of asked) t.ok(labels.has(label), `${title}: ${label}`)
      t.equal(expr.split('(').length, expr.split(')').length, `${title}: balanced`)
    }
  }
})

test('docs/operations.md has a row for every metric, with its labels, and names no other', async (t) => {
  const { metrics, samples } = await scrape()
  const text = read('docs/operations.md')
  const rows = [...text.matchAll(/^\| `(dotfly_[a-z_]+)` \| [a-z]+ \| ([^|]*) \|/gm)].map(
    ([, name = '', labels = '']): [string, string[]] => [
      name,
      [...labels.matchAll(/`([a-z]+)`/g)].map(([, label = '']) => label),
    ],
  )
  t.same(
    Object.fromEntries(rows),
    Object.fromEntries([...metrics].map(([name, labels]) => [name, labels.filter((label) => label !== 'le')])),
  )
  for (const name of named(text)) t.ok(metrics.has(name) || samples.has(name), name)
})

test('docs/operations.md has a paragraph for every code that there is, what it means and what to do, and for no other', async (t) => {
  const { STATUS } = await import('../src/proxy/event.ts')
  const faults: Record<Extract<Event, { kind: 'fault' }>['code'], true> = {
    UNCAUGHT: true,
    SOCKET_LOST: true,
    NO_SECRET_MEMORY: true,
  }
  const text = read('docs/operations.md')
  const paragraphs = [...text.matchAll(/^#### ([A-Z_]+)\n\n((?:(?!#).+\n)+)/gm)].map(([, code = '', says = '']) => ({
    code,
    says,
  }))
  t.same(
    paragraphs.map(({ code }) => code),
    [...Object.keys(STATUS), ...Object.keys(faults)],
    'each once, in the order of the source',
  )
  for (const { code, says } of paragraphs) t.ok(says.split(/[.:;?] /).length >= 2 && says.length > 60, code)
  // Nor does it, or another document, name a code that there is not.
  for (const file of ['docs/operations.md', 'docs/http.md', 'README.md'])
    for (const [code] of read(file).matchAll(
      /\b(?:FLYD|REQUEST|ROUTE|TARGET|METHOD|QUERY|BODY|AUDIENCE|CALLER)_[A-Z_]+[A-Z]\b/g,
    ))
      t.ok(code in STATUS, `${file}: ${code}`)
})
