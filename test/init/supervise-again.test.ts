// A supervised process that cannot be started again is tried until it can.

import { readdirSync } from 'node:fs'
import { test, type Test } from 'tap'
import { supervise, type Supervised } from '../../src/init/supervise.ts'
import { Children } from '../../src/os/wait.ts'

test('what goes wrong at a restart is said and tried again, and leaves no descriptor behind', async (t) => {
  const children = new Children()
  const said: string[] = []
  const open = (): number => readdirSync('/proc/self/fd').length
  const before = open()
  let starts = 0
  let lives = (): void => undefined
  const up = new Promise<void>((resolve) => (lives = resolve))
  const supervised = supervise({
    children,
    command: () => {
      starts++
      if (starts > 1 && starts < 5) throw new Error('too many open files')
      return { file: '/bin/sh', argv: ['sh', '-c', starts === 1 ? 'exit 3' : 'echo up; exec cat'], env: [] }
    },
    hear: () => {
      lives()
      return true
    },
    served: () => true,
    restarting: (why) => said.push(why),
    patience: 1000,
  })
  await up
  t.equal(starts, 5)
  t.same(said, ['ended with code 3', ...Array<string>(3).fill('cannot be started (too many open files)')])
  await supervised.stop()
  children.close()
  t.ok(open() <= before + 1, `${open()} descriptors open, ${before} before`)
})

/** Runs `script`, which says `grandchild PID` of a process that keeps the pipe open, and gives what it said. */
function withGrandchild(t: Test, script: string): Setting {
  const children = new Children()
  const said: string[] = []
  let heard = (): void => undefined
  const restarts: string[] = []
  const supervised = supervise({
    children,
    command: () => ({ file: '/bin/sh', argv: ['sh', '-c', script], env: ['PATH=/bin:/usr/bin'] }),
    hear(line) {
      said.push(line)
      heard()
      return true
    },
    served: () => true,
    restarting(why) {
      restarts.push(why)
      heard()
    },
    patience: 60_000,
  })
  t.teardown(async () => {
    await supervised.stop()
    children.close()
    for (const line of said) {
      const pid = Number(/^grandchild ([0-9]+)$/.exec(line)?.[1])
      if (pid > 1) process.kill(pid, 'SIGKILL')
    }
  })
  return {
    supervised,
    said,
    restarts,
    async until(true_) {
      while (!true_()) await new Promise<void>((resolve) => (heard = resolve))
    },
  }
}

interface Setting {
  readonly supervised: Supervised
  readonly said: readonly string[]
  readonly restarts: readonly string[]
  until(true_: () => boolean): Promise<void>
}

const HOLDS = 'sleep 1000 & echo grandchild $!'
const alive = (line = ''): boolean => process.kill(Number(line.replace('grandchild ', '')), 0)

test('a grandchild that holds the pipe does not keep stop() waiting', async (t) => {
  const { supervised, said, until } = withGrandchild(t, `${HOLDS}; echo up; exec cat`)
  await until(() => said.includes('up'))
  t.ok(supervised.pid > 0)
  await supervised.stop()
  t.equal(supervised.pid, -1)
  t.ok(alive(said[0]), 'which lives on')
})

test('nor a restart; what was said last is heard, and the number of a process that has ended is forgotten', async (t) => {
  const lines = Array.from({ length: 500 }, (_, i) => `line ${i}`)
  const { supervised, said, restarts, until } = withGrandchild(
    t,
    `${HOLDS}; i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done; exit 4`,
  )
  await until(() => restarts.length > 0)
  t.equal(supervised.pid, -1, 'none, until the next one is there')
  t.strictSame(said.slice(1, 501), lines)
  t.equal(restarts[0], 'ended with code 4')
  t.ok(alive(said[0]), 'it lives on, with the pipe')
  await until(() => restarts.length > 1)
  t.equal(restarts[1], 'ended with code 4', 'and the next one was started')
})
