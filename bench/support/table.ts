// Numbers for people.

import type { Figure } from './statistics.ts'

export const fixed = (digits: number) => (value: number) => value.toFixed(digits)
export const whole = (value: number): string => Math.round(value).toLocaleString('en')
export const spread = ({ median, min, max }: Figure, show: (value: number) => string): string =>
  `${show(median)} (${show(min)}–${show(max)})`

/** A table in Markdown, padded so that a terminal shows it as well. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join(' | ')} |`
  const [head = [], ...body] = rows
  return [
    line(head),
    `|${widths.map((n, i) => (i === 0 ? '-'.repeat(n + 2) : `${'-'.repeat(n + 1)}:`)).join('|')}|`,
    ...body.map(line),
  ].join('\n')
}
