// Runs the real binary as a process, as a shell would.

import { type ChildProcess, spawn } from 'node:child_process'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { CACHE } from '../support/cache.ts'

const root = new URL('../../', import.meta.url)
export const NODE = fileURLToPath(new URL('node_modules/.bin/node', root))
export const BIN = fileURLToPath(new URL('bin/dotfly.ts', root))

export type Env = Record<string, string>

/** Nothing of this computer's environment but what finds programs, a temporary directory and compiled sources. */
export const plain = (env: Env = {}): Env => ({
  PATH: process.env['PATH'] ?? '',
  ...(process.env['TMPDIR'] === undefined ? {} : { TMPDIR: process.env['TMPDIR'] }),
  ...CACHE,
  ...env,
})

/** `detached` makes it the leader of a process group, as a shell does with what it runs in the foreground. */
export function start(words: readonly string[], env: Env = {}, detached = false, bin = BIN): ChildProcess {
  // Through env -i, for tap puts its own hooks into NODE_OPTIONS of whatever a test spawns, and so down to the trusted
  // process: what is tested must be what is shipped.
  const variables = Object.entries(plain(env)).map(([name, value]) => `${name}=${value}`)
  return spawn('env', ['-i', ...variables, NODE, '--disable-warning=ExperimentalWarning', bin, ...words], { detached })
}

export interface Outcome {
  code: number | null
  stdout: string
  stderr: string
}

/** Runs to the end. `bin` is another checkout's, for tests that break a copy. */
export async function dotfly(words: readonly string[], env: Env = {}, bin = BIN): Promise<Outcome> {
  const child = start(words, env, false, bin)
  const code = new Promise<number | null>((done) => child.on('close', done))
  const [stdout, stderr] = await Promise.all([text(child.stdout!), text(child.stderr!)])
  return { code: await code, stdout, stderr }
}

/** Resolves with all output so far once it matches; rejects when the process ends before. */
export function until(child: ChildProcess, pattern: RegExp): Promise<string> {
  return new Promise((found, reject) => {
    let seen = ''
    child.stdout!.setEncoding('utf8').on('data', (chunk: string) => {
      seen += chunk
      if (pattern.test(seen)) found(seen)
    })
    let said = ''
    child.stderr!.setEncoding('utf8').on('data', (chunk: string) => (said += chunk))
    child.on('close', (code) => reject(new Error(`ended with ${code} before ${pattern}: ${seen}${said}`)))
  })
}

export const ended = (child: ChildProcess): Promise<{ code: number | null; signal: string | null }> =>
  new Promise((done) => child.on('close', (code, signal) => done({ code, signal })))
