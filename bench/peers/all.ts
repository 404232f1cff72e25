// Everybody who can be measured, in the order of the tables.

import { dotfly } from './dotfly.ts'
import { haproxy } from './haproxy.ts'
import { nginxFilter, nginxPlain } from './nginx.ts'
import type { Peer } from './peer.ts'
import { relay } from './relay.ts'

export const PEERS: readonly Peer[] = [dotfly(), nginxFilter, nginxPlain, haproxy, relay]
