// A flyd on real sockets, and a client that says exactly what it is told to.

import { request } from 'node:http'
import { mkdtempSync, rmSync } from 'node:fs'
import type { IncomingHttpHeaders } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startFlyd } from '../../src/flyd/start.ts'
import type { Flyd, FlydOptions } from '../../src/flyd/start.ts'
import { describeMachine } from '../../src/mock/described.ts'

type Test = { readonly teardown: (run: () => unknown) => void }

export interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
}

export interface Call {
  readonly method?: string
  readonly body?: string
  readonly headers?: Record<string, string | string[]>
}

/** `at` is a socket path or an http URL. */
export const dial = (at: string, path: string, { method = 'GET', body, headers = {} }: Call = {}): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const where = at.startsWith('http') ? { host: '127.0.0.1', port: new URL(at).port } : { socketPath: at }
    const call = request({ ...where, path, method, headers, agent: false }, (answer) => {
      const chunks: Buffer[] = []
      answer.on('data', (chunk: Buffer) => chunks.push(chunk))
      answer.on('error', reject)
      answer.on('end', () =>
        resolve({ status: answer.statusCode ?? 0, headers: answer.headers, text: Buffer.concat(chunks).toString() }),
      )
    })
    call.on('error', reject)
    call.end(body)
  })

/** A short directory: a socket path has 107 bytes. */
export function scratch(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'dotfly-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

export const ANCIENT = describeMachine({ org: 'example', app: 'weather-cat', name: 'ancient-snow-4824' })
export const QUIET = describeMachine({ org: 'example', app: 'weather-cat', name: 'quiet-river-7311' })
export const BOLD = describeMachine({ org: 'rival', app: 'storm-dog', name: 'bold-leaf-1290', region: 'ams' })
/** The app of another org may have the same name. */
export const TWIN = describeMachine({ org: 'rival', app: 'weather-cat', name: 'ancient-snow-4824' })

export interface Bench {
  readonly flyd: Flyd
  /** Calls through a Machine's own door, with its own macaroon unless another is given. */
  readonly call: (path: string, call?: Call & { door?: number; as?: number }) => Promise<Answer>
  readonly door: (machine: number) => string
  readonly authorization: (machine: number) => string
}

export async function bench(t: Test, options: Partial<FlydOptions> = {}): Promise<Bench> {
  const dir = scratch(t)
  const described = [ANCIENT, QUIET, BOLD, TWIN]
  const socketOf: FlydOptions['socketOf'] = ({ id }) => join(dir, id)
  const flyd = await startFlyd({
    machines: described,
    socketOf,
    signer: { sign: ({ subject, aud }) => Promise.resolve(`${subject.machine_name} ${aud ?? 'default'}`) },
    settle: 5,
    ...options,
  })
  t.teardown(() => flyd.stop())
  const headers = flyd.machines.map((machine) => flyd.macaroonFor(machine))
  const door = (machine: number): string => socketOf(described[machine] ?? ANCIENT)
  const authorization = (machine: number): string => headers[machine] ?? ''
  return {
    flyd,
    door,
    authorization,
    call: (path, { door: at = 0, as = at, headers: more = {}, ...call } = {}) =>
      dial(door(at), path, { ...call, headers: { authorization: authorization(as), ...more } }),
  }
}
