// One door of flyd: an HTTP server that knows which Machine is on its other side, because nobody else can reach it.

import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { fastify } from 'fastify'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { record } from '../mock/json.ts'
import { admit } from './admit.ts'
import type { Admitted } from './admit.ts'
import type { Fleet } from './fleet.ts'
import type { Machine } from './machine.ts'
import { Refusal } from './refusal.ts'
import { ROUTES } from './routes.ts'
import { ulid } from './ulid.ts'

/** `here` is the Machine that this door belongs to; the TCP door belongs to none. */
export function door(fleet: Fleet, here: Machine | undefined): FastifyInstance {
  const app = fastify({ exposeHeadRoutes: false, forceCloseConnections: true, routerOptions: { maxParamLength: 1024 } })
  // Bodies are JSON whatever they are called: curl --data calls them forms.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
  app.addHook('onRequest', (_request, reply, done) => {
    reply.headers({
      'fly-request-id': `${ulid(fleet.time.now())}-${here?.about.region ?? 'yyz'}`,
      'fly-span-id': randomBytes(8).toString('hex'),
      'fly-trace-id': randomBytes(16).toString('hex'),
      server: 'Fly/mock (dotfly)',
      via: '1.1 fly.io',
    })
    done()
  })
  // fastify does this by itself only where it did the listening: a caller that waits for a state must not keep us.
  app.addHook('preClose', (done) => {
    app.server.closeAllConnections()
    done()
  })
  app.setNotFoundHandler((_request, reply) =>
    reply.code(404).type('text/plain; charset=utf-8').send('404 page not found\n'),
  )
  app.setErrorHandler((error, _request, reply) => {
    const refusal = error instanceof Refusal ? error : refusalOf(error)
    return json(reply.code(refusal.status).headers(refusal.headers), { error: refusal.message })
  })
  for (const { method, path, action, answer } of ROUTES) {
    app.route({
      method,
      url: path,
      handler: async (request, reply) => {
        const admitted = admit(request.raw, here, fleet.key, Math.floor(fleet.time.now() / 1000))
        const ask = read(request, admitted, closed(request, reply))
        const wait =
          fleet.limiter?.take(action, ask.params['machine'] ?? admitted.machine.about.id, fleet.time.now()) ?? 0
        if (wait > 0) throw new Refusal(429, 'rate limit exceeded', { 'retry-after': String(Math.ceil(wait / 1000)) })
        const answered = await answer(fleet, ask)
        if (answered === undefined) return reply.code(204).send()
        if (typeof answered === 'string') return reply.type('text/plain; charset=utf-8').send(answered)
        return json(reply, answered)
      },
    })
  }
  return app
}

/** What a route is given. */
export interface Ask extends Admitted {
  readonly params: Readonly<Record<string, string>>
  readonly query: Readonly<Record<string, string>>
  /** A JSON object; empty when there was no body. */
  readonly body: Readonly<Record<string, unknown>>
  readonly leaseNonce: string | undefined
  /** Aborts when the caller hangs up. */
  readonly gone: AbortSignal
}

function read(request: FastifyRequest, admitted: Admitted, gone: AbortSignal): Ask {
  const nonce = request.headers['fly-machine-lease-nonce']
  return {
    ...admitted,
    params: strings(request.params),
    query: strings(request.query),
    body: parseBody(request.body),
    leaseNonce: typeof nonce === 'string' ? nonce : undefined,
    gone,
  }
}

/** The single-valued string members. */
function strings(value: unknown): Record<string, string> {
  const result: Record<string, string> = Object.create(null)
  for (const [key, text] of Object.entries(value ?? {})) if (typeof text === 'string') result[key] = text
  return result
}

function parseBody(body: unknown): Record<string, unknown> {
  if (!Buffer.isBuffer(body) || body.length === 0) return {}
  let json: unknown
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
  } catch {
    throw new Refusal(400, 'invalid request body')
  }
  const object = record(json)
  if (object === undefined) throw new Refusal(400, 'invalid request body')
  return object
}

function closed(request: FastifyRequest, reply: FastifyReply): AbortSignal {
  const gone = new AbortController()
  reply.raw.once('close', () => gone.abort())
  if (request.raw.destroyed && !request.raw.complete) gone.abort()
  return gone.signal
}

/** Chunked, as the real API sends its JSON. */
function json(reply: FastifyReply, value: object): FastifyReply {
  return reply.type('application/json; charset=utf-8').send(Readable.from([Buffer.from(JSON.stringify(value))]))
}

/** fastify's own refusals (a body too large, a broken length) keep their status; anything else is our fault. */
function refusalOf(error: unknown): Refusal {
  const status = error instanceof Error && 'statusCode' in error ? error.statusCode : undefined
  if (typeof status === 'number' && status >= 400 && status < 500) return new Refusal(status, 'invalid request')
  return new Refusal(500, 'internal server error')
}
