// Which part of dotfly this process of the single executable is, and what it gives up for it. Node's flags are baked in
// and nothing adds to them, neither NODE_OPTIONS nor an argument (with `execArgvExtension: "cli"` Node would take
// `--node-options=` from anywhere in the command line, out of the middle of an entrypoint's arguments). So every process
// starts with the flags that any part needs, and a part drops at once, for good, what its own launch line does not name.

/** As src/os/self.ts names them. */
const PARTS = new Set(['proxy/main', 'proxy/filter', 'identity/main', 'metrics/main'])

/** What the executable may do before a part gives it up: flag and scope of Node's permission model. */
const GRANTED: ReadonlyMap<string, string> = new Map([
  ['--allow-fs-read', 'fs.read'],
  ['--allow-fs-write', 'fs.write'],
  ['--allow-net', 'net'],
  ['--allow-ffi', 'ffi'],
])

const [, , first = '', ...rest] = process.argv
const part = first.startsWith('--part=') ? first.slice('--part='.length) : undefined
if (part === undefined) {
  const { main } = await import('../cli/main.ts')
  process.exitCode = await main(process.argv.slice(2), process.env)
} else {
  if (!PARTS.has(part)) throw new Error(`there is no part ${part}`)
  const end = rest.indexOf('--')
  obey(rest.slice(0, end))
  process.argv.splice(1, Infinity, part, ...rest.slice(end + 1))
  await import(`../${part}.js`)
}

/** What Node itself does where these flags come before a script. Throws where one cannot be obeyed. */
function obey(flags: readonly string[]): void {
  const unknown = flags.filter((flag) => !process.execArgv.includes(flag))
  if (unknown.length > 0) throw new Error(`the executable was not built with ${unknown.join(' ')}`)
  if (!flags.includes('--permission')) return
  for (const [flag, scope] of GRANTED) {
    if (flags.some((word) => word === flag || word.startsWith(`${flag}=`))) continue
    process.permission.drop(scope)
    if (process.permission.has(scope)) throw new Error(`${scope} cannot be given up`)
  }
}
