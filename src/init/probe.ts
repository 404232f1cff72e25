// Does the trusted process serve? Whoever asks over a socket of its own knows: a connection accepted, a request read,
// judged and refused, the refusal written. That the launcher is alive says nothing of it. The other sockets may be closed
// to the launcher, which has no more rights than any user; one event loop serves them all.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { SocketOptions } from './options.ts'

// No route, so it is refused before flyd is thought of, whatever the policy.
const QUESTION = 'GET / HTTP/1.1\r\nhost: dotfly\r\nconnection: close\r\n\r\n'
const ANSWER = 'HTTP/1.1 404 '

export interface Probe {
  /** To be served beside the others. */
  readonly socket: SocketOptions
  /** True when the answer came within `limit` ms. */
  ask(limit: number): Promise<boolean>
  /** Removes its directory. */
  close(): void
}

/** In a directory that only this user and root may enter. */
export function openProbe(): Probe {
  const directory = mkdtempSync(join(tmpdir(), 'dotfly-probe-'))
  const path = join(directory, 'socket')
  return {
    socket: probeAt(path),
    ask: (limit) => ask(path, limit),
    close: () => rmSync(directory, { recursive: true, force: true }),
  }
}

/** A socket for questions alone. */
export const probeAt = (path: string): SocketOptions => ({
  path,
  mode: 0o600,
  policy: 'token',
  allow: [],
  audiences: ['dotfly:nobody'],
})

/** True when the answer came, within `limit` ms where there is one; false when it did not, or cannot any more. */
export function ask(path: string, limit?: number): Promise<boolean> {
  const { connect } = process.getBuiltinModule('node:net') // as in src/init/supervise.ts
  return new Promise((resolve) => {
    let answer = ''
    const socket = connect({ path })
    const late = limit === undefined ? undefined : setTimeout(() => socket.destroy(), limit)
    socket.setEncoding('latin1').on('data', (text: string) => (answer += text))
    socket.on('error', () => socket.destroy()) // told by the answer that is not there
    socket.on('close', () => {
      clearTimeout(late)
      resolve(answer.startsWith(ANSWER))
    })
    socket.write(QUESTION)
  })
}
