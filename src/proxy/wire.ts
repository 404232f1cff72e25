// A connection as the rest of src/proxy knows it. Most are src/os/stream.ts itself; TLS, and a flyd that is known by a
// name, need what Node has for them: such a socket, with the same face, is made here.

import type { Hearer } from '../os/stream.ts'

export interface Wire {
  /** Bytes written that the kernel has not taken. */
  readonly pending: number
  /** Nothing has come that was not read; as far as can be told without reading it. */
  readonly quiet: boolean
  /** True when the kernel has taken all of it. `kept`: nobody changes the parts any more; otherwise they are free to be
   * used again when this returns. */
  write(parts: readonly Buffer[], kept?: boolean): boolean
  pause(): void
  resume(): void
  /** Sends the end behind what was written. */
  end(): void
  destroy(): void
}

export interface Host {
  readonly host: string
  readonly port: number
  /** Over TLS, verified; against these certificates where given, else against those that Node has. */
  readonly tls?: typeof import('node:tls')
  readonly ca?: string
}

/** A connection to flyd on a socket of Node's. */
export function nodeWire(net: typeof import('node:net'), { host, port, tls, ca }: Host, hearer: Hearer): Wire {
  const socket =
    tls === undefined
      ? net.connect({ host, port, noDelay: true })
      : tls.connect({
          host,
          port,
          ca,
          servername: net.isIP(host) === 0 ? host : '',
          minVersion: 'TLSv1.2',
          rejectUnauthorized: true,
        })
  socket.setKeepAlive(true, 1000)
  socket.on('data', (bytes: Buffer) => hearer.data(bytes))
  socket.on(tls === undefined ? 'connect' : 'secureConnect', () => hearer.drained())
  socket.on('drain', () => hearer.drained())
  socket.on('end', () => hearer.ended())
  socket.on('error', () => socket.destroy())
  socket.on('close', () => hearer.closed())
  return {
    get pending() {
      return socket.writableNeedDrain ? socket.writableLength : 0 // of less than its mark Node learns late that it is gone
    },
    quiet: true, // Node reads what comes, and tells
    write(parts) {
      socket.cork() // one system call; and of buffers alone, so that nothing is copied on its way there
      for (const part of parts) socket.write(part)
      socket.uncork()
      return socket.writableLength === 0
    },
    pause: () => void socket.pause(),
    resume: () => void socket.resume(),
    end: () => void socket.end(),
    destroy: () => void socket.destroy(),
  }
}
