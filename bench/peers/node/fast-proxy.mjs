// fast-proxy with undici, which its README recommends for speed.

import { createServer } from 'node:http'
import { pipeline } from 'node:stream'
import fastProxy from 'fast-proxy'
import { Blank, blankHeaders, credential, socket, upstream } from './scan.mjs'

const { proxy } = fastProxy({ base: upstream, undici: { connections: 128, pipelining: 1 } })
const options = {
  rewriteRequestHeaders: (_request, headers) => ({ ...headers, authorization: credential }),
  rewriteHeaders: blankHeaders,
  onResponse: (_request, response, stream) => pipeline(stream, new Blank(), response, () => undefined),
}
createServer({ keepAliveTimeout: 120_000 }, (request, response) =>
  proxy(request, response, request.url, options),
).listen(socket)
