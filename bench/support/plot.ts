// Pictures of the figures: plain SVG, in the reader's light or dark.

export interface Series {
  name: string
  points: readonly { x: number; y: number; min?: number; max?: number }[]
}

export interface Panel {
  title: string
  x: string
  y: string
  /** Powers of two along x, where a linear axis would hide the small ones. */
  logX?: boolean
  logY?: boolean
  /** What the y axis must reach; it begins at 0 unless logarithmic. */
  atLeast?: number
  series: readonly Series[]
}

const WIDTH = 520
const HEIGHT = 300
const MARGIN = { left: 58, right: 150, top: 40, bottom: 46 }

// Of about the same contrast on white and on black.
const COLOURS: Readonly<Record<string, string>> = {
  dotfly: '#d9480f',
  nginx: '#2b8a3e',
  'nginx-plain': '#74b816',
  haproxy: '#1c7ed6',
  go: '#7048e8',
  'go-plain': '#9775fa',
  caddy: '#0c8599',
  relay: '#868e96',
}
const colour = (name: string): string => COLOURS[name] ?? '#a0785a'

const STYLE = `<style>
.ground{fill:#fff}.ink{fill:#212529}.soft{fill:#495057}.grid{stroke:#dee2e6}.bar{opacity:.9}.spread{stroke:#495057}
@media (prefers-color-scheme:dark){.ground{fill:#0d1117}.ink{fill:#e6edf3}.soft{fill:#adb5bd}.grid{stroke:#30363d}.spread{stroke:#ced4da}}
</style>`

const svg = (width: number, height: number, parts: readonly string[]): string =>
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="DejaVu Sans,Verdana,sans-serif" font-size="11">
${STYLE}
<rect class="ground" width="${width}" height="${height}"/>
${parts.join('\n')}
</svg>
`

const text = (x: number, y: number, words: string, more = ''): string =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${words.replaceAll('&', '&amp;').replaceAll('<', '&lt;')}</text>`

/** Panels of lines, so many in a row. */
export function lines(panels: readonly (Panel & { names: readonly string[] })[], columns = 2): string {
  const parts = panels.map((panel, i) => {
    const at = `translate(${(i % columns) * WIDTH},${Math.floor(i / columns) * HEIGHT})`
    return `<g transform="${at}">${drawPanel(panel)}</g>`
  })
  return svg(WIDTH * Math.min(columns, panels.length), HEIGHT * Math.ceil(panels.length / columns), parts)
}

function drawPanel({
  title,
  x: xName,
  y: yName,
  logX,
  logY,
  atLeast = 0,
  series,
  names,
}: Panel & { names: readonly string[] }): string {
  const points = series.flatMap((one) => one.points)
  const [right, bottom] = [WIDTH - MARGIN.right, HEIGHT - MARGIN.bottom]
  const xs = points.map(({ x }) => x)
  const ys = points.flatMap(({ y, max = y }) => [y, max])
  const xScale = scale(Math.min(...xs), Math.max(...xs), MARGIN.left, right, logX === true)
  const yTicks =
    logY === true ? decades(Math.min(...points.map(({ y }) => y)), Math.max(...ys)) : round(Math.max(atLeast, ...ys))
  const yScale = scale(yTicks[0] ?? 0, yTicks.at(-1) ?? 1, bottom, MARGIN.top, logY === true)
  const parts = [text(MARGIN.left, 20, title, 'class="ink" font-size="13" font-weight="bold"')]
  for (const tick of yTicks) {
    const at = yScale(tick)
    parts.push(
      `<line class="grid" x1="${MARGIN.left}" x2="${right}" y1="${at.toFixed(1)}" y2="${at.toFixed(1)}"/>`,
      text(MARGIN.left - 6, at + 4, short(tick), 'class="soft" text-anchor="end"'),
    )
  }
  const xTicks =
    logX === true
      ? [...new Set(xs)].sort((a, b) => a - b)
      : round(Math.max(...xs)).filter((tick) => tick <= Math.max(...xs))
  for (const tick of xTicks)
    parts.push(text(xScale(tick), bottom + 16, short(tick), 'class="soft" text-anchor="middle"'))
  parts.push(
    text((MARGIN.left + right) / 2, bottom + 36, xName, 'class="ink" text-anchor="middle"'),
    text(MARGIN.left, 35, yName, 'class="soft"'),
  )
  const labels: { y: number; name: string; colour: string }[] = []
  for (const [i, one] of series.entries()) {
    const paint = colour(names[i] ?? '')
    const way = one.points.map(({ x, y }) => `${xScale(x).toFixed(1)},${yScale(y).toFixed(1)}`).join(' ')
    parts.push(
      `<polyline points="${way}" fill="none" stroke="${paint}" stroke-width="${names[i] === 'dotfly' ? 2.6 : 1.6}"/>`,
      ...one.points.map(({ x, y, min, max }) => {
        const whisker =
          min === undefined || max === undefined
            ? ''
            : `<line x1="${xScale(x).toFixed(1)}" x2="${xScale(x).toFixed(1)}" y1="${yScale(min).toFixed(1)}" y2="${yScale(max).toFixed(1)}" stroke="${paint}" opacity=".5"/>`
        return `${whisker}<circle cx="${xScale(x).toFixed(1)}" cy="${yScale(y).toFixed(1)}" r="2.4" fill="${paint}"/>`
      }),
    )
    labels.push({ y: yScale(one.points.at(-1)?.y ?? 0), name: one.name, colour: paint })
  }
  // Names stand at the ends of their lines; where two would cover each other they move apart.
  labels.sort((a, b) => a.y - b.y)
  for (const [i, label] of labels.entries()) label.y = Math.max(label.y, (labels[i - 1]?.y ?? -99) + 13)
  const over = (labels.at(-1)?.y ?? 0) - bottom
  for (const label of labels)
    parts.push(text(right + 8, label.y + 4 - Math.max(0, over), label.name, `fill="${label.colour}"`))
  return parts.join('\n')
}

