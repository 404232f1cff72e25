// What a process has freed, and the kernel has again.

import { spawnSync } from 'node:child_process'
import { test } from 'tap'

const memory = JSON.stringify(new URL('../../src/os/memory.ts', import.meta.url).href)

/** MiB of anonymous memory that are left of 40, after `then`. */
function left(then: string): number {
  const script = `
    import { readFileSync } from 'node:fs'
    import { tidy } from ${memory}
    const anonymous = () => /^RssAnon:\\s+(\\d+)/m.exec(readFileSync('/proc/self/status', 'latin1'))[1] / 1024
    const before = anonymous()
    // Of a size that malloc keeps, and behind them one that stays: malloc gives back what is free at its end by itself.
    let used = Array.from({ length: 640 }, () => Buffer.allocUnsafeSlow(64 * 1024).fill(1))
    globalThis.kept = Buffer.allocUnsafeSlow(64 * 1024).fill(1)
    if (anonymous() - before < 35) throw new Error('40 MiB are not used')
    used = undefined
    ${then}
    console.log(anonymous() - before)`
  const flags = ['--disable-warning=ExperimentalWarning', '--expose-gc', '--input-type=module']
  const { stdout, stderr } = spawnSync(process.execPath, [...flags, '-e', script], { encoding: 'utf8', env: {} })
  if (stderr !== '') throw new Error(stderr)
  return Number(stdout)
}

test('what was freed is given back', (t) => {
  t.ok(left('tidy(globalThis.gc)') < 10)
  t.end()
})

test('a collection alone leaves it to malloc, or the test above shows nothing', (t) => {
  t.ok(left(`globalThis.gc({ type: 'major', execution: 'sync', flavor: 'last-resort' })`) > 20)
  t.end()
})
