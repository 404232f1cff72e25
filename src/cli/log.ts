// The log of dotfly proxy and its like, on standard output: JSON by pino for machines, one plain line on a terminal.

import { pino } from 'pino'
import { LEVELS, type Level } from '../init/log.ts'
import type { SocketOptions } from '../init/options.ts'
import type { Event } from '../proxy/event.ts'
import { describe, describeRestart, describeUntidy, type Line } from './describe.ts'
import { coloured } from './terminal.ts'

export interface Log {
  event: (event: Event) => void
  restart: (why: string, pause: number) => void
  untidy: (why: string) => void
  line: (line: Line) => void
  /** Resolves when everything is written, or at once where nobody reads any more. */
  close: () => Promise<void>
}

/** A log on standard output. */
export function openLog(form: 'json' | 'human', level: Level, sockets: readonly SocketOptions[]): Log {
  const out = form === 'json' ? jsonLog(level) : humanLog(level)
  return {
    ...out,
    event: (event) => out.line(describe(event, sockets)),
    restart: (why, pause) => out.line(describeRestart(why, pause)),
    untidy: (why) => out.line(describeUntidy(why)),
  }
}

type Output = Pick<Log, 'line' | 'close'>

function jsonLog(level: Level): Output {
  // Not synchronous: a log reader that stalls must not stop the supervisor from restarting or ending its child.
  // Past 4 MiB of unread lines the rest is dropped. pino itself goes quiet when the reader is gone (EPIPE).
  const destination = pino.destination({ dest: 1, sync: false, maxLength: 4 << 20 })
  const log = pino({ level, base: null, formatters: { level: (label) => ({ level: label }) } }, destination)
  return {
    line: ({ level, fields, message }) => log[level](fields, message),
    close: () =>
      new Promise((done) => {
        destination.flush(() => done())
      }),
  }
}

const shownLevel = (level: Line['level']): string =>
  level === 'info' ? 'INFO' : coloured(level === 'warn' ? 'yellow' : 'red', level.toUpperCase())

function humanLog(level: Level): Output {
  const least = LEVELS.indexOf(level)
  return {
    line: ({ level, message }) => {
      if (LEVELS.indexOf(level) >= least) process.stdout.write(`${shownLevel(level)} ${message}\n`)
    },
    close: () => Promise.resolve(),
  }
}
