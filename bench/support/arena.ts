// The place where peers are measured: an upstream, and each peer running in front of it, checked to do its work.

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { request as ask } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { CREDENTIAL, type Peer } from '../peers/peer.ts'
import { nginxUpstream } from '../peers/nginx.ts'
import { type Running, start } from './process.ts'
import { installed, Wire } from './wire.ts'

/** A peer that runs. */
export interface Contestant extends Running {
  peer: Peer
  socket: string
}

/** Peers that broke off are out of the race, and do not end it; dotfly must not. */
export class Lost extends Set<Contestant> {
  /** Undefined in place of a figure, where the peer is out, or is so by this. */
  async run<R>(contestant: Contestant, work: () => Promise<R>): Promise<R | undefined> {
    if (this.has(contestant)) return undefined
    try {
      return await work()
    } catch (error) {
      if (contestant.peer.name === 'dotfly') throw error
      process.stderr.write(`${contestant.peer.title} is out: ${String(error).split('\n')[1] ?? String(error)}\n`)
      this.add(contestant)
      return undefined
    }
  }
}

export interface Arena {
  directory: string
  wire: Wire
  /** Of the upstream that answers 700 bytes, on 127.0.0.1. */
  port: number
  /** The processes of it. */
  upstream: readonly number[]
  /** One more peer in front of the upstream, or of another port. */
  enter(peer: Peer, options?: { port?: number; credential?: string; needles?: readonly string[] }): Promise<Contestant>
}

/** The credential, and the same without its scheme. */
export const NEEDLES = [CREDENTIAL, CREDENTIAL.slice('FlyV1 '.length)]

/** Ends what `work` has started, and removes what it has written. */
export async function inArena<R>(work: (arena: Arena) => Promise<R>): Promise<R> {
  for (const [command, flag] of [
    ['cc', '--version'],
    ['nginx', '-v'],
  ] as const) {
    if (!installed(command, flag))
      throw new Error(
        'the clients of the benchmarks are C, and their upstream is nginx: apt-get install gcc libc6-dev nginx',
      )
  }
  const directory = mkdtempSync(join(tmpdir(), 'dotfly-bench-'))
  const running: { stop(): Promise<void> }[] = []
  try {
    const upstream = await nginxUpstream(join(directory, 'upstream'))
    running.push(upstream)
    let entered = 0
    return await work({
      directory,
      wire: new Wire(directory),
      port: upstream.port,
      upstream: upstream.pids(),
      async enter(peer, { port = upstream.port, credential = CREDENTIAL, needles = NEEDLES } = {}) {
        const home = join(directory, `${peer.name}-${entered++}`)
        mkdirSync(home)
        const socket = join(home, 'sock')
        const started = await start(peer.launch({ directory: home, socket, port, credential, needles }), socket)
        running.push(started)
        if (port === upstream.port) await check(peer, socket, credential)
        return { peer, socket, ...started }
      },
    })
  } finally {
    for (const one of running.toReversed()) await one.stop()
    rmSync(directory, { recursive: true, force: true })
  }
}

/** Does it what its row in the table says? The upstream answers, in a header and in the body, what was injected. */
async function check({ title, name, strips }: Peer, socket: string, credential: string): Promise<void> {
  const asked = ask({ socketPath: socket, path: '/v1/echo', agent: false })
  asked.end()
  const { promise, resolve, reject } = Promise.withResolvers<{ header: string; body: string }>()
  asked.on('error', reject)
  asked.on('response', (answer) => {
    text(answer).then((body) => resolve({ header: answer.headers['retry-after'] ?? '', body }), reject)
  })
  const { header, body } = await promise
  const wrong = (what: string): Error => new Error(`${title} ${what}: the comparison would be a lie`)
  if (name === 'relay') return
  if (!body.startsWith('<') || body.length < 5) throw wrong('injects nothing')
  if (body.includes(credential) === strips.body) throw wrong('does not do with bodies what its row says')
  if (header.includes(credential) === strips.headers) throw wrong('does not do with headers what its row says')
}
