// `npm run build:sea`: build/sea/.fly, what an image needs of dotfly and nothing besides. docs/images.md is how to use
// it. Two builds of a commit with the same Node and libraries are the same, byte for byte.

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join, relative } from 'node:path'
import { parseArgs } from 'node:util'
import { version } from '../src/cli/version.ts'
import { proxyFlags } from '../src/init/launch.ts'
import { FLAGS as KEEPER_FLAGS } from '../src/init/tokens.ts'
import { type Licensed, notices, ofNode, ofPackages } from './licenses.ts'
import { bundles, ROOT, trustedModules } from './modules.ts'
import type { Modules } from './modules.ts'

/** Runs first, and loads the others. */
const MAIN = 'sea/main.js'
/** Where it must lie in an image: the kernel finds the loader by an absolute path, which is in the file. */
const PLACE = '/.fly'

const { values } = parseArgs({ options: { out: { type: 'string', default: join(ROOT, 'build/sea') } } })
const began = performance.now()
const target = join(values.out, PLACE)
rmSync(target, { recursive: true, force: true })
mkdirSync(join(target, 'lib'), { recursive: true })

const node = realpathSync(process.execPath)
const loader = run('patchelf', ['--print-interpreter', node]).trim()
const trusted = trustedModules()
const shared = libraries()
const { modules, inputs } = await bundles(version())
embed(new Map([...trusted, ...modules]), join(target, 'init'))
for (const library of shared) cpSync(realpathSync(library), join(target, 'lib', basename(library)))
for (const [path, text] of trusted) put(join(target, 'source', path), text)
put(join(target, 'VERSIONS'), versions())
put(join(target, 'NOTICES'), notices([dotfly(), ofNode(node), ...ofPackages(inputs), ...ofLibraries()]))
put(join(target, 'SHA256SUMS'), sums())

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`
const whole = filesOf(target).reduce((sum, path) => sum + statSync(path).size, 0)
process.stdout.write(
  `${relative(process.cwd(), target)}: dotfly ${version()}, init ${megabytes(statSync(join(target, 'init')).size)}, ` +
    `all of it ${megabytes(whole)}, built in ${((performance.now() - began) / 1000).toFixed(1)} s\n`,
)
const [single, plain] = coldStarts([
  [join(target, 'lib', basename(loader)), '--library-path', join(target, 'lib'), join(target, 'init'), '--version'],
  [node, '--disable-warning=ExperimentalWarning', join(ROOT, 'bin/dotfly.ts'), '--version'],
])
process.stdout.write(
  `from its start to the end of --version: ${single} ms, from source with a plain Node ${plain} ms\n`,
)

/** Makes the executable: a stripped Node, the modules, and the flags that any part of dotfly asks for. */
function embed(modules: Modules, to: string): void {
  const work = mkdtempSync(join(tmpdir(), 'dotfly-sea-'))
  try {
    for (const [path, text] of modules) put(join(work, path), text)
    run('strip', ['--strip-all', '-o', join(work, 'node'), node])
    // Paths without a directory before them: they end up in the executable.
    const config = {
      main: MAIN,
      mainFormat: 'module',
      executable: 'node',
      output: 'init',
      disableExperimentalSEAWarning: true,
      // What runs is the text that is in it. A cache is what V8 made of a text once; it compares the length.
      useCodeCache: false,
      useSnapshot: false,
      execArgv: bakedFlags(),
      execArgvExtension: 'none',
      assets: Object.fromEntries([...modules.keys()].filter((path) => path !== MAIN).map((path) => [path, path])),
    }
    put(join(work, 'sea.json'), JSON.stringify(config))
    run(node, ['--build-sea', 'sea.json'], work)
    // Last, for Node's builder breaks what patchelf has moved. RPATH, for RUNPATH yields to LD_LIBRARY_PATH.
    const searched = ['--force-rpath', '--set-rpath', join(PLACE, 'lib')]
    run('patchelf', ['--set-interpreter', join(PLACE, 'lib', basename(loader)), ...searched, join(work, 'init')])
    cpSync(join(work, 'init'), to)
  } finally {
    rmSync(work, { recursive: true })
  }
}

/** Of each, the median of 7, one after another; in ms. Not timed against anything: a figure for whoever reads. */
function coldStarts(commands: readonly (readonly string[])[]): number[] {
  const times = commands.map((): number[] => [])
  for (let round = 0; round < 7; round++) {
    for (const [i, [program = '', ...words]] of commands.entries()) {
      const since = performance.now()
      run(program, words)
      times[i]?.push(performance.now() - since)
    }
  }
  return times.map((all) => Math.round(all.toSorted((a, b) => a - b)[3] ?? 0))
}

/** The same for every part, which gives up what it does not need: src/sea/start.ts says why. */
function bakedFlags(): string[] {
  const added = [
    '--allow-fs-read=*',
    '--allow-fs-write=*',
    '--experimental-vm-modules', // src/sea/main.ts
    '--openssl-config=/dev/null', // or OPENSSL_CONF names a library that is loaded before any code of ours
  ]
  return [...new Set([...proxyFlags(true).filter((flag) => !flag.startsWith('--allow-fs')), ...KEEPER_FLAGS, ...added])]
}

/** The loader and what it loads; absolute. */
function libraries(): string[] {
  const found = [...run('ldd', [node]).matchAll(/ => (\/\S+) \(0x/g)].map(([, path = '']) => path)
  return [loader, ...found.filter((path) => basename(path) !== basename(loader)).toSorted()]
}

/** Whoever looks for known vulnerabilities asks for these. */
function versions(): string {
  return [...new Set([`dotfly ${version()}`, `node ${process.version}`, ...shared.map(origin)]), ''].join('\n')
}

function dotfly(): Licensed {
  return { what: `dotfly ${version()} (Apache-2.0)`, text: readFileSync(join(ROOT, 'LICENSE'), 'utf8').trimEnd() }
}

/** As Debian has them; of other systems' libraries their names alone are known here. */
function ofLibraries(): Licensed[] {
  const texts = new Map<string, string>()
  for (const library of shared) {
    const file = join('/usr/share/doc', packageOf(library) ?? '', 'copyright')
    texts.set(origin(library), existsSync(file) ? readFileSync(file, 'utf8').trimEnd() : 'see the system it is of')
  }
  return [...texts].map(([what, text]) => ({ what, text }))
}

/** Debian's; undefined where the library is none of its. */
function packageOf(library: string): string | undefined {
  try {
    return /^([^:,]+)(?::\S+)?: /m.exec(run('dpkg-query', ['-S', `*/${basename(realpathSync(library))}`]))?.[1]
  } catch {
    return undefined
  }
}

/** Source package and version, where the libraries are Debian's; else the name of the file. */
function origin(library: string): string {
  const name = basename(realpathSync(library))
  try {
    const owner = packageOf(library) ?? ''
    return run('dpkg-query', ['-W', '-f', '${source:Package} ${source:Version}\n', owner]).split('\n')[0] ?? name
  } catch {
    return name
  }
}

function sums(): string {
  return filesOf(target)
    .map((path) => `${createHash('sha256').update(readFileSync(path)).digest('hex')}  ${relative(target, path)}\n`)
    .join('')
}

function filesOf(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .toSorted()
}

function put(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, text)
}

function run(program: string, args: readonly string[], cwd?: string): string {
  return execFileSync(program, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
}
