// dotfly demo: a mock Fly and a real proxy in one directory, ready for curl; gone without a trace at Ctrl-C.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Failure, reason } from '../errors.ts'
import { LaunchError } from '../init/error.ts'
import type { ProxyOptions } from '../init/options.ts'
import { type Grammar, readArguments } from './arguments.ts'
import { openLog } from './log.ts'
import { printable } from './printable.ts'
import { askedToEnd } from './signals.ts'
import { parseSocket } from './sockets.ts'
import { patiently } from './terminal.ts'

const HELP = `Usage: dotfly demo

Runs a mock flyd and issuer and the real proxy for one Machine, all in a new
directory under $TMPDIR or /tmp, and prints a curl line to try. Ctrl-C ends it and
removes the directory.

    -h, --help    this text

Exit codes: 0 ended as asked, 1 failed, 2 wrong usage, 128+N ended by signal N.

Example:

    dotfly demo
`

export const grammar: Grammar = {
  name: 'demo',
  help: HELP,
  declare: (command) => command,
}

export async function demo(words: readonly string[]): Promise<number> {
  const asked = await readArguments(grammar, words, () => true)
  if (asked === undefined) return 0
  const end = askedToEnd()
  // Only its owner may enter, so nobody else on this computer gets the demo's tokens.
  const dir = await mkdtemp(join(tmpdir(), 'dotfly-'))
  try {
    await show(dir, end.signal)
    return 0
  } catch (caught) {
    if (caught instanceof LaunchError) throw new Failure(caught.message, { cause: caught })
    throw caught
  } finally {
    await rm(dir, { recursive: true, force: true })
    end.ignore()
  }
}

async function show(dir: string, end: Promise<void>): Promise<void> {
  const socket = parseSocket(join(dir, 'api'))
  const { startMock } = await import('../mock/start.ts')
  const { superviseProxy } = await import('../init/launch.ts')
  const fly = await patiently('starting', () => startMock({ dir: join(dir, 'fly'), parties: false })).catch(
    (caught: unknown) => {
      throw new Failure(`the mock cannot start: ${printable(reason(caught))}`, { cause: caught })
    },
  )
  try {
    const [machine] = fly.file.machines
    if (machine === undefined) throw new Failure('the mock has no Machine')
    const options: ProxyOptions = {
      sockets: [socket],
      flyd: machine.flyd_url,
      macaroon: { file: machine.macaroon_file },
      app: machine.app,
      machine: machine.id,
    }
    const log = openLog('human', 'info', options.sockets)
    const proxy = await superviseProxy(options, log.event, { restarting: log.restart, untidy: log.untidy })
    process.stdout.write(invitation(socket.path, machine, fly.file.issuer.url))
    await end
    await proxy.stop()
  } finally {
    await fly.stop()
  }
}

interface Named {
  org: string
  app: string
  name: string
}

const invitation = (socket: string, { org, app, name }: Named, issuer: string): string => `
This is Machine ${org}:${app}:${name}. Ask it for a token, from another terminal:

curl --unix-socket ${socket} -X POST http://localhost/v1/tokens/oidc --data '{"aud":"sts.amazonaws.com"}'

Its signature can be checked with the keys that the issuer publishes:

curl ${issuer}/${org}/.well-known/openid-configuration

Ctrl-C ends the demo.

`
