// haproxy (apt-get install haproxy): injects, and can drop headers by name. Nothing of it looks into bodies but a Lua
// filter, which would buffer them whole.

import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { installed } from '../support/wire.ts'
import type { Peer } from './peer.ts'

export const haproxy: Peer = {
  name: 'haproxy',
  title: 'haproxy, no filter',
  strips: { headers: false, body: false },
  missing: () => (installed('haproxy', '-v') ? undefined : 'apt-get install haproxy'),
  version: () => /version ([0-9.]+)/.exec(execFileSync('haproxy', ['-v'], { encoding: 'utf8' }))?.[1] ?? 'unknown',
  launch({ directory, socket, port, credential }) {
    const config = join(directory, 'haproxy.cfg')
    writeFileSync(
      config,
      `global
  nbthread 1
  maxconn 10100
  no strict-limits
defaults
  mode http
  timeout client 120s
  timeout server 120s
  timeout connect 5s
frontend in
  bind unix@${socket}
  default_backend flyd
backend flyd
  http-reuse always
  http-request set-header Authorization "${credential}"
  server flyd 127.0.0.1:${port}
`,
    )
    return { command: 'haproxy', args: ['-db', '-f', config], env: process.env }
  },
}
