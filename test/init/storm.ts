// Run as PID 1 of a namespace: children that end in every way at once, while orphans by the thousand arrive. Prints what
// was found.

import { readdirSync, readFileSync } from 'node:fs'
import { spawn } from '../../src/os/spawn.ts'
import { Children, exitCode } from '../../src/os/wait.ts'

const [, , count = '0', orphanCount = '0'] = process.argv
let orphans = 0
const children = new Children(() => orphans++)
const began = process.cpuUsage()
const shell = (script: string): number => {
  const started = spawn({ file: '/bin/sh', argv: ['sh', '-c', script], env: ['PATH=/usr/bin:/bin'], files: [0, 1, 2] })
  if ('refused' in started) throw new Error(started.refused)
  return started.pid
}

// Each leaves orphans: what it forks forks again and ends first.
const batches = 50
const each = Number(orphanCount) / batches
const forks = Array.from({ length: batches }, () =>
  children.ending(shell(`i=0; while [ $i -lt ${each} ]; do ( : & ); i=$((i+1)); done`)),
)
const SIGNALS = [1, 9, 15, 35, 50, 64]
const expected: number[] = []
const endings = Array.from({ length: Number(count) }, (_, i) => {
  const signal = SIGNALS[i % 12]
  expected.push(signal === undefined ? i % 256 : 128 + signal)
  return children.ending(shell(signal === undefined ? `exit ${i % 256}` : `kill -${signal} $$; sleep 9`))
})
const codes = (await Promise.all(endings)).map(exitCode)
await Promise.all(forks)
while (!children.childless) await new Promise((resolve) => setTimeout(resolve, 20))
children.close()
const cpu = process.cpuUsage(began)
const wrong = codes.filter((code, i) => code !== expected[i]).length
const zombies = readdirSync('/proc')
  .filter((name) => /^[0-9]+$/.test(name))
  .filter((pid) => readFileSync(`/proc/${pid}/stat`, 'latin1').includes(') Z ')).length
process.stdout.write(
  `${JSON.stringify({ wrong, right: codes.length - wrong, orphans, zombies, cpuMs: Math.round((cpu.user + cpu.system) / 1000) })}\n`,
)
