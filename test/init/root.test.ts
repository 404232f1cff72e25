// What else root in the Machine has tried: each by itself, with the defence that it met switched off once.

import { spawnSync } from 'node:child_process'
import { test } from 'tap'
import { fileURLToPath } from 'node:url'
import { CREDENTIAL } from '../support/corpus.ts'
import { ROOT, SERVES, startInit } from './support.ts'

const skip = ROOT ? false : 'needs root, as the attacker is'
const has = (program: string): boolean => spawnSync(program, ['--version']).status === 0
const ATTACK = fileURLToPath(new URL('attack.py', import.meta.url))
const NEEDLE = Buffer.from(CREDENTIAL.slice(-40)).toString('hex')

test(
  'capabilities that init was handed to inherit are no way around the bounding set',
  { skip: skip === false ? !has('python3') || !has('setpriv') : skip },
  async (t) => {
    // As some runtimes of containers hand them down: what root executes gets them, bounded or not.
    const before = 'exec setpriv --inh-caps=+sys_ptrace,+bpf "$@"'
    for (const [off, result] of [
      ['', 'EPERM'],
      ['capabilities', 'leak'],
    ] as const) {
      const init = await startInit(t, {
        before,
        command: ['sh', '-c', `exec 2>&1; ${SERVES}; python3 ${ATTACK} 1 ${NEEDLE}; grep CapInh /proc/self/status`],
        options: off === '' ? [] : ['--no-harden', off],
      })
      await init.ended
      t.match(init.out(), new RegExp(`^ptrace ${result}$`, 'm'), init.log())
      t.match(init.out(), off === '' ? /^CapInh:\s+0+$/m : /^CapInh:\s+0*8000080000$/m)
    }
  },
)
