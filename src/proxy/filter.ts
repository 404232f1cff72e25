// The strip filter alone, for reviewers: `dotfly strip`. Descriptor 3 is the page, as for the proxy; what comes in on
// standard input goes out blanked, and each run is told on standard error: where, how long, which spelling, no bytes.

import { once } from 'node:events'
import { mapPage } from '../os/page.ts'
import { Credential, secretMemory } from './secret.ts'
import { Needles, Strip } from './strip.ts'

const needles = new Credential(mapPage(3)).derive(
  (bytes) => new Needles(bytes, secretMemory(Needles.memory(bytes.length))),
)
const strip = new Strip(needles, (offset, length, name) =>
  process.stderr.write(`offset ${offset}, ${length} bytes: ${name}\n`),
)

async function write(bytes: Buffer): Promise<void> {
  if (!process.stdout.write(bytes)) await once(process.stdout, 'drain')
}

process.stdout.on('error', () => process.exit(1)) // the reader went away
async function filter(): Promise<void> {
  for await (const chunk of process.stdin) await write(strip.push(chunk))
  await write(strip.end())
}
void filter()
