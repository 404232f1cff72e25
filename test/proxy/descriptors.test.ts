// A lack of descriptors that one guest makes, and another does not feel. In a file of its own, for its process gives up most
// of its own for good: a kernel's init has 4,096.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'tap'
import { setLimit } from '../../src/os/limits.ts'
import { JWT } from '../support/corpus.ts'
import { startFlyd } from '../support/flyd.ts'
import { ask, MINT, READ } from '../support/guest.ts'
import { startProxy } from '../support/proxy.ts'

/** Holds as many connections open as it is told, and asks on each; hung up on, it comes again. */
const GREEDY = `
  const { connect } = require('node:net')
  process.stdin.once('data', (line) => {
    const [path, count] = String(line).trim().split(' ')
    const hold = () => {
      const socket = connect(path, () => socket.write(${JSON.stringify(READ)})).on('error', () => socket.destroy())
      socket.resume().on('close', () => setTimeout(hold, 20))
    }
    for (let i = 0; i < Number(count); i++) hold()
  })
`

test('who holds all connections of a socket, with as many to flyd, keeps nobody out of another', async (t) => {
  const greedy = spawn(process.execPath, ['-e', GREEDY], { stdio: ['pipe', 'ignore', 'inherit'] })
  t.teardown(() => void greedy.kill('SIGKILL'))
  await once(greedy, 'spawn')
  setLimit('nofile', { soft: 1024n, hard: 1024n })
  const flyd = await startFlyd(t)
  const { answer } = flyd
  flyd.answer = (seen, connection) => (seen.method === 'POST' ? answer(seen, connection) : undefined)
  const proxy = await startProxy(t, { flyd: flyd.url, sockets: [{ mode: 0o777 }, {}], tellsAll: false })
  greedy.stdin.write(`${proxy.path} 700\n`)
  await sleep(2000)
  for (let i = 0; i < 5; i++) t.equal((await ask(proxy.paths[1] ?? '', MINT, 1, 5000))[0]?.body, JWT)
  const held = readdirSync(`/proc/${proxy.pid}/fd`).length
  t.comment(`${held} of 1024 descriptors, ${flyd.requests.length} requests`)
  t.ok(held < 900, 'some are left')
})
