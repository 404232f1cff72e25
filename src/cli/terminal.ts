// What a person at a terminal gets beyond the text: colour, and a sign of life while they wait. A file, a pipe and a log
// get neither.

import { styleText } from 'node:util'
import type { WriteStream } from 'node:tty'

type Colour = 'red' | 'green' | 'yellow'

/** `text` in a colour where `stream` is a terminal that has them and NO_COLOR (no-color.org) is not set. */
export function coloured(colour: Colour, text: string, stream: NodeJS.WriteStream = process.stdout): string {
  return isColourful(stream) ? styleText(colour, text, { validateStream: false }) : text
}

// Node's own judgement would let FORCE_COLOR win over NO_COLOR, and print a warning about it.
const isColourful = (stream: NodeJS.WriteStream): boolean =>
  isTerminal(stream) &&
  (process.env['NO_COLOR'] ?? '') === '' &&
  stream.getColorDepth({ TERM: process.env['TERM'] }) > 1

/** Not one that can only add: TERM=dumb is an editor's shell or a serial console, where a line cannot be taken back. */
const isTerminal = (stream: NodeJS.WriteStream): stream is WriteStream => stream.isTTY && process.env['TERM'] !== 'dumb'

/** `text` that begins in column `from`, on a terminal with its lines broken between words and set in by `indent`; in a
 * file or a pipe a line stays a line. */
export function folded(
  text: string,
  from: number,
  indent: number,
  { isTTY, columns }: NodeJS.WriteStream = process.stdout,
): string {
  if (!isTTY || columns < 2 * indent + 20) return text
  let column = from
  return text
    .split(' ')
    .map((word, i) => {
      const fits = column + 1 + word.length <= columns
      column = (fits ? column + (i === 0 ? 0 : 1) : indent) + word.length
      return i === 0 ? word : fits ? ` ${word}` : `\n${' '.repeat(indent)}${word}`
    })
    .join('')
}

/** Waits for `work`. From the first second on, a line on standard error says what is waited for and for how long; it
 * is gone when the wait is over. `work` may say more about how far it is. */
export async function patiently<T>(what: string, work: (how: (far: string) => void) => Promise<T>): Promise<T> {
  const { stderr } = process
  if (!isTerminal(stderr)) return work(() => undefined)
  const begun = performance.now()
  let far = ''
  let drawn = false
  const draw = (): void => {
    drawn = true
    const line = `${what}${far === '' ? '' : `: ${far}`}, ${Math.floor((performance.now() - begun) / 1000)} s`
    stderr.write(`\r\u001b[K${line.slice(0, stderr.columns - 1)}`)
  }
  const erase = (): void => {
    if (drawn) stderr.write('\r\u001b[K')
    drawn = false
  }
  const timer = setInterval(draw, 1000)
  timer.unref()
  // Where Ctrl-C simply ends the command, the shell's prompt must not come after our line.
  const interrupted = (): void => {
    erase()
    process.kill(process.pid, 'SIGINT')
  }
  if (process.listenerCount('SIGINT') === 0) process.once('SIGINT', interrupted)
  try {
    return await work((now) => {
      far = now
      // A busy command leaves the timer little room.
      if (drawn && performance.now() - begun > 1000) draw()
    })
  } finally {
    clearInterval(timer)
    process.off('SIGINT', interrupted)
    erase()
  }
}
