// Machines to boot dotfly in: Debian's cloud kernel in QEMU, software emulation, 256 MB, no network but one door to a
// port on this side. Of this computer's own architecture, with its own programs; or of the other one that dotfly knows,
// with programs that apt-get and npm bring, only unpacked.

import { execFileSync, spawn } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const CACHE = process.env['DOTFLY_VM_CACHE'] ?? join(ROOT, '.dotfly', 'vm')
const RUN_LIMIT = 180_000 // ms

export interface Kind {
  /** As Node calls it. */
  readonly arch: 'x64' | 'arm64'
  readonly debian: string
  readonly emulator: string
  readonly options: readonly string[]
  readonly console: string
}

export const X64: Kind = {
  arch: 'x64',
  debian: 'amd64',
  emulator: 'qemu-system-x86_64',
  options: ['-cpu', 'max'],
  console: 'ttyS0',
}

export const ARM64: Kind = {
  arch: 'arm64',
  debian: 'arm64',
  emulator: 'qemu-system-aarch64',
  // Pointers are signed by an algorithm of QEMU's own: the real one takes half of all the time.
  options: ['-machine', 'virt', '-cpu', 'max,pauth-impdef=on'],
  console: 'ttyAMA0',
}

/** A disk in the making, and what boots it. */
export interface Image {
  readonly kind: Kind
  /** The unpacked kernel: boot/vmlinuz-… and lib/modules/…. */
  readonly kernel: string
  readonly initrd: string
  readonly root: string
  readonly file: string
}

export interface Boot {
  /** What came on the console. */
  text: string
  /** ms from power-on to the entrypoint's announcement. */
  firstLine: number
}

/** An image with Node, busybox, dotfly's source and what it imports; with curl where it is this computer's. */
export function buildImage(kind: Kind, directory: string): Image {
  const kernel = unpackKernel(kind)
  const root = join(directory, kind.arch)
  for (const name of ['bin', 'tmp', 'etc', 'dotfly', 'proc', 'sys', 'dev', 'run', 'fly'])
    mkdirSync(join(root, name), { recursive: true })
  const busybox = kind.arch === process.arch ? addOwn(root) : addForeign(kind, root)
  cpSync(busybox, join(root, 'bin/busybox'))
  for (const name of ['sh', 'id', 'sleep', 'kill', 'cat', 'dd', 'grep'])
    execFileSync('ln', ['-s', 'busybox', join(root, 'bin', name)])
  cpSync(join(ROOT, 'src'), join(root, 'dotfly/src'), { recursive: true })
  cpSync(join(ROOT, 'test/init/main.ts'), join(root, 'dotfly/test/init/main.ts'))
  cpSync(join(ROOT, 'package.json'), join(root, 'dotfly/package.json'))
  for (const path of execFileSync('npm', ['ls', '--all', '--omit=dev', '--parseable'], {
    cwd: ROOT,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  }).split('\n')) {
    const [, inside] = /\/(node_modules\/.+)$/.exec(path) ?? []
    if (inside !== undefined) cpSync(path, join(root, 'dotfly', inside), { recursive: true })
  }
  cpSync(join(modules(kernel), 'drivers/virtio/virtio_balloon.ko'), join(root, 'virtio_balloon.ko'))
  const initrd = buildInitrd(join(directory, `${kind.arch}-initrd`), kernel, busybox)
  return { kind, kernel, initrd, root, file: join(directory, `${kind.arch}.ext4`) }
}

/** An image with busybox and nothing besides, of this computer's architecture, and no disk in memory before it. */
export function emptyImage(kind: Kind, directory: string): Image {
  const root = join(directory, 'single')
  for (const name of ['bin', 'proc', 'sys', 'dev', 'run', 'tmp', 'fly'])
    mkdirSync(join(root, name), { recursive: true })
  cpSync('/usr/bin/busybox', join(root, 'bin/busybox'))
  for (const name of ['sh', 'id']) execFileSync('ln', ['-s', 'busybox', join(root, 'bin', name)])
  return { kind, kernel: unpackKernel(kind), initrd: '', root, file: join(directory, 'single.ext4') }
}

/** Makes the disk, and runs the machine until it goes off. `append` goes to the kernel's command line; `port`, on this
 * side, is where the door at 10.0.2.100:4280 leads to: there is none without it. Killed after RUN_LIMIT. */
