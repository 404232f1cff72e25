// The issuer as a process of its own: the private keys are made here and end here. Options come as one JSON line on
// stdin, `{"url","base"}` goes out as one line on stdout, and when stdin ends the parent is gone, and so are we.

import { createInterface } from 'node:readline'
import { parseIssuerOptions } from './options.ts'
import { startIssuer } from './start.ts'
import type { Issuer } from './start.ts'

// Ctrl-C reaches the whole process group; the parent ends us in its own time, through stdin.
process.on('SIGINT', () => undefined)

async function serve(): Promise<never> {
  let issuer: Issuer | undefined
  for await (const line of createInterface({ input: process.stdin })) {
    if (issuer !== undefined) continue
    issuer = await startIssuer(parseIssuerOptions(line))
    process.stdout.write(`${JSON.stringify({ url: issuer.url, base: issuer.base })}\n`)
  }
  await issuer?.stop()
  process.exit(0)
}
void serve()
