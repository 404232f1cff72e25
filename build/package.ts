// `npm run build`: what npm gets, in dist/. tsc makes JavaScript and declarations of every file; rollup then joins that
// JavaScript, comments and all, because at a start of this program half the time would go into loading its files one by
// one: all that `init` and `proxy` need on their way is one file, and each part that runs as a process of its own is.

import { execFileSync } from 'node:child_process'
import { cpSync, rmSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { rollup } from 'rollup'
import type { Plugin } from 'rollup'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const DIST = join(ROOT, 'dist')
const TREE = join(DIST, 'tree')

/** Src files that `init` and `proxy` load on their way, and those that only one of them does: a chunk each, for every file
 * that is loaded takes 0.3 ms, and no more in it, for V8 reads all of it. The rest is loaded by who needs it. */
const HOT = {
  main: /^(?:cli\/(?:main|commands|arguments|settings|sockets|printable|output)|init\/(?:credential|erase|error|launch|lines|log|probe|reach|sockets|steps|supervise|watchdog)|os\/(?:confine|descriptor|directory|errno|libc|limits|listen|page|processes|self|signals|spawn|wait)|errors)\.js$/,
  init: /^(?:cli\/init|metrics\/address|init\/(?:config|entrypoint|harden|init)|os\/(?:capabilities|mount|reboot|seccomp|terminal|users))\.js$/,
  proxy: /^(?:cli\/(?:proxy|signals)|init\/(?:activation|service)|os\/(?:inherit|notify))\.js$/,
}

/** Named as src/os/self.ts asks for them. */
const PARTS = {
  proxy: 'proxy/main.js',
  filter: 'proxy/filter.js',
  identity: 'identity/main.js',
  metrics: 'metrics/main.js',
  issuer: 'issuer/main.js',
}

rmSync(DIST, { recursive: true, force: true })
execFileSync(
  process.execPath,
  [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', 'tsconfig.build.json', '--outDir', TREE],
  {
    cwd: ROOT,
    stdio: 'inherit',
  },
)

/** Says of each module where it comes from, for whoever compares; and writes as an escape what Latin-1 has not, a dozen
 * ellipses: because of one of them V8 would keep the text of a whole file in two bytes a character. */
const origin: Plugin = {
  name: 'origin',
  transform: (code, id) =>
    code.startsWith('#!')
      ? null
      : {
          code: `// from ${relative(TREE, id).replace(/\.js$/, '.ts')}\n${code.replaceAll(/[^\x00-\xff]/g, escaped)}`,
          map: null,
        },
}
const escaped = (unit: string): string => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`
/** Nothing is left out. Rollup takes for dead what no JavaScript reads, and the kernel and libuv read by address: an array
 * of handles that was only pushed to went this way once, and init hung. */
const treeshake = false
/** What stands for `import.meta` in CommonJS. */
const importMeta: Plugin = {
  name: 'import.meta',
  resolveImportMeta: (property) =>
    property === 'filename'
      ? '__filename'
      : property === 'resolve'
        ? "((name) => require('node:url').pathToFileURL(require.resolve(name)).href)"
        : null,
}
const interop = (id: string | null): 'default' | 'auto' => (id?.startsWith('node:') === true ? 'default' : 'auto')
const external = (id: string): boolean => !id.startsWith('.') && !id.startsWith('/')

// In CommonJS, which Node runs 3 to 5 ms sooner than modules of the same size.
const program = await rollup({
  input: { main: join(TREE, 'src/cli/main.js') },
  external,
  plugins: [origin, importMeta],
  treeshake,
  preserveEntrySignatures: 'allow-extension',
})
await program.write({
  dir: DIST,
  format: 'cjs',
  interop,
  entryFileNames: '[name].cjs',
  // Beside the parts, whose names are taken: dotfly proxy is not the trusted process.
  chunkFileNames: ({ name }) => (Object.hasOwn(PARTS, name) ? 'command-[name].cjs' : '[name].cjs'),
  // No import is hoisted into who imports the importer: what is cold stays unloaded.
  hoistTransitiveImports: false,
  manualChunks: (id) => Object.entries(HOT).find(([, files]) => files.test(relative(join(TREE, 'src'), id)))?.[0],
})
await program.close()

// What others import, and of one make with their own modules.
const library = await rollup({
  input: { index: join(TREE, 'src/index.js'), mock: join(TREE, 'src/mock/start.js') },
  external,
  plugins: [origin],
  treeshake,
  preserveEntrySignatures: 'strict',
})
await library.write({
  dir: DIST,
  format: 'es',
  chunkFileNames: ({ name }) => (Object.hasOwn(PARTS, name) ? 'library-[name].js' : '[name].js'),
})
await library.close()

// The trusted process shares no file with anybody: one to read, to hash, to allow.
// In CommonJS as well: a module that imports from node:fs or node:util makes Node load all that these export on demand,
// its streams and its workers among it, which is a sixth of the start and 0.8 MiB.
for (const [part, entry] of Object.entries(PARTS)) {
  const bundle = await rollup({ input: join(TREE, 'src', entry), external, plugins: [origin, importMeta], treeshake })
  await bundle.write({
    file: join(DIST, `${part}.cjs`),
    format: 'cjs',
    interop,
    inlineDynamicImports: true,
    dynamicImportInCjs: false,
  })
  await bundle.close()
}

// Of the tree the declarations are left: exports point at them.
cpSync(join(TREE, 'src'), join(DIST, 'types'), {
  recursive: true,
  filter: (path) => !path.endsWith('.js'),
})
rmSync(TREE, { recursive: true })
const commit = execFileSync('git', ['rev-parse', 'HEAD'], { cwd: ROOT, encoding: 'utf8' }).trim()
writeFileSync(join(DIST, 'build.json'), `${JSON.stringify({ commit })}\n`)

// For `man dotfly`, which npm links where it installs for everybody.
const page = execFileSync(process.execPath, ['--no-warnings', join(ROOT, 'bin/dotfly.ts'), 'man'], {
  cwd: ROOT,
  env: {},
})
writeFileSync(join(DIST, 'dotfly.1'), page)