export async function power(image: Image, name: string, append: readonly string[], port?: number): Promise<Boot> {
  const { kind, kernel, initrd, root, file } = image
  rmSync(file, { force: true })
  execFileSync('mkfs.ext4', ['-q', '-O', '^has_journal', '-d', root, file, '400M'], { stdio: 'ignore' })
  const [vmlinuz = ''] = readdirSync(join(kernel, 'boot')).filter((entry) => entry.startsWith('vmlinuz'))
  const door = `user,id=n,restrict=on,guestfwd=tcp:10.0.2.100:4280-cmd:busybox nc 127.0.0.1 ${port}`
  const network = port === undefined ? [] : ['-netdev', door, '-device', 'virtio-net-pci,netdev=n,romfile=']
  process.stdout.write(`# ${kind.arch}: ${name}\n`)
  const began = performance.now()
  const qemu = spawn(
    kind.emulator,
    [
      '-accel',
      // With a thread for each processor the code that V8 writes is now and then run before it is there: one boot of
      // Node in eight ended in a segmentation fault or `Check failed: it->second.Size() > offset`, and none of eight with one thread.
      'tcg,thread=single',
      ...kind.options,
      '-smp',
      '2',
      '-m',
      '256',
      '-nographic',
      '-no-reboot',
      '-nodefaults',
      '-serial',
      'stdio',
      '-kernel',
      join(kernel, 'boot', vmlinuz),
      ...(initrd === '' ? [] : ['-initrd', initrd]),
      '-append',
      [`console=${kind.console} quiet panic=-1 secretmem.enable=1 mitigations=off`, ...append].join(' '),
      '-drive',
      `file=${file},format=raw,if=none,id=d,cache=unsafe`,
      '-device',
      'nvme,drive=d,serial=d',
      ...network,
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  )
  let text = ''
  let firstLine = Number.POSITIVE_INFINITY
  qemu.stdout.setEncoding('utf8').on('data', (more: string) => {
    text += more
    if (firstLine === Number.POSITIVE_INFINITY && text.includes('Preparing to run'))
      firstLine = performance.now() - began
  })
  qemu.stderr.setEncoding('utf8').on('data', (more: string) => (text += more))
  const late = setTimeout(() => qemu.kill('SIGKILL'), RUN_LIMIT)
  await new Promise((resolve) => qemu.on('close', resolve))
  clearTimeout(late)
  process.stdout.write(`# ${((performance.now() - began) / 1000).toFixed(1)} s in all\n`)
  if (process.env['DOTFLY_VM_CONSOLE'] !== undefined) process.stdout.write(text.replace(/^/gm, '#   '))
  return { text, firstLine }
}

/** This computer's Node and curl with their libraries; gives its busybox. */
function addOwn(root: string): string {
  const add = (program: string, to: string): void => {
    const real = realpathSync(program)
    cpSync(real, join(root, to))
    for (const [, library = ''] of execFileSync('ldd', [real], { encoding: 'utf8' }).matchAll(/(\/\S+) \(0x/g)) {
      mkdirSync(join(root, dirname(library)), { recursive: true })
      cpSync(realpathSync(library), join(root, library))
    }
  }
  add(process.execPath, 'dotfly/node')
  execFileSync('strip', ['-s', join(root, 'dotfly/node')])
  add('/usr/bin/curl', 'bin/curl')
  return '/usr/bin/busybox'
}

/** The same version of Node for another architecture, with its libraries; gives that architecture's busybox. */
function addForeign(kind: Kind, root: string): string {
  const from = join(CACHE, kind.arch, 'root')
  if (!existsSync(from)) {
    const packages = ['busybox-static', 'libc6', 'libstdc++6', 'libgcc-s1', 'libatomic1']
    for (const deb of download(kind, join(CACHE, kind.arch, 'packages'), packages))
      execFileSync('dpkg-deb', ['-x', deb, from])
  }
  const node = join(CACHE, kind.arch, process.version, 'package/bin/node')
  if (!existsSync(node)) {
    const to = join(CACHE, kind.arch, process.version)
    mkdirSync(to, { recursive: true })
    const name = `node-linux-${kind.arch}@${process.version.slice(1)}`
    const packed = execFileSync('npm', ['pack', '--silent', name], { cwd: to, encoding: 'utf8' }).trim()
    execFileSync('tar', ['-xzf', packed], { cwd: to })
  }
  cpSync(node, join(root, 'dotfly/node'))
  mkdirSync(join(root, 'lib'))
  for (const path of readdirSync(from, { recursive: true, encoding: 'utf8' }))
    if (/\/[^/]+-linux-gnu\/[^/]+\.so\.\d+$/.test(path))
      cpSync(realpathSync(join(from, path)), join(root, 'lib', basename(path)))
  return join(from, 'bin/busybox')
}

/** boot/vmlinuz-… and lib/modules/…, of the kernel that Debian has now. */
function unpackKernel(kind: Kind): string {
  const root = join(CACHE, kind.arch, 'kernel')
  if (!existsSync(join(root, 'boot'))) {
    const text = apt(kind, 'apt-cache', ['depends', `linux-image-cloud-${kind.debian}`])
    const name = /Depends: (linux-image-[^\s:]+)/.exec(text)?.[1]
    if (name === undefined) throw new Error('apt knows no cloud kernel: apt-get update')
    for (const deb of download(kind, join(CACHE, kind.arch, 'kernel-package'), [name]))
      execFileSync('dpkg-deb', ['-x', deb, root])
  }
  return root
}

function download(kind: Kind, to: string, packages: readonly string[]): string[] {
  rmSync(to, { recursive: true, force: true })
  mkdirSync(to, { recursive: true })
  apt(kind, 'apt-get', ['download', '-qq', ...packages], to)
  return readdirSync(to).map((name) => join(to, name))
}

/** Runs a program of apt's, for another architecture with lists of its own: nothing of this computer's changes. */
function apt(kind: Kind, program: string, words: readonly string[], cwd = CACHE): string {
  mkdirSync(CACHE, { recursive: true })
  const run = (what: string, its: readonly string[], env: NodeJS.ProcessEnv): string =>
    execFileSync(what, its, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], env })
  if (kind.arch === process.arch) return run(program, words, process.env)
  const own = join(CACHE, kind.arch, 'apt')
  const env = { ...process.env, APT_CONFIG: join(own, 'apt.conf') }
  if (!existsSync(own)) {
    for (const name of ['lists/partial', 'cache/archives/partial']) mkdirSync(join(own, name), { recursive: true })
    const lines = [
      `APT::Architecture "${kind.debian}";`,
      `APT::Architectures { "${kind.debian}"; };`,
      `Dir::State::status "/dev/null";`,
      `Dir::State::lists "${own}/lists";`,
      `Dir::Cache "${own}/cache";`,
    ]
    writeFileSync(env.APT_CONFIG, `${lines.join('\n')}\n`)
    run('apt-get', ['update', '-qq'], env)
  }
  return run(program, words, env)
}

