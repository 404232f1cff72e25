// @fastify/http-proxy with its defaults (undici), no logger.

import { compose } from 'node:stream'
import proxy from '@fastify/http-proxy'
import Fastify from 'fastify'
import { Blank, blankHeaders, credential, socket, upstream } from './scan.mjs'

const server = Fastify({ keepAliveTimeout: 120_000 })
await server.register(proxy, {
  upstream,
  undici: { connections: 128, pipelining: 1 },
  replyOptions: {
    rewriteRequestHeaders: (_request, headers) => ({ ...headers, authorization: credential }),
    rewriteHeaders: blankHeaders,
    onResponse: (_request, reply, { stream }) => reply.send(compose(stream, new Blank())),
  },
})
await server.listen({ path: socket })
