// dotfly itself, as users run it: `dotfly proxy`, its supervisor and its trusted process both counted; built, where
// dist/ is newer than the source. It logs warnings only, as no peer writes an access log here.

import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { installed, linkFlags } from '../installed.ts'
import type { Peer, Task } from './peer.ts'

const HERE = join(import.meta.dirname, '../..')

/** Of this checkout, or of another: what was built where it was built. */
export const dotfly = (root = HERE, log: 'warn' | 'info' = 'warn'): Peer => command(root, log, 'proxy', [])

/** `dotfly init`, whose entrypoint writes `mark`; of this checkout. For cold starts alone. */
export const init = (mark: string): Peer => ({
  ...command(HERE, 'warn', 'init', ['--', 'sh', '-c', `: > ${mark}; exec sleep 30`]),
  name: 'init',
  title: 'dotfly init',
})

function command(root: string, log: 'warn' | 'info', name: 'proxy' | 'init', more: readonly string[]): Peer {
  const source = join(root, 'bin/dotfly.ts')
  const fresh = isBuilt(root)
  const other = root === HERE ? '' : ` at ${root}`
  return {
    name: root === HERE ? (log === 'warn' ? 'dotfly' : 'dotfly-logging') : 'other',
    title: `dotfly${other}${log === 'warn' ? '' : ', every exchange logged'}`,
    strips: { headers: true, body: true },
    missing: () => (existsSync(source) ? undefined : `there is no dotfly${other}`),
    version: () =>
      `${(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }).version}, ${fresh ? 'built' : 'from source'}`,
    launch: ({ directory, socket, port, credential }: Task) => {
      const file = join(directory, 'macaroon')
      writeFileSync(file, credential, { mode: 0o600 })
      const words = [name, '--socket', `${socket},policy=all`, '--flyd', `http://127.0.0.1:${port}`]
      words.push('--macaroon-file', file, '--log-level', log, ...more)
      const entry = fresh ? installed(root, directory) : source
      const flags = fresh ? linkFlags(entry) : ['--disable-warning=ExperimentalWarning']
      return { command: process.execPath, args: [...flags, entry, ...words], env: {} }
    },
  }
}

/** A build that is older than its source would be measured in place of what somebody has just changed. */
export function isBuilt(root = HERE): boolean {
  const built = join(root, 'dist/main.cjs')
  const source = join(root, 'src')
  if (!existsSync(built)) return false
  const at = statSync(built).mtimeMs
  return readdirSync(source, { recursive: true, encoding: 'utf8' }).every(
    (name) => statSync(join(source, name)).mtimeMs <= at,
  )
}