const modules = (kernel: string): string => {
  const [version = ''] = readdirSync(join(kernel, 'lib/modules'))
  return join(kernel, 'lib/modules', version, 'kernel')
}

/** Loads what the network needs, and vsock, and hands the real root to dotfly as PID 1. */
function buildInitrd(root: string, kernel: string, busybox: string): string {
  for (const name of ['bin', 'dev', 'proc', 'root', 'mod']) mkdirSync(join(root, name), { recursive: true })
  cpSync(busybox, join(root, 'bin', 'busybox'))
  const drivers = [
    'drivers/virtio/virtio_ring',
    'drivers/virtio/virtio',
    'drivers/virtio/virtio_pci_legacy_dev',
    'drivers/virtio/virtio_pci_modern_dev',
    'drivers/virtio/virtio_pci',
    'net/core/failover',
    'drivers/net/net_failover',
    'drivers/net/virtio_net',
    'net/vmw_vsock/vsock',
    'net/vmw_vsock/vmw_vsock_virtio_transport_common',
    'net/vmw_vsock/vsock_loopback',
  ]
  const names = drivers.map((path) => path.slice(path.lastIndexOf('/') + 1))
  for (const [i, path] of drivers.entries())
    cpSync(join(modules(kernel), `${path}.ko`), join(root, 'mod', `${names[i]}.ko`))
  writeFileSync(
    join(root, 'init'),
    `#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
for m in ${names.join(' ')}; do /bin/busybox insmod /mod/$m.ko; done
/bin/busybox ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
/bin/busybox mount -t ext4 /dev/nvme0n1 /root
/bin/busybox umount /proc
exec /bin/busybox switch_root /root /dotfly/init
`,
    { mode: 0o755 },
  )
  const file = `${root}.cpio`
  execFileSync('sh', ['-c', `cd ${root} && find . | busybox cpio -o -H newc > ${file} 2>/dev/null`])
  return file
}
