// How a command ends when it cannot do its work. Messages follow one rule: lower case, no full stop, and the next
// step if there is one. The name of the program is put before them in one place, src/cli/main.ts.

/** The command line or an environment variable is wrong: exit code 2. */
export class UsageError extends Error {
  override name = 'UsageError'
}

/** The command was understood and could not be done: exit code 1. */
export class Failure extends Error {
  override name = 'Failure'
}

/** What a caught value says, for a message. Node's own errors carry no secret: they name paths and system calls. */
export const reason = (caught: unknown): string => (caught instanceof Error ? caught.message : String(caught))

/** Why a file that somebody named cannot be read, to go on after its name. */
export function unreadable(caught: unknown): string {
  const code = caught instanceof Error && 'code' in caught ? String(caught.code) : reason(caught)
  return code === 'ENOENT' ? 'does not exist' : code === 'EISDIR' ? 'is a directory' : `cannot be read (${code})`
}
