// `dotfly init` as a program of its own: what bin/dotfly.ts does, without loading the other commands.

import { init } from '../../src/cli/init.ts'
import { Failure, UsageError } from '../../src/errors.ts'

try {
  process.exitCode = await init(process.argv.slice(2), process.env)
} catch (caught) {
  if (!(caught instanceof UsageError || caught instanceof Failure)) throw caught
  process.stderr.write(`dotfly: ${caught.message}\n`)
  process.exitCode = caught instanceof UsageError ? 2 : 1
}
