// nginx (apt-get install nginx): injects, and replaces the credential in bodies with ngx_http_sub_module. It has nothing
// that looks into the values of all headers: one would list the headers to hide. Buffers are made large and files
// forbidden, or a large answer goes over the disk.

import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Running, start } from '../support/process.ts'
import { installed } from '../support/wire.ts'
import type { Launch, Peer, Task } from './peer.ts'

const missing = (): string | undefined => (installed('nginx', '-v') ? undefined : 'apt-get install nginx')
const version = (): string =>
  spawnSync('nginx', ['-v'], { encoding: 'utf8' })
    .stderr.trim()
    .replace(/^.*nginx\//, '')

function peer(name: string, title: string, filter: (needles: readonly string[]) => string, body: boolean): Peer {
  return {
    name,
    title,
    strips: { headers: false, body },
    missing,
    version,
    launch({ directory, socket, port, credential, needles }: Task) {
      const server = `upstream flyd { server 127.0.0.1:${port}; keepalive 128; keepalive_requests 100000000; }
        server { listen unix:${socket} backlog=4096; location / {
          proxy_pass http://flyd; proxy_http_version 1.1; proxy_set_header Connection "";
          proxy_set_header Authorization "${credential}"; proxy_set_header Accept-Encoding identity;
          ${filter(needles)}
          proxy_max_temp_file_size 0; proxy_buffer_size 64k; proxy_buffers 16 64k; proxy_busy_buffers_size 512k;
        } }`
      return configure(directory, server)
    },
  }
}

export const nginxFilter = peer(
  'nginx',
  'nginx, sub_filter',
  (needles) =>
    `sub_filter_types *; sub_filter_once off; ${needles.map((needle) => `sub_filter "${needle}" "***";`).join(' ')}`,
  true,
)
export const nginxPlain = peer('nginx-plain', 'nginx, no filter', () => '', false)

/** nginx that answers 700 bytes, as a token is long: the upstream of all. `/echo` answers what it was sent. */
export async function nginxUpstream(directory: string): Promise<Running & { port: number }> {
  const port = 20_000 + (process.pid % 10_000)
  const jwt = `${'a'.repeat(60)}.${'b'.repeat(380)}.${'c'.repeat(258)}`
  const server = `server { listen 127.0.0.1:${port} backlog=4096; default_type "text/plain; charset=utf-8";
    location / { return 200 "${jwt}"; }
    location /v1/echo { add_header Retry-After $http_authorization; return 200 "<$http_authorization>"; } }`
  return { port, ...(await start(configure(directory, server), `127.0.0.1:${port}`)) }
}

function configure(home: string, server: string): Launch {
  mkdirSync(home, { recursive: true })
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${home}/${name};`)
    .join(' ')
  const file = join(home, 'nginx.conf')
  writeFileSync(
    file,
    `worker_processes 1; daemon off; pid ${home}/pid; error_log ${home}/error.log;
    ${process.getuid?.() === 0 ? 'user root;' : ''}
    events { worker_connections 16384; }
    http { access_log off; keepalive_requests 100000000; ${temporary}\n${server}\n}`,
  )
  execFileSync('nginx', ['-t', '-q', '-c', file], { stdio: ['ignore', 'ignore', 'inherit'] })
  return { command: 'nginx', args: ['-c', file], env: process.env }
}
