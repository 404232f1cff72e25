// The race at the start: whatever the moment at which socket, proxy or flyd appear, and go again, a program that starts
// finds its token. Real processes, 120 of them in CI; 200 keepers in one process are in
// keep.test.ts.

import { createServer, type Server } from 'node:http'
import { chmodSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'tap'
import { lifeOf } from '../../src/identity/life.ts'
import { startMock } from '../../src/mock/start.ts'
import { dotfly } from '../cli/dotfly.ts'
import { ROOT, SLOW, startInit } from '../init/support.ts'
import { directory, mint, pause, seeded } from './support.ts'

/** So many at a time, as many as there are. */
async function crowd(count: number, abreast: number, start: (i: number) => Promise<void>): Promise<void> {
  let next = 0
  const runner = async (): Promise<void> => {
    while (next < count) await start(next++)
  }
  await Promise.all(Array.from({ length: abreast }, runner))
}

test('dotfly token --wait: a socket that comes and goes', { timeout: SLOW ? 600_000 : 58_000 }, async (t) => {
  const socket = join(directory(t), 'api')
  const dice = seeded(6)
  const open = async (): Promise<Server> => {
    const server = createServer((_, response) => response.end(mint(600)))
    await new Promise<void>((done) => server.listen(socket, done))
    return server
  }
  const close = (server: Server): Promise<void> =>
    new Promise((done) => {
      server.close(() => done())
      server.closeAllConnections() // in the middle of an answer, at times
    })
  const over = new AbortController()
  let gone = 0
  const comesAndGoes = (async () => {
    while (!over.signal.aborted) {
      await pause(20 + dice() * 400)
      const server = await open()
      await pause(20 + dice() * 200)
      await close(server)
      gone++
    }
  })()
  const codes: unknown[] = []
  await crowd(SLOW ? 100 : 16, 4, async () => {
    const { code, stdout, stderr } = await dotfly(['token', '--wait', '50s', '--socket', socket])
    if (code !== 0 || lifeOf(stdout.trim()) === undefined) codes.push(code, stderr)
  })
  over.abort()
  await comesAndGoes
  t.strictSame(codes, [], 'each has a token')
  t.ok(gone >= 3, `the socket went ${gone} times`)
})

test(
  'dotfly init: the first instruction of each finds the file',
  { skip: ROOT ? false : 'needs root, for a PID namespace', timeout: SLOW ? 600_000 : 58_000 },
  async (t) => {
    const dir = directory(t)
    chmodSync(dir, 0o755)
    const mock = await startMock({ dir, parties: false, rateLimits: false })
    t.teardown(() => mock.stop())
    const [machine] = mock.file.machines
    const wrong: unknown[] = []
    await crowd(SLOW ? 20 : 4, 2, async (i) => {
      const init = await startInit(t, {
        flyd: machine!.flyd_url,
        macaroon: ['--macaroon-file', machine!.macaroon_file],
        options: ['--token-dir', join(dir, `fly${i}`), '--wait-token', '50s'],
        env: { PATH: '/usr/bin:/bin', AWS_ROLE_ARN: 'arn:aws:iam::123456789012:role/weather-cat' },
        // A builtin of the shell: nothing is started before the file is read.
        command: ['sh', '-c', 'read -r token <"$AWS_WEB_IDENTITY_TOKEN_FILE"; echo "$token"'],
      })
      const { code } = await init.ended
      if (code !== 0 || lifeOf(init.out().trim()) === undefined) wrong.push(code, init.out(), init.log())
    })
    t.strictSame(wrong, [])
  },
)
