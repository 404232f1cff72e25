// relay.c, the floor.

import { spawnSync } from 'node:child_process'
import { compile } from '../support/wire.ts'
import type { Peer } from './peer.ts'

export const relay: Peer = {
  name: 'relay',
  title: 'blind relay in C',
  strips: { headers: false, body: false },
  missing: () => undefined, // whoever can run the clients has a compiler
  version: () => spawnSync('cc', ['-dumpfullversion'], { encoding: 'utf8' }).stdout.trim(),
  launch({ directory, socket, port }) {
    return { command: compile(directory, 'peers/relay.c'), args: [socket, String(port)], env: process.env }
  },
}
