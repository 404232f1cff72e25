// How CPU a request grows: with concurrency, headers, the size of the answer, and with what is looked for.

import { CREDENTIAL, type Peer } from './peers/peer.ts'
import { sample } from './requests.ts'
import type { Arena, Contestant } from './support/arena.ts'
import { type Figure, figure, interleave } from './support/statistics.ts'
import { download, request } from './support/wire.ts'

/** One curve: CPU µs a request, of one peer. */
export interface Curve {
  peer: string
  title: string
  points: { x: number; cpu: Figure }[]
}

export interface Growth {
  concurrency: Curve[]
  /** Fields of the request, and as many of the answer, beyond those that are always there. */
  headers: Curve[]
  /** Bytes of the answer. */
  body: Curve[]
  /** Tokens in the credential. nginx and Go look for each as it stands, dotfly for every spelling of each. */
  tokens: Curve[]
}

export const CONCURRENCY = [1, 2, 4, 8, 16, 32, 64, 128, 256]
const HEADERS = [0, 8, 16, 32, 48]
const BODY = [256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576]
const TOKENS = [1, 2, 4, 8, 16]
const TOKENS_BODY = 16_384

export async function growth(
  arena: Arena,
  contestants: readonly Contestant[],
  origin: { port: number; contestants: readonly Contestant[] },
  { rounds, seconds }: { rounds: number; seconds: number },
): Promise<Growth> {
  async function curves(
    entered: readonly Contestant[],
    xs: readonly number[],
    once: (contestant: Contestant, x: number) => Promise<{ cpu: number }>,
  ): Promise<Curve[]> {
    const pairs = xs.flatMap((x) => entered.map((contestant) => ({ contestant, x })))
    const found = await interleave(rounds, pairs, ({ contestant, x }) => once(contestant, x))
    return entered.map((contestant) => ({
      peer: contestant.peer.name,
      title: contestant.peer.title,
      points: pairs
        .filter((pair) => pair.contestant === contestant)
        .map((pair) => ({ x: pair.x, cpu: figure((found.get(pair) ?? []).map(({ cpu }) => cpu)) })),
    }))
  }
  const asked = (words: string) => (contestant: Contestant) => sample(arena, contestant, 8, { seconds }, words)
  const { contestants: large } = origin
  const warm = async (entered: readonly Contestant[], words: string): Promise<void> => {
    for (const one of entered) await sample(arena, one, 8, { requests: 20_000, seconds: 2 }, words)
  }
  await warm(contestants, request('/v1/tokens/oidc'))
  await warm(large, request('/v1/length/700/8'))
  const small = await curves(contestants, CONCURRENCY, (contestant, x) => sample(arena, contestant, x, { seconds }))
  const headers = await curves(large, HEADERS, (contestant, x) => asked(request(`/v1/length/700/${x}`, x))(contestant))
  const body = await curves(large, BODY, (contestant, x) => asked(download(`/v1/length/${x}/0`))(contestant))
  const tokens = new Map<number, Contestant[]>()
  for (const n of TOKENS)
    tokens.set(
      n,
      await enterAll(
        arena,
        contestants.map(({ peer }) => peer),
        origin.port,
        n,
      ),
    )
  for (const entered of tokens.values()) await warm(entered, download(`/v1/length/${TOKENS_BODY}/0`))
  const looked = await curves(contestants, TOKENS, (contestant, x) => {
    const one = tokens.get(x)?.find(({ peer }) => peer === contestant.peer)
    if (one === undefined) throw new Error(`${contestant.peer.title} does not run with ${x} tokens`)
    return asked(download(`/v1/length/${TOKENS_BODY}/0`))(one)
  })
  for (const one of [...tokens.values()].flat()) await one.stop()
  return { concurrency: small, headers, body, tokens: looked }
}

/** Peers with a credential of so many tokens, each of 200 bytes. */
async function enterAll(arena: Arena, peers: readonly Peer[], port: number, n: number): Promise<Contestant[]> {
  const tokens = Array.from({ length: n }, (_, i) => CREDENTIAL.slice(6, 206).replaceAll('secret', `secre${i}`))
  const credential = `FlyV1 ${tokens.join(',')}`
  const entered: Contestant[] = []
  for (const peer of peers) entered.push(await arena.enter(peer, { port, credential, needles: tokens }))
  return entered
}
