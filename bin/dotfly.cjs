#!/usr/bin/env -S node --no-warnings --max-semi-space-size=1 --v8-pool-size=1 --no-rehash-snapshot
// What npm installs as `dotfly`, in syntax that every Node understands: says which Node is needed, or runs the program.
'use strict'

const { existsSync } = require('node:fs')

const [major = 0, minor = 0, patch = 0] = process.versions.node.split('.').map(Number)
if (!(major > 26 || (major === 26 && (minor > 5 || (minor === 5 && patch >= 1))))) {
  process.stderr.write(
    `dotfly: Node.js ${process.versions.node} is too old, 26.5.1 or later is needed: install it, or run npx --package=node@26 -- node ${__filename}\n`,
  )
  process.exitCode = 1
} else if (existsSync(`${__dirname}/dotfly.ts`)) {
  // A clone has the source and needs no build; the package has no source.
  void import('./dotfly.ts')
} else {
  const { main } = require('../dist/main.cjs')
  process.exitCode = 13 // what Node ends with when nothing is left that could end this
  void main(process.argv.slice(2), process.env).then((code) => (process.exitCode = code))
}
