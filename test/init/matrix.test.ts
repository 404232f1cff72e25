// Who tries × what is tried × which defence is off. What must not be had is not had; and each defence, switched off,
// shows that the attack is real. Attackers run inside the Machine, as children of init: what init dropped they lack.

import { execFileSync } from 'node:child_process'
import { test } from 'tap'
import { ATTACK, NEEDLE, ROOT, SERVES, startInit } from './support.ts'

const skip = ROOT ? (has('python3') ? false : 'needs python3, the attacker') : 'needs root, for a PID namespace'

const ROWS: { attacker: string; becomes: string[]; target: 'init' | 'proxy'; off: string; leaks: string[] }[] = [
  { attacker: 'root', becomes: [], target: 'proxy', off: '', leaks: [] },
  { attacker: 'root', becomes: [], target: 'init', off: '', leaks: [] },
  { attacker: 'root as the proxy user', becomes: ['gid=65532', 'uid=65532'], target: 'proxy', off: '', leaks: [] },
  { attacker: 'root as the other group', becomes: ['gid=65533', 'uid=65532'], target: 'proxy', off: '', leaks: [] },
  { attacker: 'another user', becomes: ['gid=1000', 'uid=1000'], target: 'proxy', off: '', leaks: [] },
  { attacker: 'another user', becomes: ['gid=1000', 'uid=1000'], target: 'init', off: '', leaks: [] },
  // Two groups keep every look-alike out, with a dumpable proxy too …
  {
    attacker: 'root as the proxy user',
    becomes: ['gid=65532', 'uid=65532'],
    target: 'proxy',
    off: 'dumpable',
    leaks: [],
  },
  // … and an undumpable proxy that runs as root keeps out root without CAP_SYS_PTRACE.
  { attacker: 'root', becomes: [], target: 'proxy', off: 'proxy-user', leaks: [] },
  // Each wall taken away: the descriptor of the page is had, or the process itself.
  { attacker: 'root', becomes: [], target: 'proxy', off: 'capabilities', leaks: ['readv', 'descriptors', 'ptrace'] },
  { attacker: 'root', becomes: [], target: 'init', off: 'capabilities', leaks: ['readv', 'descriptors', 'ptrace'] },
  {
    attacker: 'root',
    becomes: [],
    target: 'proxy',
    off: 'proxy-user,dumpable',
    leaks: ['readv', 'descriptors', 'ptrace'],
  },
  { attacker: 'root', becomes: [], target: 'proxy', off: 'secret-page', leaks: [] },
  {
    attacker: 'root',
    becomes: [],
    target: 'proxy',
    off: 'secret-page,capabilities',
    leaks: ['memory', 'readv', 'descriptors', 'ptrace', 'reopen'],
  },
  {
    attacker: 'root',
    becomes: [],
    target: 'proxy',
    off: 'all',
    leaks: ['memory', 'readv', 'descriptors', 'ptrace', 'reopen'],
  },
]

test('attackers and attacks', { skip, timeout: 55_000 }, async (t) => {
  t.jobs = 2
  for (const { attacker, becomes, target, off, leaks } of ROWS) {
    t.test(`${attacker} on ${target}${off === '' ? '' : `, without ${off}`}`, async (t) => {
      const find =
        target === 'init'
          ? 'echo 1'
          : `for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline | grep -q '^dotfly.*proxy/main' && basename $p; done`
      const script = `exec 2>&1; ${SERVES}; python3 ${ATTACK} $(${find}) ${NEEDLE} ${becomes.join(' ')}; echo done`
      const init = await startInit(t, {
        command: ['sh', '-c', script],
        options: off === '' ? [] : ['--no-harden', off],
      })
      await init.ended
      t.match(init.out(), /^done$/m, 'the attacker lived')
      const results = new Map(
        [...init.out().matchAll(/^(memory|readv|descriptors|reopen|environ|ptrace) (\w+)$/gm)].map(
          ([, name, result]) => [name, result],
        ),
      )
      t.equal(results.size, 6, init.out())
      const had = [...results].filter(([, result]) => result === 'leak').map(([name]) => name)
      t.same(new Set(had), new Set(leaks), JSON.stringify([...results]))
    })
  }
})

function has(program: string): boolean {
  try {
    execFileSync(program, ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}
