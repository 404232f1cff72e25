// caddy (apt-get install caddy): injects, and replaces in the values of all headers. Its module that replaces in bodies
// is not in Debian's build. It has one thread for Go code, as all others here have one.

import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { installed } from '../support/wire.ts'
import type { Peer } from './peer.ts'

export const caddy: Peer = {
  name: 'caddy',
  title: 'caddy, headers filtered',
  strips: { headers: true, body: false },
  missing: () => (installed('caddy', 'version') ? undefined : 'apt-get install caddy'),
  version: () => execFileSync('caddy', ['version'], { encoding: 'utf8' }).trim().split(' ')[0] ?? 'unknown',
  launch({ directory, socket, port, credential, needles }) {
    const file = join(directory, 'Caddyfile')
    writeFileSync(
      file,
      `{
  admin off
  auto_https off
}
http://:80 {
  bind unix/${socket}
  reverse_proxy 127.0.0.1:${port} {
    header_up Authorization "${credential}"
    header_up Accept-Encoding identity
${needles.map((needle) => `    header_down * "${needle}" "***"`).join('\n')}
    transport http {
      keepalive_idle_conns_per_host 128
      compression off
    }
  }
}
`,
    )
    const env = {
      ...process.env,
      GOMAXPROCS: '1',
      HOME: directory,
      XDG_DATA_HOME: directory,
      XDG_CONFIG_HOME: directory,
    }
    return { command: 'caddy', args: ['run', '--config', file, '--adapter', 'caddyfile'], env }
  },
}
