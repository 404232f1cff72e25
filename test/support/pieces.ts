// A body that comes in pieces, through strip.

import { Strip } from '../../src/proxy/strip.ts'
import type { Needles } from '../../src/proxy/strip.ts'

/** What a guest receives when flyd's body comes in these pieces. */
export function through(needles: Needles, pieces: readonly Buffer[]): Buffer {
  const strip = new Strip(needles)
  const out = pieces.map((piece) => Buffer.from(strip.push(Buffer.from(piece))))
  return Buffer.concat([...out, strip.end()])
}

export const cutAt = (body: Buffer, marks: readonly number[]): Buffer[] =>
  [0, ...marks].map((mark, i) => body.subarray(mark, marks[i] ?? body.length))
