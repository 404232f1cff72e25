// Init's own lines, on standard error: standard output belongs to the entrypoint. Written without waiting, for an init
// that waits for the reader of its log is an init that reaps nobody.

import { write } from 'node:fs'

export const LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const
export type Level = (typeof LEVELS)[number]
const UNREAD_LIMIT = 1 << 20 // bytes; beyond it lines are dropped and counted
const FLUSH_LIMIT = 1000 // ms

// Cc, Zl and Zp of Unicode, written out: V8 takes longer to put their sets together than init takes for its whole log.
const CONTROL = /[\x00-\x1f\x7f-\x9f\u2028\u2029]/g

export interface Log {
  line(level: Exclude<Level, 'silent'>, text: string): void
  /** Resolves when everything is written, or after a second. */
  flush(): Promise<void>
}

/** Lines of `level` and louder on the descriptor, in the form of the real init's: `INFO Starting clean up.` */
export function openLog(level: Level, fd = 2): Log {
  let unread = Buffer.alloc(0)
  let writing = false
  let dropped = 0
  const idle = new Set<() => void>()

  function pump(): void {
    if (writing || unread.length === 0) {
      if (!writing) for (const resolve of idle) resolve()
      return
    }
    writing = true
    const chunk = unread
    unread = Buffer.alloc(0)
    write(fd, chunk, 0, chunk.length, null, (error, written) => {
      writing = false
      if (error === null && written < chunk.length) unread = Buffer.concat([chunk.subarray(written), unread])
      // EAGAIN: whoever shares the descriptor made it non-blocking. Anything else: nobody reads, and init goes on.
      if (error?.code === 'EAGAIN') {
        unread = Buffer.concat([chunk, unread])
        setTimeout(pump, 20).unref()
      } else pump()
    })
  }

  return {
    line(of, text) {
      if (LEVELS.indexOf(of) < LEVELS.indexOf(level)) return
      if (unread.length > UNREAD_LIMIT) {
        dropped++
        return
      }
      const lost = dropped > 0 ? `WARN ${dropped} lines were dropped: nobody read them\n` : ''
      dropped = 0
      unread = Buffer.concat([unread, Buffer.from(`${lost}${of.toUpperCase()} ${text.replace(CONTROL, '?')}\n`)])
      pump()
    },
    flush: () =>
      new Promise((resolve) => {
        if (!writing && unread.length === 0) resolve()
        else idle.add(resolve)
        setTimeout(resolve, FLUSH_LIMIT).unref()
      }),
  }
}
