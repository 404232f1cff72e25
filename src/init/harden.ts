// What init gives up before it starts anything, and what it takes from everybody in the Machine: one named step each,
// in this order, each of which an image that needs it otherwise can turn off by name.

import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dropBounding, within, without } from '../os/capabilities.ts'
import type { Capability } from '../os/capabilities.ts'
import { refuseTracers } from '../os/confine.ts'
import { getLimit, setLimit } from '../os/limits.ts'
import { isRefused, refuse } from '../os/seccomp.ts'
import type { Call } from '../os/seccomp.ts'
import { keepMounts, stopHelpers } from '../os/tree.ts'
import type { Outside } from '../os/tree.ts'
import type { Step } from './steps.ts'

/** Without these root cannot look into another process or the kernel. sys_admin stays: images need it to mount. */
const TAKEN: readonly Capability[] = [
  'sys_module',
  'sys_rawio',
  'sys_ptrace',
  'sys_boot',
  'syslog',
  'perfmon',
  'bpf',
  'checkpoint_restore',
]
/** What the kernel starts is no child of ours: it has none of the filters below, which hold root with CAP_SYS_ADMIN. */
const TAKEN_FROM_HELPERS: readonly Capability[] = [...TAKEN, 'sys_admin']
const HELPERS = ['/proc/sys/kernel/usermodehelper/bset', '/proc/sys/kernel/usermodehelper/inheritable'] as const
/** Programs of both run in the context of any process, and read there what that process alone may read. */
const TRACING: readonly Call[] = ['perf_event_open', 'bpf']
const SWAPPING: readonly Call[] = ['swapon']
const LOCKDOWN = '/sys/kernel/security/lockdown'
const SYSCTLS = { '/proc/sys/kernel/kexec_load_disabled': '1', '/proc/sys/fs/suid_dumpable': '0' } as const

/** Takes the steps that are init's own. Those of the whole machine are taken only where the machine is ours: there is
 * no way back from them. What could not be done is in `faults`, a sentence each: init goes on, and says so. `outside` is
 * how to start what is to see the mounts of the image, and not ours. */