/** Rows of bars, one group a panel, the rows named once. */
export function bars(
  title: string,
  unit: string,
  groups: readonly {
    title: string
    rows: readonly { name: string; title: string; y: number; min: number; max: number }[]
  }[],
): string {
  const [left, row, width, gap, top] = [170, 20, 250, 26, 66]
  const rows = groups[0]?.rows.length ?? 0
  const parts = [
    text(12, 22, title, 'class="ink" font-size="14" font-weight="bold"'),
    text(12, 40, unit, 'class="soft"'),
  ]
  for (const [g, group] of groups.entries()) {
    const from = left + g * (width + gap)
    const most = Math.max(...group.rows.map(({ max }) => max))
    const to = scale(0, most, 0, width - 44, false)
    parts.push(text(from, top - 8, group.title, 'class="ink" font-weight="bold"'))
    for (const [i, { name, title: rowTitle, y, min, max }] of group.rows.entries()) {
      const at = top + i * row
      if (g === 0)
        parts.push(
          text(
            left - 8,
            at + 13,
            rowTitle,
            `class="ink" text-anchor="end"${name === 'dotfly' ? ' font-weight="bold"' : ''}`,
          ),
        )
      parts.push(
        `<rect class="bar" x="${from}" y="${at + 3}" width="${to(y).toFixed(1)}" height="${row - 7}" fill="${colour(name)}"/>`,
        `<line class="spread" x1="${(from + to(min)).toFixed(1)}" x2="${(from + to(max)).toFixed(1)}" y1="${at + 9.5}" y2="${at + 9.5}"/>`,
        text(from + to(max) + 5, at + 13, y.toFixed(1), 'class="ink"'),
      )
    }
  }
  return svg(left + groups.length * (width + gap), top + rows * row + 14, parts)
}

function scale(from: number, to: number, start: number, end: number, log: boolean): (value: number) => number {
  const map = log ? (value: number): number => Math.log(Math.max(value, 1e-9)) : (value: number): number => value
  const span = map(to) - map(from) || 1
  return (value) => start + ((map(value) - map(from)) / span) * (end - start)
}

/** 0 and about five round steps to beyond the largest. */
function round(largest: number): number[] {
  const rough = largest / 5
  const power = 10 ** Math.floor(Math.log10(rough || 1))
  const step = ([1, 2, 2.5, 5, 10].find((of) => of * power >= rough) ?? 10) * power
  return Array.from({ length: Math.ceil(largest / step) + 1 }, (_, i) => i * step)
}

function decades(least: number, most: number): number[] {
  const from = Math.floor(Math.log10(least))
  return Array.from({ length: Math.ceil(Math.log10(most)) - from + 1 }, (_, i) => 10 ** (from + i))
}

function short(value: number): string {
  if (value >= 1_048_576 && value % 1_048_576 === 0) return `${value / 1_048_576} Mi`
  if (value >= 1024 && value % 1024 === 0) return `${value / 1024} Ki`
  if (value >= 1_000_000) return `${value / 1_000_000} M`
  if (value >= 10_000) return `${value / 1000} k`
  return String(Number(value.toPrecision(6)))
}
