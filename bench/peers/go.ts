// Go's httputil.ReverseProxy (apt-get install golang-go), in go/main.go, alone and with a scan. It has one thread for Go
// code, as all others here have one.

import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { installed } from '../support/wire.ts'
import type { Peer } from './peer.ts'

const builds = new Map<string, string>() // by the directory of the run: built once for both

function build(directory: string): string {
  const program = join(directory, 'go-proxy')
  if (!builds.has(directory)) {
    execFileSync('go', ['build', '-o', program, join(import.meta.dirname, 'go/main.go')], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, GO111MODULE: 'off' },
    })
    builds.set(directory, program)
  }
  return program
}

const go = (scan: boolean): Peer => ({
  name: scan ? 'go' : 'go-plain',
  title: scan ? 'Go ReverseProxy, scan' : 'Go ReverseProxy',
  strips: { headers: scan, body: scan },
  missing: () => (installed('go', 'version') ? undefined : 'apt-get install golang-go'),
  version: () => /go([0-9.]+)/.exec(execFileSync('go', ['version'], { encoding: 'utf8' }))?.[1] ?? 'unknown',
  launch({ directory, socket, port, credential, needles }) {
    const file = join(directory, 'task.json')
    writeFileSync(file, JSON.stringify({ credential, needles }), { mode: 0o600 })
    const words = [...(scan ? ['-scan'] : []), socket, String(port), file]
    return { command: build(dirname(directory)), args: words, env: { ...process.env, GOMAXPROCS: '1' } }
  },
})

export const goScan = go(true)
export const goPlain = go(false)
