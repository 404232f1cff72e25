// The texts under which what is in the single executable, and beside it, may be handed on: most of them ask for exactly
// that, a copy of themselves.

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { ROOT } from './modules.ts'

/** What is handed on: `text` is its licence, whole. */
export interface Licensed {
  readonly what: string
  readonly text: string
}

/** Of the packages that these files, below node_modules, belong to; sorted. Throws for one without a text. */
export function ofPackages(files: Iterable<string>): Licensed[] {
  const roots = new Set<string>()
  for (const file of files) {
    const [root] = /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file) ?? []
    if (root !== undefined) roots.add(join(ROOT, root))
  }
  return [...roots].map(ofPackage).toSorted((a, b) => (a.what < b.what ? -1 : 1))
}

function ofPackage(root: string): Licensed {
  const { name, version, license }: { name: string; version: string; license?: string } = JSON.parse(
    readFileSync(join(root, 'package.json'), 'utf8'),
  )
  const texts = readdirSync(root).filter((file) => /^(?:licen[cs]e|copying|notice)/i.test(file))
  if (texts.length === 0) throw new Error(`${name} has no file with its licence: it cannot be handed on`)
  return {
    what: `${name} ${version} (${license ?? 'see below'})`,
    text: texts.map((file) => readFileSync(join(root, file), 'utf8').trimEnd()).join('\n\n'),
  }
}

/** Node's own, with those of V8, OpenSSL and all else that is in it. Throws where it is not found. */
export function ofNode(executable: string): Licensed {
  const home = join(dirname(executable), '..')
  // Beside bin/ as Node's own archives have it; in npm's package `node` with the one for this kind of computer.
  const kind = `node-linux-${process.arch}`
  const places = [home, join(home, 'node_modules', kind), join(home, '..', kind)]
  const file = places.map((place) => join(place, 'LICENSE')).find((path) => existsSync(path))
  if (file === undefined) throw new Error(`Node's LICENSE is not with ${executable}`)
  return { what: `Node.js ${process.version}`, text: readFileSync(file, 'utf8').trimEnd() }
}

/** One file of them all. */
export function notices(all: readonly Licensed[]): string {
  const line = '='.repeat(80)
  const head = 'What is in init, and in lib beside it, with the texts under which it may be handed on.\n'
  return [head, ...all.map(({ what, text }) => `${line}\n${what}\n${line}\n\n${text}\n`)].join('\n')
}
