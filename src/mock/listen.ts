// A server at a Unix socket whose file mode is right from the moment it exists.

import { lstat, unlink } from 'node:fs/promises'
import { connect } from 'node:net'
import type { Server } from 'node:net'

/** Binds `server` to `path` with `mode`. A dead socket of an earlier run is replaced; a live one is somebody's. */
export async function listenAt(server: Server, path: string, mode: number): Promise<void> {
  if (Buffer.byteLength(path) > 107)
    throw new Error(`socket path ${path} is longer than 107 bytes: choose a shorter directory`)
  await clearStale(path)
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    // Node binds before listen() returns, so the umask holds for exactly this file, and no chmod comes too late.
    const umask = process.umask(0o777 & ~mode)
    try {
      server.listen({ path }, () => {
        server.off('error', reject)
        resolve()
      })
    } finally {
      process.umask(umask)
    }
  })
}

/** The kernel's limit; Node would cut the path and bind elsewhere, or say EINVAL. */
export function checkSocketPath(path: string): void {
  if (Buffer.byteLength(path) > 107)
    throw new Error(`socket path ${path} is longer than 107 bytes: choose a shorter directory`)
}

async function clearStale(path: string): Promise<void> {
  let isSocket: boolean
  try {
    isSocket = (await lstat(path)).isSocket()
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return
    throw error
  }
  if (!isSocket) throw new Error(`${path} exists and is not a socket`)
  if (await isServed(path)) throw new Error(`${path} is in use: another mock runs in this directory`)
  await unlink(path)
}

/** Whether somebody accepts connections there. */
export const isServed = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const probe = connect({ path })
    const end = (served: boolean): void => {
      probe.destroy()
      resolve(served)
    }
    probe.once('connect', () => end(true)).once('error', () => end(false))
  })