export function harden(steps: ReadonlySet<Step>, machine: boolean): { faults: string[]; outside: Outside } {
  const faults: string[] = []
  let outside: Outside = (run) => run()
  const root = process.geteuid?.() === 0
  const administered = root && someoneAdministers(statusOf(process.pid))
  const take = (step: Step, run: () => void): void => {
    if (!steps.has(step)) return
    try {
      run()
    } catch (error) {
      faults.push(`${step}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  take('dumpable', refuseTracers)
  // The soft limit only: the entrypoint gets its own back, and without CAP_SYS_RESOURCE a lowered hard one is for good.
  take('core', () => setLimit('core', { soft: 0n, hard: getLimit('core').hard }))
  if (machine) {
    // Before the bounding set: these writes need CAP_SYS_MODULE, so that nobody can undo them afterwards.
    take('usermodehelper', () => {
      HELPERS.forEach(maskHelpers)
      // Of a user namespace that root has made they would be root nonetheless, with what is delegated there: since Linux 6.9
      // also BPF.
      stopHelpers()
    })
    take('sysctl', () => {
      for (const [path, value] of Object.entries(SYSCTLS)) if (existsSync(path)) writeFileSync(path, value)
    })
    take('lockdown', () => {
      if (existsSync(LOCKDOWN)) writeFileSync(LOCKDOWN, 'confidentiality')
    })
  }
  take('capabilities', () => {
    if (root) dropBounding(TAKEN)
  })
  // CAP_SYS_ADMIN, which stays, stands in for the capabilities of both. Whoever is not root has neither anyway. The kernel asks
  // each filter at every call: the next step's is in the same.
  let isFiltered = false
  take('tracing', () => {
    if (!root) return
    refuse(administered && steps.has('swap') ? [...TRACING, ...SWAPPING] : TRACING)
    isFiltered = true
  })
  // Pages of init and the proxy would go to a place that root can write to, and come back as it likes.
  take('swap', () => {
    if (administered && !isFiltered) refuse(SWAPPING)
    if (machine && swapped())
      throw new Error('there is swap space already: whoever can write to it has init and the proxy')
  })
  // A user namespace gives its root mounts of its own, and none of ours.
  take('mounts', () => {
    if (administered) outside = keepMounts()
  })
  return { faults, outside }
}

/** Two 32-bit words, low and high; the kernel only ever lets bits be cleared. */
function maskHelpers(path: string): void {
  const [low = 0n, high = 0n] = readFileSync(path, 'utf8').trim().split(/\s+/).map(BigInt)
  const mask = without((high << 32n) | low, TAKEN_FROM_HELPERS)
  writeFileSync(path, `${mask & 0xffff_ffffn} ${mask >> 32n}`)
}

/** One defence of a running Machine, as anybody in it can see it. */
export interface Finding {
  step: Step
  state: 'on' | 'off' | 'unknown'
  /** What was seen, or why it cannot be. */
  because: string
}

/** The hardening of a running Machine, read from /proc by whoever asks. `init` and `proxy` are pids. */
export function hardeningOf(init: number, proxy: number): Finding[] {
  const found = (step: Step, state: boolean | undefined, seen: string, unseen = `${seen} cannot be read`): Finding => ({
    step,
    state: state === undefined ? 'unknown' : state ? 'on' : 'off',
    because: state === undefined ? unseen : seen,
  })
  const proxyStatus = statusOf(proxy)
  const ours = statusOf(process.pid)
  const left = ours.CapBnd === undefined ? undefined : within(BigInt(`0x${ours.CapBnd}`), TAKEN)
  const helpers = HELPERS.map((path) => readIf(path))
  const masked = helpers.every((text) => {
    const [low = 0n, high = 0n] = (text ?? '')
      .trim()
      .split(/\s+/)
      .map((word) => BigInt(word || 0))
    return text !== undefined && within((high << 32n) | low, TAKEN_FROM_HELPERS).length === 0
  })
  const users = new Set(proxyStatus.Uid?.split('\t'))
  const groups = new Set(proxyStatus.Gid?.split('\t'))
  const lockdown = readIf(LOCKDOWN)
  const limits = readIf(`/proc/${init}/limits`)
  const mounts = readIf(`/proc/${proxy}/mountinfo`)
  const unread = 'status of the proxy cannot be read'
  return [
    // The kernel gives the files of an undumpable process in /proc to root, whoever it runs as.
    found(
      'dumpable',
      users.size === 0 || users.has('0') ? undefined : ownerOf(proxy) === 0,
      'owner of the proxy in /proc',
      users.size === 0 ? unread : 'the proxy runs as root, who owns its files in /proc in any case',
    ),
    found(
      'core',
      limits === undefined ? undefined : /^Max core file size\s+0\s/m.test(limits),
      `limits of process ${init}`,
    ),
    found(
      'capabilities',
      left === undefined ? undefined : left.length === 0,
      left === undefined || left.length === 0 ? 'bounding set' : `still there: ${left.join(', ')}`,
    ),
    found('tracing', filtered(ours, 'bpf'), ...SEEN_BY_ROOT),
    found('swap', filtered(ours, 'swapon'), ...SEEN_BY_ROOT),
    found(
      'usermodehelper',
      helpers.includes(undefined) ? undefined : masked && !startsHelpers(),
      'kernel.usermodehelper, mounts of kthreadd',
    ),
    found(
      'sysctl',
      Object.entries(SYSCTLS).every(([path, value]) => (readIf(path) ?? value).trim() === value),
      'kernel.kexec_load_disabled, fs.suid_dumpable',
    ),
    found(
      'lockdown',
      lockdown === undefined ? undefined : lockdown.includes('[confidentiality]'),
      lockdown?.trim() ?? '',
      'this kernel has none, or securityfs is not mounted',
    ),
    someoneAdministers(ours)
      ? found(
          'mounts',
          // The kernel lists those that are in a mount namespace.
          mounts === undefined || readIf('/proc/self/mountinfo') === '' ? undefined : mounts === '',
          'list of mounts of the proxy',
        )
      : found('mounts', true, 'nobody here can mount'),
    found(
      'proxy-user',
      users.size === 0 ? undefined : !users.has('0') && groups.size > 1,
      `uid ${[...users].join(' ')}, gid ${[...groups].join(' ')}`,
      unread,
    ),
    found(
      'new-privileges',
      proxyStatus.NoNewPrivs === undefined ? undefined : proxyStatus.NoNewPrivs === '1',
      'NoNewPrivs of the proxy',
    ),
    found(
      'permission',
      readIf(`/proc/${proxy}/cmdline`)?.split('\0').includes('--permission'),
      'command line of the proxy',
    ),
    found('secret-page', secretMapped(proxy), 'mappings of the proxy'),
  ]
}

/** Not where whoever started us took CAP_SYS_ADMIN from all, as in most containers. */
const someoneAdministers = ({ CapBnd }: Status): boolean =>
  CapBnd === undefined || within(BigInt(`0x${CapBnd}`), ['sys_admin']).length > 0

/** Whether the kernel's threads have a root from which they can start something; where they cannot be seen they are the
 * host's. */
const startsHelpers = (): boolean => readIf('/proc/2/comm') === 'kthreadd\n' && readIf('/proc/2/mountinfo') !== ''

const SEEN_BY_ROOT = ['system call filter of this process', 'only root finds out what its filter refuses'] as const

function filtered({ Seccomp }: Status, call: Call): boolean | undefined {
  return Seccomp === '0' ? false : isRefused(call)
}

/** Behind a line of headings. */
const swapped = (): boolean => (readIf('/proc/swaps') ?? '').trim().includes('\n')

function secretMapped(pid: number): boolean | undefined {
  const maps = readIf(`/proc/${pid}/maps`)
  return maps === undefined || maps === '' ? undefined : maps.includes('secretmem')
}

function ownerOf(pid: number): number | undefined {
  return statSync(`/proc/${pid}/environ`, { throwIfNoEntry: false })?.uid
}

type Status = Partial<Record<string, string>>

function statusOf(pid: number): Status {
  const lines = (readIf(`/proc/${pid}/status`) ?? '').split('\n').map((line) => line.split(':\t'))
  return Object.fromEntries(lines.map(([name = '', value = '']) => [name, value.trim()]))
}

function readIf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined // not there, or not for us: the finding is "unknown"
  }
}
