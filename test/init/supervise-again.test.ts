// A supervised process that cannot be started again is tried until it can.

import { readdirSync } from 'node:fs'
import { test } from 'tap'
import { supervise } from '../../src/init/supervise.ts'
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
