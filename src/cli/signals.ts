// The wish of whoever runs us that we end: SIGINT (Ctrl-C), SIGTERM (a supervisor), SIGHUP (the terminal is gone).

import { constants } from 'node:os'

const WISHES = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** Resolves at the first such signal. A second one does not wait for an orderly end: exit code 128+n at once. */
export function askedToEnd(): {
  signal: Promise<void>
  readonly asked: boolean
  /** 128+n of that first one; 0 before it. */
  readonly code: number
  ignore(): void
} {
  let code = 0
  let resolve = (): void => undefined
  const signal = new Promise<void>((done) => (resolve = done))
  const hear = (name: NodeJS.Signals): void => {
    if (code > 0) process.exit(128 + constants.signals[name])
    code = 128 + constants.signals[name]
    resolve()
  }
  for (const name of WISHES) process.on(name, hear)
  return {
    signal,
    get asked() {
      return code > 0
    },
    get code() {
      return code
    },
    ignore: () => {
      for (const name of WISHES) process.off(name, hear)
    },
  }
}
