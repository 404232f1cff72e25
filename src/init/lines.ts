// What a supervised process says: lines on a pipe, each of which `judge` knows, or the process is not ours any more.

import { readSync } from 'node:fs'

/** More than a pipe holds, unless its owner made it larger. */
const PIPE_LIMIT = 1 << 20

export interface Lines {
  /** Resolves when the pipe is closed, and the last line has been judged. */
  readonly ended: Promise<void>
  /** Its writer has ended: judges what is in the pipe still, and closes it. Whoever inherited the other end may hold it
   * for ever, and nobody waits for that. */
  finish(): void
}

/** Reads lines from the pipe `fd`, which it owns, until its end. `stranger` is told of each that `judge` does not know. */
export function readLines(fd: number, judge: (line: string) => boolean, stranger: () => void): Lines {
  // Loaded when the first process runs, as in src/init/supervise.ts.
  const { Socket } = process.getBuiltinModule('node:net')
  const { StringDecoder } = process.getBuiltinModule('node:string_decoder')
  const output = new Socket({ fd, readable: true, writable: false })
  const decoder = new StringDecoder('utf8')
  let rest = ''
  function hear(bytes: Buffer): void {
    const lines = (rest + decoder.write(bytes)).split('\n')
    rest = lines.pop() ?? '' // one that was cut by its writer's death is never judged
    for (const line of lines) if (!judge(line)) stranger()
  }
  output.on('error', () => output.destroy()) // its end is what counts, and we wait for that
  output.on('data', hear)
  return {
    ended: new Promise((resolve) => output.on('close', resolve)),
    finish() {
      if (output.destroyed || output.readableEnded) return
      // Past the socket, which keeps nothing back: it tells of all that it has read at once.
      const chunk = Buffer.allocUnsafe(1 << 16)
      for (let read = 0, sum = 0; sum < PIPE_LIMIT; sum += read) {
        read = readNow(fd, chunk)
        if (read === 0) break
        hear(chunk.subarray(0, read))
      }
      output.destroy()
    },
  }
}

/** 0 at the end, and where there is nothing to read: the pipe does not block, which the socket has seen to, and says
 * EAGAIN. After any other error there is nothing either. */
function readNow(fd: number, chunk: Buffer): number {
  try {
    return readSync(fd, chunk)
  } catch {
    return 0
  }
}
