// The issuer as a child process: the private keys never are in this one.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { IssuerOptions } from '../issuer/options.ts'
import { executable } from '../os/self.ts'
import { record } from './json.ts'

export interface IssuerProcess {
  readonly url: string
  readonly pid: number
  stop(): Promise<void>
}

export async function spawnIssuer(options: IssuerOptions): Promise<IssuerProcess> {
  const self = executable('issuer')
  // No environment: whatever the caller has in it is not for the process that holds the keys.
  const child = spawn(self.file, self.args([], []), { stdio: ['pipe', 'pipe', 'inherit'], env: {} })
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
  // A child that is gone shows in `ended`; writing to it then is no error of ours.
  child.stdin.on('error', () => undefined)
  const stop = async (): Promise<void> => {
    child.stdin.end()
    const late = setTimeout(() => child.kill('SIGKILL'), 2_000)
    await ended
    clearTimeout(late)
  }
  try {
    await once(child, 'spawn')
    child.stdin.write(`${JSON.stringify(options)}\n`)
    const lines = createInterface({ input: child.stdout })
    const line = await Promise.race([once(lines, 'line').then(([first]: unknown[]) => first), ended])
    const url = typeof line === 'string' ? record(JSON.parse(line))?.['url'] : undefined
    if (typeof url !== 'string' || child.pid === undefined) throw new Error('the mock issuer did not start')
    return { url, pid: child.pid, stop }
  } catch (error) {
    if (child.pid !== undefined) await stop()
    throw error
  }
}
