// The real thing: src/init/launch.ts starts the real proxy process on real sockets in a directory of this test.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { superviseProxy } from '../../src/init/launch.ts'
import type { SocketOptions } from '../../src/init/options.ts'
import type { Event, Exchange } from '../../src/proxy/event.ts'
import { APP, CREDENTIAL, MACHINE } from './corpus.ts'

/** What both tap's `t` and a program that is no test can give. */
interface Scope {
  teardown(end: () => Promise<void> | void): void
}

export interface StartOptions {
  /** Such as `unix:/path`. */
  flyd: string
  macaroon?: string
  sockets?: Partial<SocketOptions>[]
  app?: string
  machine?: string
  tellsAll?: boolean
}

export interface RunningProxy {
  readonly pid: number
  readonly paths: readonly string[]
  /** Of the first socket. */
  readonly path: string
  readonly events: Event[]
  exchanges(): Exchange[]
  /** Resolves when `holds` is true of the events so far; rejects after `ms`. */
  until(holds: (events: Event[]) => boolean, ms?: number): Promise<void>
  stop(): Promise<void>
}

/** Waits for what comes in its own time: as long as the test may take. */
export async function come(true_: () => boolean): Promise<void> {
  while (!true_()) await sleep(5)
}

export async function startProxy(t: Scope, options: StartOptions): Promise<RunningProxy> {
  const directory = mkdtempSync(join(tmpdir(), 'dotfly-'))
  const file = join(directory, 'macaroon')
  writeFileSync(file, `${options.macaroon ?? CREDENTIAL}\n`, { mode: 0o600 })
  const sockets = (options.sockets ?? [{}]).map((over, i): SocketOptions => ({
    path: join(directory, `s${i}`),
    mode: 0o700,
    policy: 'self',
    allow: [],
    audiences: [],
    ...over,
  }))
  const events: Event[] = []
  const waiting = new Set<() => void>()
  const proxy = await superviseProxy(
    {
      sockets,
      flyd: options.flyd,
      macaroon: { file },
      app: options.app ?? APP,
      machine: options.machine ?? MACHINE,
      ...(options.tellsAll === undefined ? {} : { tellsAll: options.tellsAll }),
    },
    (event) => {
      events.push(event)
      for (const look of waiting) look()
    },
  )
  let stopped: Promise<void> | undefined
  const running: RunningProxy = {
    get pid() {
      return proxy.pid
    },
    paths: sockets.map(({ path }) => path),
    path: sockets[0]?.path ?? '',
    events,
    exchanges: () => events.filter((event) => event.kind === 'exchange'),
    until: (holds, ms = 20_000) =>
      new Promise((resolve, reject) => {
        const late = setTimeout(() => {
          waiting.delete(look)
          reject(new Error('the awaited event did not come'))
        }, ms)
        function look(): void {
          if (!holds(events)) return
          clearTimeout(late)
          waiting.delete(look)
          resolve()
        }
        waiting.add(look)
        look()
      }),
    stop: () => (stopped ??= proxy.stop()),
  }
  t.teardown(async () => {
    await running.stop()
    rmSync(directory, { recursive: true, force: true })
  })
  return running
}
