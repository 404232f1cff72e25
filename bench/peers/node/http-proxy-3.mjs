// http-proxy-3 with a keep-alive agent, its answers taken over (selfHandleResponse), as its README shows for changing
// them.

import { Agent, createServer } from 'node:http'
import { pipeline } from 'node:stream'
import { createProxyServer } from 'http-proxy-3'
import { Blank, blankHeaders, credential, socket, upstream } from './scan.mjs'

const proxy = createProxyServer({
  target: upstream,
  agent: new Agent({ keepAlive: true }),
  headers: { authorization: credential },
  selfHandleResponse: true,
})
proxy.on('proxyRes', (from, _request, to) => {
  to.writeHead(from.statusCode, blankHeaders(from.headers))
  pipeline(from, new Blank(), to, () => undefined)
})
proxy.on('error', (_error, _request, to) => to.destroy())
createServer({ keepAliveTimeout: 120_000 }, (request, response) => proxy.web(request, response)).listen(socket)
