// Standard output and standard error, as a command of a terminal or a script has them.

import { writeSync } from 'node:fs'

let guarded = false

/** From here on an output that cannot be written ends the process, or does not, as it should. */
export function guardOutput(): void {
  if (guarded) return
  guarded = true
  process.stdout.on('error', notWritten)
  process.stderr.on('error', notWritten)
}

/** A reader that went away, as in `dotfly token | true`, is not our failure. A full disk is: whoever reads the file later
 * must not take a part for the whole. */
function notWritten({ code }: NodeJS.ErrnoException): void {
  if (code === 'EPIPE') return
  try {
    writeSync(2, `dotfly: the output cannot be written (${code ?? 'unknown'}): is the disk full?\n`)
  } finally {
    process.exit(1)
  }
}
