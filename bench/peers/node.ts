// Proxy libraries of Node, each in a file under node/, with the scan that a user would write. They are dependencies of
// bench/ alone.

import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Peer } from './peer.ts'

const manifest = (library: string): string => join(import.meta.dirname, '..', 'node_modules', library, 'package.json')

export const node = (name: string, library = name): Peer => ({
  name,
  title: library,
  strips: { headers: true, body: true },
  missing: () => (existsSync(manifest(library)) ? undefined : 'npm ci --prefix bench'),
  version: () => (JSON.parse(readFileSync(manifest(library), 'utf8')) as { version: string }).version,
  launch({ directory, socket, port, credential, needles }) {
    const file = join(directory, 'task.json')
    writeFileSync(file, JSON.stringify({ credential, needles }), { mode: 0o600 })
    const program = join(import.meta.dirname, 'node', `${name}.mjs`)
    return { command: process.execPath, args: [program, socket, String(port), file], env: process.env }
  },
})
