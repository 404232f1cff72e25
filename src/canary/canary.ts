// Proves, on this machine, that nothing leaks: a random credential of each format, the real proxy as a process, a
// hostile flyd that puts every spelling of it into every position of an answer, and a guest that searches every byte
// it receives. Nothing here knows how src/proxy works: what to look for comes from a speller of its own.

import { once } from 'node:events'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Failure } from '../errors.ts'
import { superviseProxy } from '../init/launch.ts'
import { credential, Dice, FORMATS } from './credentials.ts'
import type { Credential, Known } from './credentials.ts'
import { POSITIONS } from './hostile.ts'
import { leaks } from './leaks.ts'
import type { Position } from './hostile.ts'
import { bases, FORMS } from './speller.ts'

export interface CanaryOptions {
  /** Repeats a run exactly. */
  seed: string
  /** True: a sample that takes a second or two, for a start-up check; false: all of it. */
  quick: boolean
  progress?: (done: number, of: number) => void
  /** Once aborted, nothing more is tried, and the report is of no use. */
  stop?: AbortSignal
}

export interface CanaryReport {
  formats: number
  spellings: number
  rows: { position: string; tried: number; leaks: number }[]
  /** What leaked: where, and which spelling; never the bytes. */
  leaks: { position: string; format: string; spelling: string }[]
}

interface Case {
  position: Position
  format: string
  spelling: string
  known: Known
  pieces: Buffer[]
}

const SAMPLE = 24 // spellings tried where the whole place is dropped anyway
const QUICK_SAMPLE = 4
const QUICK_FORMATS = 2
const IN_FLIGHT = 8

/** Runs it. Throws a Failure where the proxy dies or falls silent, a LaunchError where it cannot start. */
export async function runCanary({ seed, quick, progress, stop }: CanaryOptions): Promise<CanaryReport> {
  const formats = quick ? FORMATS.slice(0, QUICK_FORMATS) : FORMATS
  const rows = new Map(POSITIONS.map(({ name }) => [name, { position: name, tried: 0, leaks: 0 }]))
  const report: CanaryReport = { formats: formats.length, spellings: 0, rows: [...rows.values()], leaks: [] }
  const plans = formats.map((format) => {
    const dice = new Dice(`${seed}:${format}`)
    const secret = credential(dice, format)
    return { format, dice, secret, spellings: spellingsOf(secret) }
  })
  report.spellings = Math.max(...plans.map(({ spellings }) => spellings.length))
  const size = (position: Position, spellings: readonly Spelling[]): number =>
    quick ? QUICK_SAMPLE : position.sampled ? SAMPLE : spellings.length
  const of = plans.reduce(
    (sum, { spellings }) => POSITIONS.reduce((more, position) => more + size(position, spellings), sum),
    0,
  )
  let done = 0
  for (const { format, dice, secret, spellings } of plans) {
    if (stop?.aborted === true) break
    const cases = (function* (): Generator<Case> {
      for (const position of POSITIONS) {
        const count = size(position, spellings)
        for (let i = 0; i < count; i++) {
          if (stop?.aborted === true) return
          const spelling = (count === spellings.length ? spellings[i] : undefined) ?? dice.pick(spellings)
          const known = spelling.apply(dice)
          yield { position, format, spelling: spelling.name, known, pieces: position.answer(known.bytes, dice) }
        }
      }
    })()
    await play(secret, cases, (one, received) => {
      const row = rows.get(one.position.name)
      const leaked = leaks(one.known, received)
      if (row !== undefined) {
        row.tried++
        row.leaks += leaked ? 1 : 0
      }
      if (leaked) report.leaks.push({ position: one.position.name, format, spelling: one.spelling })
      progress?.(++done, of)
    })
  }
  return report
}

interface Spelling {
  name: string
  apply(dice: Dice): Known
}

/** Every spelling: what an encoding fixes, in each of the forms that it leaves free; written out only when tried. */
function spellingsOf(secret: Credential): Spelling[] {
  return bases(secret).flatMap(([base, known]) =>
    FORMS.map(([form, apply]) => ({ name: `${base}, ${form}`, apply: (dice: Dice) => apply(known, dice) })),
  )
}

/** One proxy, one hostile flyd, all cases of one credential. */
async function play(
  secret: Credential,
  cases: Iterator<Case, undefined>,
  judge: (one: Case, received: Buffer) => void,
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'dotfly-canary-'))
  const file = join(directory, 'macaroon')
  const path = join(directory, 'api')
  const flyd = join(directory, 'flyd')
  const open = new Map<number, Case>()
  writeFileSync(file, secret.value, { mode: 0o600 })
  const server = createServer((socket) => hostile(socket, open))
  try {
    await listenForAnyone(server, directory, flyd)
    const options = {
      sockets: [{ path, mode: 0o700, policy: 'self' as const, allow: [], audiences: [] }],
      flyd: `unix:${flyd}`,
      macaroon: { file },
      app: 'canary',
      machine: 'canary',
    }
    const proxy = await superviseProxy(options, () => undefined)
    try {
      let number = 0
      const guest = async (): Promise<void> => {
        for (let next = cases.next(); next.done !== true; next = cases.next()) {
          const mine = number++
          open.set(mine, next.value)
          judge(next.value, await ask(path, next.value, mine))
          open.delete(mine)
        }
      }
      await Promise.all(Array.from({ length: IN_FLIGHT }, guest))
    } finally {
      await proxy.stop()
    }
  } finally {
    server.close()
    rmSync(directory, { recursive: true })
  }
}

/** The proxy is another user: it must be able to pass the directory and to connect. */
async function listenForAnyone(server: Server, directory: string, path: string): Promise<void> {
  chmodSync(directory, 0o711)
  server.listen({ path, readableAll: true, writableAll: true })
  await once(server, 'listening')
}

/** Answers the case that the request names, piece by piece, and hangs up. */
function hostile(socket: Socket, open: ReadonlyMap<number, Case>): void {
  socket.on('error', () => socket.destroy()) // the proxy hangs up on what it cannot judge
  socket.once('data', (bytes: Buffer) => {
    const [, key, audience] = /^GET \S+\/metadata\/([0-9]+) |"aud":"([0-9]+)"/.exec(bytes.toString('latin1')) ?? []
    const pieces = [...(open.get(Number(key ?? audience))?.pieces ?? [])]
    const next = (): void => {
      const piece = pieces.shift()
      if (piece === undefined) socket.end()
      else if (!socket.destroyed) socket.write(piece, () => setImmediate(next))
    }
    next()
  })
}

/** Everything that the guest receives for one case. */
function ask(path: string, { position, format, spelling }: Case, number: number): Promise<Buffer> {
  return new Promise((done, fail) => {
    const received: Buffer[] = []
    const what = `${position.name}: ${format}, ${spelling}`
    const body = position.method === 'POST' ? `{"aud":"${number}"}` : ''
    const target = position.method === 'POST' ? '/v1/tokens/oidc' : `/v1/apps/canary/machines/canary/metadata/${number}`
    const socket = connect(path)
    socket.setTimeout(20_000, () => fail(new Failure(`the proxy fell silent at ${what}`)))
    socket.on('data', (bytes: Buffer) => received.push(bytes))
    socket.on('error', () => fail(new Failure(`the proxy broke off at ${what}`)))
    socket.on('close', () => done(Buffer.concat(received)))
    socket.write(
      `${position.method} ${target} HTTP/1.1\r\nHost: canary\r\nConnection: close\r\n${body === '' ? '' : `Content-Length: ${body.length}\r\n`}\r\n${body}`,
    )
  })
}
