// Everybody who can be measured, in the order of the tables.

import { caddy } from './caddy.ts'
import { dotfly } from './dotfly.ts'
import { goPlain, goScan } from './go.ts'
import { haproxy } from './haproxy.ts'
import { nginxFilter, nginxPlain } from './nginx.ts'
import { node } from './node.ts'
import type { Peer } from './peer.ts'
import { relay } from './relay.ts'

export const PEERS: readonly Peer[] = [
  dotfly(),
  nginxFilter,
  nginxPlain,
  haproxy,
  goScan,
  goPlain,
  caddy,
  node('fast-proxy'),
  node('fastify-http-proxy', '@fastify/http-proxy'),
  node('httpxy'),
  node('http-proxy-3'),
  relay,
]
