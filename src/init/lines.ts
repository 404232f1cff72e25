// What a supervised process says: lines on a pipe, each of which `judge` knows, or the process is not ours any more.

import { Socket } from 'node:net'
import { send } from '../os/signals.ts'

const SIGKILL = 9

/** Reads lines from the pipe `fd` until its end; resolves when the last has been read. The first that `judge` does not
 * know kills `pid`, its writer. */
export function readLines(fd: number, pid: number, judge: (line: string) => boolean): Promise<void> {
  const output = new Socket({ fd, readable: true, writable: false })
  let rest = ''
  output.setEncoding('utf8')
  output.on('error', () => output.destroy()) // its end is what counts, and we wait for that
  output.on('data', (text: string) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop() ?? '' // one that was cut by its writer's death is never judged
    for (const line of lines) if (!judge(line)) send(pid, SIGKILL)
  })
  return new Promise((resolve) => output.on('close', resolve))
}
