// What else root in the Machine has tried: each by itself, with the defence that it met switched off once.

import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  openSync,
  closeSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'tap'
import { ATTACK, directory, NEEDLE, ROOT, SERVES, startInit } from './support.ts'

const skip = ROOT ? false : 'needs root, as the attacker is'
const has = (program: string): boolean => spawnSync(program, ['--version']).status === 0

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

const BINFMT = /\bbinfmt_misc$/m.test(readFileSync('/proc/filesystems', 'latin1'))
  ? false
  : 'this kernel has no binfmt_misc'

test(
  'a handler of binfmt_misc is not run in place of the proxy',
  { skip: skip === false ? BINFMT : skip },
  async (t) => {
    const at = directory(t)
    mkdirSync(join(at, 'misc'))
    // Handlers are the whole computer's: this one is for one program alone, a Node with a mark where nobody looks.
    const node = join(at, 'node')
    copyFileSync(process.execPath, node)
    chmodSync(node, 0o755)
    const fd = openSync(node, 'r+')
    writeSync(fd, 'dotfly!', 9)
    closeSync(fd)
    const handler = join(at, 'handler')
    writeFileSync(handler, '#!/bin/sh\necho "instead: $(/usr/bin/readlink /proc/$$/fd/3)" >&2\nexec /bin/sleep 100\n', {
      mode: 0o755,
    })
    // F: opened when it is registered, so that it need not be there for whoever executes.
    const script = join(at, 'script')
    const text = `${SERVES}
    mount -t binfmt_misc none ${at}/misc || { echo no mount; exit; }
    printf ':dotfly-test:M:9:dotfly!::${handler}:F' > ${at}/misc/register
    for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline | grep -q '^dotfly.*proxy/main' && kill -9 $(basename $p); done
    sleep 1
    echo -1 > ${at}/misc/dotfly-test
    echo over
    exec sleep 100`
    writeFileSync(script, text) // the log has the command that is run
    for (const off of ['', 'proxy-user']) {
      const init = await startInit(t, {
        node: [],
        before: `shift && exec ${node} "$@"`,
        command: ['sh', script],
        options: off === '' ? [] : ['--no-harden', off],
      })
      // By then it is no handler any more.
      await init.until(/^over$|no mount/m)
      if (init.out().includes('no mount')) {
        t.comment('this kernel lets root mount no binfmt_misc here: nothing is shown')
        return
      }
      if (off === '') {
        t.match(init.log(), /cannot be started \(ENOENT\)/)
        await init.until(/listening[^]*listening/)
        t.notMatch(init.log(), /instead/, 'served again when there is no such handler')
      } else t.match(init.log(), /instead: \/secretmem/, 'negative control: started by its name, it is')
    }
  },
)
