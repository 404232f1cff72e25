// The issuer: a public door where anyone reads what is needed to verify, and a private one where flyd has tokens signed.

import { randomUUID } from 'node:crypto'
import { fastify } from 'fastify'
import type { FastifyInstance } from 'fastify'
import { listenAt } from '../mock/listen.ts'
import { ClaimError, claims, parseSignRequest } from './claims.ts'
import { discovery } from './discovery.ts'
import { KeyRing } from './keys.ts'
import type { IssuerOptions } from './options.ts'

export interface Issuer {
  /** Where the public door listens. */
  readonly url: string
  /** What `iss` begins with; the same as `url` unless a public base was given. */
  readonly base: string
  stop(): Promise<void>
}

/** `now` is in Unix milliseconds, as Date.now. */
export async function startIssuer(options: IssuerOptions, now: () => number = Date.now): Promise<Issuer> {
  const seconds = (): number => Math.floor(now() / 1000)
  const rings = new Map<string, KeyRing>()
  await Promise.all(options.orgs.map(async (org) => rings.set(org, await KeyRing.create())))

  const door = server()
  const signer = server()
  // The base is known only once the port is, and the port only once the door is open: routes read it from here.
  const place = { base: options.base ?? '' }
  servePublic(door, options, rings, () => place.base, seconds)
  serveSigner(signer, rings, () => place.base, seconds)
  const stop = async (): Promise<void> => {
    await Promise.all([door.close(), signer.close()])
  }
  try {
    const url = await door.listen({ host: '127.0.0.1', port: options.port ?? 0 })
    place.base = options.base ?? url
    await signer.ready()
    await listenAt(signer.server, options.signer, 0o600)
    return { url, base: place.base, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

type Base = () => string
type Clock = () => number

function servePublic(
  door: FastifyInstance,
  options: IssuerOptions,
  rings: Map<string, KeyRing>,
  base: Base,
  now: Clock,
): void {
  // `personal` is whose org it is that asks: its discovery answers, and names the org by its real slug.
  const aliases = new Map(Object.entries(options.aliases ?? {}))
  const slug = (name: string): string => aliases.get(name) ?? name
  door.get<{ Params: { org: string } }>('/:org/.well-known/openid-configuration', (request, reply) => {
    const org = slug(request.params.org)
    if (!rings.has(org)) return reply.callNotFound()
    return reply.send(discovery(`${base()}/${org}`))
  })
  door.get<{ Params: { org: string } }>('/:org/.well-known/jwks', (request, reply) => {
    const ring = rings.get(slug(request.params.org))
    if (ring === undefined) return reply.callNotFound()
    return reply.send({ keys: ring.published(now()) })
  })
}

function serveSigner(signer: FastifyInstance, rings: Map<string, KeyRing>, base: Base, now: Clock): void {
  signer.post('/sign', async (request, reply) => {
    const ask = parseSignRequest(request.body)
    const ring = rings.get(ask.subject.org_name)
    if (ring === undefined) throw new ClaimError('org_name is not an org of this issuer')
    const payload = claims(ask, { iss: `${base()}/${ask.subject.org_name}`, now: now(), jti: randomUUID() })
    return reply.type('text/plain; charset=utf-8').send(await ring.sign(payload))
  })
  signer.post<{ Params: { org: string } }>('/rotate/:org', async (request, reply) => {
    const ring = rings.get(request.params.org)
    if (ring === undefined) return reply.callNotFound()
    await ring.rotate(now)
    return reply.code(204).send()
  })
  signer.setErrorHandler((error, _request, reply) => {
    const ours = error instanceof ClaimError
    return reply.code(ours ? 400 : 500).send({ error: ours ? error.message : 'the issuer failed' })
  })
}

function server(): FastifyInstance {
  const app = fastify({ exposeHeadRoutes: false, forceCloseConnections: true })
  // fastify does this by itself only where it did the listening.
  app.addHook('preClose', (done) => {
    app.server.closeAllConnections()
    done()
  })
  app.setNotFoundHandler((_request, reply) =>
    reply.code(404).type('text/plain; charset=utf-8').send('404 page not found\n'),
  )
  return app
}
