// Storms: orphans by the thousand, a proxy that is killed a hundred times under load.

import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { test } from 'tap'
import { fileURLToPath } from 'node:url'
import { JWT } from '../support/corpus.ts'
import { startFlyd } from '../support/flyd.ts'
import { MINT, RawGuest } from '../support/guest.ts'
import { kill, NODE, ROOT, SLOW, startInit, status } from './support.ts'

const skip = ROOT ? false : 'needs root, for a PID namespace'

test('5,000 orphans and 500 children at once: every status right, no zombie', { skip }, async (t) => {
  const program = fileURLToPath(new URL('storm.ts', import.meta.url))
  const [node = '', ...flags] = NODE
  const text = execFileSync(
    'unshare',
    ['--pid', '--mount', '--fork', '--mount-proc', '--kill-child', node, ...flags, program, '500', '5000'],
    {
      encoding: 'utf8',
      timeout: 50_000,
    },
  )
  const found: unknown = JSON.parse(text)
  t.match(found, { wrong: 0, right: 500, orphans: 5000, zombies: 0 })
  t.comment(text.trim())
})

test(
  'kill -9 of the proxy under load: answered or closed, never refused, and the credential is still there',
  { skip, timeout: SLOW ? 600_000 : 58_000 },
  async (t) => {
    const kills = SLOW ? 100 : 15
    const flyd = await startFlyd(t, 'tcp')
    const init = await startInit(t, { command: ['sleep', '3600'], flyd: flyd.url, options: ['--log-level', 'silent'] })
    const counts = { answered: 0, closed: 0, wrong: 0 }
    const refused: string[] = []
    const ask = async (): Promise<boolean> => {
      // Reading it throws when init is gone: then there is nothing to wait for.
      if (init.pid > 0) status(init.pid, 'State')
      const guest = new RawGuest(init.path)
      guest.socket.write(MINT)
      const done = await new Promise<string>((resolve) => {
        let text = ''
        guest.socket.on('data', (bytes: Buffer) => {
          text += bytes.toString('latin1')
          if (text.endsWith(JWT)) resolve('answered')
        })
        guest.socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'unknown'))
        for (const end of ['end', 'close']) guest.socket.on(end, () => resolve(text === '' ? 'closed' : text))
      })
      guest.socket.destroy()
      if (done === 'answered') counts.answered++
      else if (['closed', 'ECONNRESET', 'EPIPE'].includes(done)) counts.closed++
      else if (['ECONNREFUSED', 'ENOENT', 'EAGAIN'].includes(done)) refused.push(done)
      else counts.wrong++
      return done === 'answered'
    }
    const over = new AbortController()
    while (!(await ask())); // the first answer: all is up
    refused.length = 0
    const load = Array.from({ length: 8 }, async () => {
      while (!over.signal.aborted) await ask()
    })
    let killed = 0
    const seen = new Set<number>()
    while (killed < kills) {
      const pid = init.proxy()
      if (pid > 0 && !seen.has(pid)) {
        // Now and then in the middle of its start.
        if (killed % 5 !== 0) while (!(await ask()));
        seen.add(pid)
        kill(pid, 'SIGKILL')
        killed++
      } else await new Promise((resolve) => setTimeout(resolve, 5))
    }
    over.abort()
    await Promise.all(load)
    t.ok(await ask(), 'the next one is answered: the credential is held')
    t.equal(counts.wrong, 0, JSON.stringify(counts))
    t.same(refused, [])
    t.ok(counts.answered > killed)
    t.ok(
      flyd.requests.every(({ raw }) => raw.includes('Authorization: FlyV1 ')),
      'each with the credential',
    )
    t.match(status(init.pid, 'State'), /^[SRD]/, 'it lives')
    t.ok(readFileSync(`/proc/${init.pid}/stat`))
  },
)
