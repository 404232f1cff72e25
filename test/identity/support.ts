// A socket that mints tokens of any life, and directories that go away.

import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { Test } from 'tap'
import type { IdentityEvent } from '../../src/identity/event.ts'
import { tokenKeeper, type TokenKeeper, type World } from '../../src/identity/keeper.ts'
import type { IdentityOptions } from '../../src/identity/options.ts'

export function directory(t: Pick<Test, 'teardown'>): string {
  const dir = mkdtempSync(join(tmpdir(), 'keep-'))
  chmodSync(dir, 0o755)
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')

/** A token of `life` seconds from now on. */
export function mint(life: number, claims: Record<string, unknown> = {}): string {
  const iat = Date.now() / 1000
  const all = {
    iss: 'https://oidc.example/example',
    sub: 'example:weather-cat:ancient-snow-4824',
    iat,
    nbf: iat,
    exp: iat + life,
    jti: Math.random(),
    ...claims,
  }
  return `${part({ alg: 'RS256' })}.${part(all)}.c2lnbmF0dXJl`
}

export interface Issuer {
  socket: string
  /** Audience and flag of each request, and when it came. */
  asked: { aud?: string; aws_principal_tags?: boolean; at: number }[]
  /** What the next answers are. */
  answer: (response: ServerResponse, aud: string | undefined) => unknown
}

export async function issuer(t: Test, life = 600): Promise<Issuer> {
  const socket = join(directory(t), 'api')
  const it: Issuer = { socket, asked: [], answer: (response, aud) => response.end(mint(life, { aud })) }
  const server = createServer(async (request, response) => {
    const body: { aud?: string } = JSON.parse(await text(request))
    it.asked.push({ ...body, at: performance.now() })
    it.answer(response, body.aud)
  })
  await new Promise<void>((done) => server.listen(socket, done))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return it
}

export interface Running {
  keeper: TokenKeeper
  events: IdentityEvent[]
  dir: string
  options: IdentityOptions
}

export function keeping(
  t: Test,
  socket: string,
  env: Record<string, string>,
  options: Partial<IdentityOptions> = {},
  world?: World,
): Running {
  const dir = options.directory ?? join(directory(t), 'fly')
  const events: IdentityEvent[] = []
  const all: IdentityOptions = {
    socket,
    directory: dir,
    files: [],
    wait: { limit: 5000, otherwise: 'fail' },
    awsPrincipalTags: false,
    ...options,
  }
  const keeper = tokenKeeper(env, all, (event) => events.push(event), world)
  t.teardown(() => keeper.stop())
  return { keeper, events, dir, options: all }
}

/** mulberry32: 0 to 1, the same in every run. */
export function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

export const pause = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms))

export async function until(true_: () => boolean, limit = 5000): Promise<boolean> {
  for (const end = performance.now() + limit; performance.now() < end; await pause(5)) if (true_()) return true
  return false
}
