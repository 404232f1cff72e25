// httpxy, which keeps connections alive by itself; its answers are taken over (selfHandleResponse).

import { createServer } from 'node:http'
import { pipeline } from 'node:stream'
import { createProxyServer } from 'httpxy'
import { Blank, blankHeaders, credential, socket, upstream } from './scan.mjs'

const proxy = createProxyServer({
  target: upstream,
  headers: { authorization: credential },
  selfHandleResponse: true,
})
proxy.on('proxyRes', (from, _request, to) => {
  to.writeHead(from.statusCode, blankHeaders(from.headers))
  pipeline(from, new Blank(), to, () => undefined)
})
proxy.on('error', (_error, _request, to) => to.destroy())
createServer({ keepAliveTimeout: 120_000 }, (request, response) => {
  proxy.web(request, response).catch(() => response.destroy())
}).listen(socket)
