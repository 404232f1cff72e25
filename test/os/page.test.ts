// Memory for the credential where the kernel does not give what was asked for.

import { spawnSync } from 'node:child_process'
import { test } from 'tap'

const PAGE = JSON.stringify(new URL('../../src/os/page.ts', import.meta.url).href)
const SCRIPT = `import { createPage } from ${PAGE}; console.log(createPage(4096).secret)`
/** Has memfd_secret(2) fail with argv[1], by a filter, and becomes what follows. */
const FAILING = `import ctypes, os, struct, sys
line = lambda code, k, yes=0, no=0: struct.pack("<HBBI", code, yes, no, k)
code = line(0x20, 0) + line(0x15, 447, 0, 1) + line(6, 0x50000 | int(sys.argv[1])) + line(6, 0x7fff0000)
libc, held = ctypes.CDLL(None), ctypes.create_string_buffer(code)
program = struct.pack("<HxxxxxxQ", len(code) // 8, ctypes.addressof(held))
libc.prctl(38, 1, 0, 0, 0)
assert libc.prctl(22, 2, program, 0, 0) == 0
os.execv(sys.argv[2], sys.argv[2:])`

const [ENOSYS, EPERM, ENOMEM, ENFILE, EMFILE] = [38, 1, 12, 23, 24]
const skip = spawnSync('python3', ['--version']).status === 0 ? false : 'needs python3, to have a system call fail'

test('memory is ordinary where the kernel has no other, and not where it has none just now', { skip }, async (t) => {
  const made = (error: number): { status: number | null; stdout: string; stderr: string } =>
    spawnSync(
      'python3',
      [
        '-c',
        FAILING,
        `${error}`,
        process.execPath,
        '--disable-warning=ExperimentalWarning',
        '--input-type=module',
        '-e',
        SCRIPT,
      ],
      { encoding: 'utf8' },
    )
  for (const error of [ENOSYS, EPERM]) t.match(made(error), { status: 0, stdout: 'false\n' })
  // Whoever can bring these about, for a moment, would have the next proxy keep its tables where swap and dumps can be had.
  for (const error of [ENOMEM, ENFILE, EMFILE])
    t.match(made(error), { status: 1, stdout: '', stderr: /no memory for the credential/ })
})
