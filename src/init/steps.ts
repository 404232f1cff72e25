// The defences of a Machine, by the names that --no-harden takes.

import { LaunchError } from './error.ts'

export const STEPS = {
  dumpable: 'no core dump of init or the proxy, and no tracer without CAP_SYS_PTRACE',
  core: 'core dump limit 0 for init and the proxy; the entrypoint keeps its own',
  capabilities: 'root in the Machine loses ptrace, module, rawio, boot, perfmon, bpf, syslog and checkpoint_restore',
  tracing:
    'no bpf(2) and no perf_event_open(2), whose programs run inside any process; an image that runs containers needs them',
  swap: 'no swapon(2): whoever can write to swap space changes what any process has in memory',
  usermodehelper: 'the kernel starts no program itself, such as the one of core_pattern, request-key or modprobe',
  sysctl: 'no kexec, and no dump of programs that changed user',
  lockdown: 'kernel lockdown in mode confidentiality: no kprobe, no /proc/kcore',
  mounts: 'init and the proxy see the files as mounted before the entrypoint: nobody mounts over what they run',
  'proxy-user': 'the proxy runs as a user of its own that nobody can pass for',
  'new-privileges': 'the proxy gains no rights by exec',
  permission: "Node's permission model for the proxy",
  'secret-page': 'the credential in memory that the kernel itself cannot read',
} as const
export type Step = keyof typeof STEPS

const isStep = (word: string): word is Step => Object.hasOwn(STEPS, word)
export const STEP_NAMES: readonly Step[] = Object.keys(STEPS).filter(isStep)

/** All steps but those named, as `--no-harden=NAME,…|all` gives them. Throws a LaunchError that lists the names. */
export function stepsWithout(words: readonly string[]): ReadonlySet<Step> {
  if (words.includes('all')) return new Set()
  for (const word of words) {
    if (!isStep(word)) {
      throw new LaunchError(`--no-harden knows no step ${JSON.stringify(word)}: use ${STEP_NAMES.join(', ')} or all`)
    }
  }
  return new Set(STEP_NAMES.filter((name) => !words.includes(name)))
}
