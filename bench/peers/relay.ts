// relay.c, the floor.

import { spawnSync } from 'node:child_process'
import { start } from '../support/process.ts'
import { compile } from '../support/wire.ts'
import type { Peer } from './peer.ts'

export const relay: Peer = {
  name: 'relay',
  title: 'blind relay in C',
  strips: { headers: false, body: false },
  missing: () => undefined, // whoever can run the clients has a compiler
  version: () => spawnSync('cc', ['-dumpfullversion'], { encoding: 'utf8' }).stdout.trim(),
  start({ directory, socket, port }) {
    return start(compile(directory, 'peers/relay.c'), [socket, String(port)], socket)
  },
}
