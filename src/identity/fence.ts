// What the keeper that dotfly init starts gives up before it hears from anybody. It has init's user, for it gives files
// to others and the socket may be root's alone; but it parses what comes over a socket and reads what users have left in
// directories, so whoever finds a mistake in it shall have the token files and no more of the Machine.
//
//   Node    its permission model (flags in src/init/tokens.ts): nothing is written by Node's own functions, nothing is
//           started. What changes files are libc's, in src/identity/at.ts and src/os/descriptor.ts.
//   kernel  Landlock: no file is opened but in the directories of tokens and of undici, no program executed, no TCP, no
//           signals.
//   kernel  capabilities: those with which files are given to others, where there are others.
//
// The kernel's walls are this thread's, on which all code of ours runs, and every later thread's. What they leave to
// machine code of an attacker's is owners and modes: Landlock does not hold those, and a file's owner must be changed.

import { lstatSync } from 'node:fs'
import { dirname } from 'node:path'
import { keepCapabilities } from '../os/capabilities.ts'
import { refuseNewRights } from '../os/confine.ts'
import { keepToDirectories } from '../os/landlock.ts'
import { packagesOf } from '../os/self.ts'
import type { Arrangement } from './cloud.ts'
import { FileError, prepareDirectory } from './file.ts'

/** Makes the directories of the plan, and gives up the rest. Returns what tells later whether one of them has become
 * another: Landlock knows a directory, not its name, so only a new process can go on then. */
export function fence({ files, settings }: Pick<Arrangement, 'files' | 'settings'>): () => boolean {
  for (const file of [...settings, ...files]) {
    try {
      prepareDirectory(file)
    } catch (error) {
      if (!(error instanceof FileError)) throw error // it is met again, and said, when the file is to be written
    }
  }
  const directories = [...new Set([...settings, ...files].map(({ path }) => dirname(path)))]
  const before = directories.map(identity)
  refuseNewRights()
  const [uid, gid] = [process.geteuid?.(), process.getegid?.()]
  const given = [...settings, ...files].some((file) => (file.uid ?? uid) !== uid || (file.gid ?? gid) !== gid)
  keepCapabilities(given ? ['dac_override', 'chown', 'fowner'] : ['dac_override'])
  // Those that are not in the flags are given up already; in the single executable, which takes no flags, none is.
  for (const scope of ['fs.write', 'child', 'worker', 'addon', 'wasi', 'inspector']) process.permission?.drop(scope)
  // undici reads its parser when it first connects. Where the kernel has no Landlock, the other two walls stand.
  const packages = packagesOf('undici')
  keepToDirectories({
    read: packages === undefined ? [] : [packages],
    write: directories.filter((_, i) => before[i] !== undefined),
  })
  return () => directories.some((path, i) => identity(path) !== before[i])
}

/** Of a real directory. */
function identity(path: string): string | undefined {
  const found = lstatSync(path, { throwIfNoEntry: false })
  return found?.isDirectory() === true ? `${found.dev}:${found.ino}` : undefined
}
