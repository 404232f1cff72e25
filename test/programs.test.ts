// The programs of docs/http.md, as they stand there but for the socket's path: each gets a token, and ends with the code
// where it gets none.

import { execFile, spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'tap'
import { NODE } from './cli/dotfly.ts'
import { JWT } from './support/corpus.ts'
import { startFlyd } from './support/flyd.ts'
import { startProxy } from './support/proxy.ts'

const page = readFileSync(new URL('../docs/http.md', import.meta.url), 'utf8')
const has = (program: string, word: string): boolean => spawnSync(program, [word]).status === 0

/** How each is run. Go, which compiles for seconds, only among the slow tests, and where there is one. */
const PROGRAMS: readonly (readonly [language: string, file: string, run: readonly string[]])[] = [
  ['js', 'ask.mjs', [NODE]],
  ['python', 'ask.py', ['python3']],
  ...(process.env['DOTFLY_SLOW'] === '1' && has('go', 'version') ? [['go', 'ask.go', ['go', 'run']] as const] : []),
]

test('each program of docs/http.md prints the token, and the code when it is refused', async (t) => {
  const flyd = await startFlyd(t)
  flyd.answer = (_, { socket }) => {
    socket.write(`HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: ${JWT.length}\r\n\r\n${JWT}`)
  }
  const proxy = await startProxy(t, { flyd: flyd.url, sockets: [{}, { audiences: ['https://vault.example'] }] })
  const [open = '', narrow = ''] = proxy.paths
  for (const [language, file, [program = '', ...words]] of PROGRAMS) {
    const text = new RegExp(`^\`\`\`${language}\\n([^]*?)^\`\`\`$`, 'm').exec(page)?.[1] ?? ''
    t.match(text, '/.fly/api', `docs/http.md has one in ${language}`)
    const run = async (socket: string): Promise<{ code: unknown; stdout: string; stderr: string }> => {
      const path = join(t.testdir({}), file)
      writeFileSync(path, text.replaceAll('/.fly/api', socket))
      return new Promise((done) => {
        execFile(program, [...words, path], (error, stdout, stderr) => done({ code: error?.code ?? 0, stdout, stderr }))
      })
    }
    t.match(await run(open), { code: 0, stdout: `${JWT}\n` }, language)
    t.strictSame(flyd.requests.at(-1)?.body, '{"aud":"sts.amazonaws.com"}')
    t.match(await run(narrow), { code: 1, stdout: /^$/, stderr: /AUDIENCE_NOT_ALLOWED/ }, language)
    t.match(await run(`${open}.none`), { code: 1, stdout: /^$/, stderr: /\S/ }, language)
  }
})
