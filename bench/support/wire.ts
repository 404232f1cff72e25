// support/wire.c, from here.

import { execFile, execFileSync, spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { once } from 'node:events'
import type { Launch } from '../peers/peer.ts'

const run = promisify(execFile)

export interface Load {
  requests: number
  seconds: number
  /** µs */
  p50: number
  p99: number
  p999: number
  max: number
  /** CPU time that the clients took themselves, ns. */
  cpu: number
}

export interface Read {
  bytes: number
  seconds: number
  first: number
  cpu: number
}

export const installed = (command: string, flag = '--version'): boolean => {
  try {
    execFileSync(command, [flag], { stdio: 'ignore' })
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ENOENT'
  }
}

/** Compiles one C file of ours. */
export function compile(directory: string, source: string): string {
  const output = join(directory, source.replace(/^.*\/|\.c$/g, ''))
  execFileSync('cc', ['-O2', '-o', output, join(import.meta.dirname, '..', source)], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  return output
}

/** In a request: eight digits, others each time. */
export const NUMBER = '@@@@@@@@'

/** The request of all benchmarks. `path` matters to the origin of wire.c alone; `id` is what may differ each time. */
export function request(path: string, headers = 0, id = '00000000'): string {
  const body = '{"aud":"sts.amazonaws.com"}'
  const more = Array.from({ length: headers }, (_, i) => `X-Ask-${i}: of about the size that headers have\r\n`).join('')
  return `POST ${path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\nX-Request-Id: ${id}\r\n${more}Content-Length: ${body.length}\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n${body}`
}

/** A request for a large answer, without a body: Go's client reads for more of one when its server has closed it, and then
 * breaks the answer off. */
export const download = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`

export class Wire {
  readonly #program: string
  readonly #directory: string
  #files = new Map<string, string>()

  constructor(directory: string) {
    this.#directory = directory
    this.#program = compile(directory, 'support/wire.c')
  }

  /** `how`: connections that are kept, or one for each request. */
  async load(
    socket: string,
    ask: string,
    connections: number,
    { seconds = 0, requests = 0 }: { seconds?: number; requests?: number },
    how: 'load' | 'calls' = 'load',
  ): Promise<Load> {
    return (await this.#run([this.#program], how, socket, this.#file(ask), connections, seconds, requests)) as Load
  }

  /** `processors`, such as `0-1`: where the client may run. */
  async read(socket: string, ask: string, processors?: string): Promise<Read> {
    const pinned = processors === undefined ? [] : ['taskset', '-c', processors]
    return (await this.#run([...pinned, this.#program], 'read', socket, this.#file(ask))) as Read
  }

  /** From its start, ms; then it is ended. `mark` is a file that it lets somebody write. */
  async start(
    socket: string,
    ask: string,
    { command, args, env }: Launch,
    mark = '-',
  ): Promise<{ accepts: number; answers: number; runs: number }> {
    const words = ['start', socket, this.#file(ask), mark, command, ...args]
    const { stdout } = await run(this.#program, words, { timeout: 60_000, env })
    return JSON.parse(stdout) as { accepts: number; answers: number; runs: number }
  }

  /** ms until a command has ended. */
  async ended(command: string, args: readonly string[]): Promise<number> {
    return ((await this.#run([this.#program], 'run', command, ...args)) as { ended: number }).ended
  }

  /** Idle connections, each after one request; `release` closes them, and throws where one was lost. */
  async hold(socket: string, ask: string, connections: number): Promise<{ release(): Promise<void> }> {
    const child = spawn(this.#program, ['hold', socket, this.#file(ask), String(connections)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    const ended = once(child, 'close')
    const [said] = await Promise.race([once(child.stdout, 'data'), ended])
    if (!String(said).startsWith('{')) throw new Error('the idle connections could not be made')
    return {
      async release() {
        child.stdin.end()
        const [code] = await ended
        if (code !== 0) throw new Error('an idle connection was closed')
      },
    }
  }

  /** The origin of large answers and of many headers. */
  async origin(): Promise<{ port: number; pid: number; stop(): Promise<void> }> {
    const child = spawn(this.#program, ['origin'], { stdio: ['ignore', 'pipe', 'inherit'] })
    const ended = once(child, 'close')
    const [line] = await once(child.stdout, 'data')
    const end = (): boolean => child.kill()
    process.once('exit', end)
    const { port } = JSON.parse(String(line)) as { port: number }
    return {
      port,
      pid: child.pid ?? 0,
      async stop() {
        end()
        await ended
        process.off('exit', end)
      },
    }
  }

  #file(ask: string): string {
    let file = this.#files.get(ask)
    if (file === undefined) {
      file = join(this.#directory, `request-${this.#files.size}`)
      writeFileSync(file, ask)
      this.#files.set(ask, file)
    }
    return file
  }

  async #run([command = '', ...before]: string[], ...args: (string | number)[]): Promise<unknown> {
    const { stdout } = await run(command, [...before, ...args.map(String)], { timeout: 600_000 })
    return JSON.parse(stdout)
  }
}
