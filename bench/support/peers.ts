// The proxies that a user would pick instead, each doing the same work: a Unix socket in, the header injected, the
// credential taken out of headers and body, the same upstream. A peer that is not installed is left out, and said.

import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { superviseProxy } from '../../src/init/launch.ts'

export interface Peer {
  name: string
  socket: string
  /** The processes that do the work. */
  pids(): number[]
  stop(): Promise<void>
}

export const CREDENTIAL = `FlyV1 ${'bench-credential-that-is-no-secret_'.repeat(20)}`

/** nginx answering 700 bytes on loopback: cheap enough that the peers, not it, are measured. */
export async function upstream(directory: string): Promise<{ port: number; stop(): Promise<void> }> {
  const port = 20_000 + (process.pid % 20_000)
  const jwt = `${'a'.repeat(60)}.${'b'.repeat(380)}.${'c'.repeat(258)}`
  const server = `server { listen 127.0.0.1:${port}; location / { default_type "text/plain; charset=utf-8"; return 200 "${jwt}"; } }`
  const running = await nginx(join(directory, 'upstream'), server, `127.0.0.1:${port}`)
  return { port, stop: running.stop }
}

export async function dotfly(directory: string, port: number): Promise<Peer> {
  const file = join(directory, 'macaroon')
  writeFileSync(file, CREDENTIAL, { mode: 0o600 })
  const socket = join(directory, 'dotfly.sock')
  const proxy = await superviseProxy(
    {
      sockets: [{ path: socket, mode: 0o700, policy: 'self', allow: [], audiences: [] }],
      flyd: `http://127.0.0.1:${port}`,
      macaroon: { file },
    },
    () => undefined,
  )
  return { name: 'dotfly', socket, pids: () => [proxy.pid], stop: () => proxy.stop() }
}

export async function nginxPeer(directory: string, port: number, filter: boolean): Promise<Peer | undefined> {
  if (!installed('nginx', '-v')) return undefined
  const name = filter ? 'nginx, sub_filter' : 'nginx, no filter'
  const home = join(directory, filter ? 'nginx-filter' : 'nginx-plain')
  const socket = join(directory, filter ? 'nginx-filter.sock' : 'nginx-plain.sock')
  const strip = filter
    ? `sub_filter_types *; sub_filter_once off; sub_filter "${CREDENTIAL}" "***"; sub_filter "${CREDENTIAL.slice(6)}" "***";`
    : ''
  const server = `upstream flyd { server 127.0.0.1:${port}; keepalive 128; keepalive_requests 100000000; }
    server { listen unix:${socket}; location / { proxy_pass http://flyd; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Authorization "${CREDENTIAL}"; proxy_set_header Accept-Encoding identity; ${strip}
      proxy_max_temp_file_size 0; proxy_buffer_size 64k; proxy_buffers 16 64k; proxy_busy_buffers_size 512k; } }`
  const running = await nginx(home, server, socket)
  return { name, socket, ...running }
}

export async function haproxyPeer(directory: string, port: number): Promise<Peer | undefined> {
  if (!installed('haproxy', '-v')) return undefined
  const socket = join(directory, 'haproxy.sock')
  const config = join(directory, 'haproxy.cfg')
  writeFileSync(
    config,
    `global
  nbthread 1
  maxconn 2000
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
frontend in
  bind unix@${socket}
  default_backend flyd
backend flyd
  http-reuse always
  http-request set-header Authorization "${CREDENTIAL}"
  server flyd 127.0.0.1:${port}
`,
  )
  const child = spawn('haproxy', ['-db', '-f', config], { stdio: 'ignore' })
  const ended = new Promise<void>((done) => child.on('close', () => done()))
  await reachable(socket)
  return {
    name: 'haproxy, no filter',
    socket,
    pids: () => [child.pid ?? 0],
    async stop() {
      child.kill()
      await ended
    },
  }
}

async function nginx(
  home: string,
  server: string,
  address: string,
): Promise<{ pids(): number[]; stop(): Promise<void> }> {
  mkdirSync(home, { recursive: true })
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${home}/${name};`)
    .join(' ')
  writeFileSync(
    join(home, 'nginx.conf'),
    `user root; worker_processes 1; daemon off; pid ${home}/pid; error_log ${home}/error.log;
    events { worker_connections 4096; }
    http { access_log off; keepalive_requests 100000000; ${temporary}\n${server}\n}`,
  )
  const child = spawn('nginx', ['-c', join(home, 'nginx.conf')], { stdio: ['ignore', 'ignore', 'inherit'] })
  const ended = new Promise<void>((done) => child.on('close', () => done()))
  await reachable(address)
  const pid = child.pid ?? 0
  return {
    pids: () => [pid, ...childrenOf(pid)],
    async stop() {
      child.kill('SIGTERM')
      await ended
    },
  }
}

const installed = (command: string, flag: string): boolean => spawnSync(command, [flag]).error === undefined

function childrenOf(pid: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^[0-9]+$/.test(name))
    .map(Number)
    .filter((other) => parentOf(other) === pid)
}

function parentOf(pid: number): number {
  try {
    return Number(readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ')[1])
  } catch {
    return -1 // it ended while we looked
  }
}

/** CPU time of the processes so far, ms: user and system, in steps of 10. */
export function cpuOf(pids: number[]): number {
  let ticks = 0
  for (const pid of pids) {
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ') ?? []
    ticks += Number(fields[11]) + Number(fields[12])
  }
  return ticks * 10
}

async function reachable(address: string): Promise<void> {
  const to = address.startsWith('/')
    ? { path: address }
    : { host: address.split(':')[0] ?? '', port: Number(address.split(':')[1]) }
  for (let tries = 0; tries < 100; tries++) {
    const open = await new Promise<boolean>((done) => {
      const socket = connect(to)
      socket.on('connect', () => {
        socket.destroy()
        done(true)
      })
      socket.on('error', () => done(false))
    })
    if (open) return
    await new Promise((done) => setTimeout(done, 50))
  }
  throw new Error(`nobody listens at ${address}`)
}
