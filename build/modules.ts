// What goes into the single executable: the trusted modules as they are in src, and everything else in bundles.

import { stripTypeScriptTypes } from 'node:module'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build as bundle } from 'esbuild'

export const ROOT = fileURLToPath(new URL('..', import.meta.url))

/** Path below src, as in `proxy/main.js`, to its text. */
export type Modules = ReadonlyMap<string, string>

/** What holds the macaroon or decides what may: nobody shall have to trust a bundler for it. */
const TRUSTED = ['sea/main.ts', 'sea/start.ts', 'proxy/main.ts', 'proxy/filter.ts']

/** These and what they import, with their types blanked out: every line, and every comment, stays where it was. */
export function trustedModules(): Modules {
  const modules = new Map<string, string>()
  const take = (path: string): void => {
    const name = path.replace(/\.ts$/, '.js')
    if (modules.has(name)) return
    const text = stripTypeScriptTypes(readFileSync(join(ROOT, 'src', path), 'utf8'))
    modules.set(name, text.replaceAll(SPECIFIER, '$1.js$2'))
    // What is imported on demand is another part of the program.
    for (const [, specifier = ''] of text.matchAll(/^(?:import|export)\b[^'"]*'(\.[^']+)'/gm))
      take(join(dirname(path), specifier))
  }
  TRUSTED.forEach(take)
  return modules
}

/** Of a file of ours, in an import of either kind. */
const SPECIFIER = /(\b(?:from |import |import\()'\.[^']*)\.ts(')/g

/** The command line and the keeper of token files, with their packages, and the files that they were made of. Not
 * minified; a command is loaded when it is asked for. `version` is what `--version` says. */
export async function bundles(version: string): Promise<{ modules: Modules; inputs: readonly string[] }> {
  const { outputFiles, metafile } = await bundle({
    absWorkingDir: ROOT,
    entryPoints: {
      'cli/main': 'src/cli/main.ts',
      'identity/main': 'src/identity/main.ts',
      'metrics/main': 'src/metrics/main.ts',
    },
    outdir: 'bundle',
    write: false,
    metafile: true,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node26',
    charset: 'utf8',
    logLevel: 'error',
    define: { DOTFLY_VERSION: JSON.stringify(version) },
    // Packages in CommonJS ask for Node's modules, and for nothing that would be on the disk.
    banner: { js: 'const require = process.getBuiltinModule' },
    plugins: [
      {
        name: 'no mocks',
        setup(build) {
          build.onResolve({ filter: /\/mock\/start\.ts$/ }, () => ({ path: join(ROOT, 'src/sea/absent.ts') }))
        },
      },
    ],
  })
  const base = join(ROOT, 'bundle/')
  const modules = new Map(outputFiles.map(({ path, text }) => [path.slice(base.length), text]))
  return { modules, inputs: Object.keys(metafile.inputs) }
}
