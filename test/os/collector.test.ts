// What the kernel and libuv hold addresses of, the collector knows nothing of: here it runs as often as it can.

import { spawnSync } from 'node:child_process'
import { test } from 'tap'

const at = (path: string): string => JSON.stringify(new URL(`../../src/os/${path}`, import.meta.url).href)

function run(script: string): { status: number | null; signal: string | null; stdout: string; stderr: string } {
  const { status, signal, stdout, stderr } = spawnSync(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', '--expose-gc', '--gc-interval=50', '--input-type=module', '-e', script],
    { encoding: 'utf8', env: {} },
  )
  return { status, signal, stdout, stderr }
}

const GOOD = { status: 0, signal: null, stderr: '' }

test('the words and the environment of a child outlive a collection', (t) => {
  const script = `
    import { spawn, pipe } from ${at('spawn.ts')}
    import { reap } from ${at('wait.ts')}
    import { closeSync, openSync, readFileSync } from 'node:fs'
    const opened = openSync('/bin/sh')
    for (let i = 0; i < 40; i++) {
      const { read, write } = pipe()
      // Of every length, for a short one might lie elsewhere than a long one.
      const words = Array.from({ length: i }, (_, n) => 'é'.repeat(n) + i)
      const argv = ['sh', '-c', 'printf "%s\\\\n" "$@" "$V"', 'sh', ...words]
      const how = i % 2 === 0 ? {} : { opened }
      const started = spawn({ file: '/bin/sh', ...how, argv, env: ['V=' + 'v'.repeat(i * 100)], files: [0, write, 2] })
      closeSync(write)
      const said = readFileSync(read, 'utf8')
      closeSync(read)
      if (said !== [...words, 'v'.repeat(i * 100), ''].join('\\n')) throw new Error(said)
      while (reap(started.pid) === 'none yet');
    }
    console.log('all')`
  t.match(run(script), { ...GOOD, stdout: 'all\n' })
  t.end()
})

test('a watcher of real-time signals does too', (t) => {
  const script = `
    import { listen, send } from ${at('signals.ts')}
    const heard = []
    const stays = setInterval(() => undefined, 1000)
    listen([35, 36, 64], (signal) => {
      heard.push(signal)
      if (heard.length === 90) {
        clearInterval(stays)
        console.log(heard.filter((one) => one === 64).length)
      } else next()
    })
    function next() {
      globalThis.gc()
      for (let i = 0; i < 100; i++) Buffer.alloc(200).fill(255) // where the handle would have been
      send(process.pid, [35, 36, 64][heard.length % 3])
    }
    next()`
  t.match(run(script), { ...GOOD, stdout: '30\n' })
  t.end()
})

const root = process.geteuid?.() === 0 ? false : 'needs root'

test('and the filter of system calls is whole: what it refuses, and nothing else', { skip: root }, (t) => {
  const script = `
    import ffi from 'node:ffi'
    import { isRefused, refuse } from ${at('seccomp.ts')}
    import { errno, errnoName } from ${at('errno.ts')}
    const { functions: libc } = ffi.dlopen(null, { syscall: { arguments: ['i64', 'i64', 'i64', 'i64'], return: 'i64' } })
    // perf_event_open, bpf and swapon; and another table of numbers, that of x32 programs.
    const calls = process.arch === 'x64' ? [298n, 321n, 167n, 0x40000000n + 321n] : [241n, 280n, 224n]
    const say = (number) => libc.syscall(number, 999n, 0n, 0n) < 0n && errnoName(errno())
    const [, bpf, swapon] = calls
    console.log(say(bpf), say(swapon), isRefused('swapon'))
    refuse(['perf_event_open', 'bpf'])
    console.log(say(bpf), say(swapon), isRefused('swapon'))
    refuse(['swapon'])
    console.log(...calls.map(say), isRefused('bpf'), isRefused('swapon'))
    console.log(libc.syscall(process.arch === 'x64' ? 39n : 172n, 0n, 0n, 0n) === BigInt(process.pid))`
  // Some kernels, and whoever runs this in a container, refuse them themselves.
  const before = '(?:EINVAL|EPERM) (?:EFAULT|EPERM) (?:true|false)'
  const after = 'EPERM (?:EFAULT|EPERM) (?:true|false)'
  const refused = process.arch === 'x64' ? 'EPERM EPERM EPERM EPERM' : 'EPERM EPERM EPERM'
  t.match(run(script), {
    ...GOOD,
    stdout: new RegExp(`^${before}\\n${after}\\n${refused} true true\\ntrue\\n$`),
  })
  t.end()
})

test('a Buffer of which only the address is known is collected', (t) => {
  const script = `
    import ffi from 'node:ffi'
    let weak
    const address = (() => {
      const buffer = Buffer.allocUnsafeSlow(4096)
      weak = new WeakRef(buffer)
      return ffi.getRawPointer(buffer)
    })()
    setImmediate(() => {
      globalThis.gc()
      console.log(address > 0n, weak.deref())
    })`
  t.match(run(script), { ...GOOD, stdout: 'true undefined\n' }, 'the control of these tests')
  t.end()
})
