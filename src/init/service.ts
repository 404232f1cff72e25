// What a service tells its manager: that it is ready, that it ends, how it does, and again and again that it works.
// Nothing where there is no manager that listens.

import { notifier } from '../os/notify.ts'

export interface Service {
  /** The manager ends and restarts us when it hears nothing for this long, ms; undefined where it does not watch. */
  readonly watchdog: number | undefined
  ready(status: string): void
  status(status: string): void
  /** Asks three times in the watchdog's time, and says so when the answer is yes: a process that does not do its work
   * is not to look alive. `alive` gets the time that it may take, ms. */
  watch(alive: (limit: number) => Promise<boolean>): void
  stopping(status: string): void
}

const NOBODY: Service = {
  watchdog: undefined,
  ready: () => undefined,
  status: () => undefined,
  watch: () => undefined,
  stopping: () => undefined,
}

/** Throws where NOTIFY_SOCKET is malformed. */
export function serviceOf(env: Readonly<Record<string, string | undefined>>, pid = process.pid): Service {
  const address = env['NOTIFY_SOCKET'] ?? ''
  if (address === '') return NOBODY
  const say = notifier(address)
  const watchdog = watchdogTime(env, pid)
  let timer: NodeJS.Timeout | undefined
  return {
    watchdog,
    ready: (status) => void say(`READY=1\nSTATUS=${status}`),
    status: (status) => void say(`STATUS=${status}`),
    watch(alive) {
      if (watchdog === undefined) return
      let asking = false
      let silent = false
      const ask = async (): Promise<void> => {
        if (asking) return
        asking = true
        const well = await alive(watchdog / 2)
        asking = false
        if (well) say(silent ? 'WATCHDOG=1\nSTATUS=answers again' : 'WATCHDOG=1')
        else if (!silent) say('STATUS=does not answer: the watchdog restarts it')
        silent = !well
      }
      timer = setInterval(() => void ask(), watchdog / 3)
    },
    stopping(status) {
      clearInterval(timer)
      say(`STOPPING=1\nSTATUS=${status}`)
    },
  }
}

/** WATCHDOG_USEC, where it is meant for this process. */
function watchdogTime(env: Readonly<Record<string, string | undefined>>, pid: number): number | undefined {
  const { WATCHDOG_USEC: time = '', WATCHDOG_PID: whose = String(pid) } = env
  return whose === String(pid) && /^[1-9][0-9]{0,15}$/.test(time) ? Number(time) / 1000 : undefined
}
