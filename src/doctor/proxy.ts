// Which process serves a socket: a Machine may have several proxies, and what one gives up says nothing of another.

import { closeSync, readdirSync, readFileSync } from 'node:fs'
import { addressOf, dial } from '../os/dial.ts'
import { callerOf } from '../os/peer.ts'

export interface ProxyProcess {
  readonly pid: number
  /** Its launcher. */
  readonly parent: number
}

/** The trusted process behind `socket`. Where that cannot be seen, the first there is; undefined where none can be
 * looked at. */
export function proxyBehind(socket: string): ProxyProcess | undefined {
  const [listener, proxies] = [listenerOf(socket), proxiesHere()]
  return proxies.find(({ pid, parent }) => pid === listener || parent === listener) ?? proxies[0]
}

/** Who called listen(2) last, as the kernel names the peer of one who connects: the process itself, or until it has
 * come up its launcher. */
function listenerOf(path: string): number | undefined {
  const address = addressOf({ path })
  const fd = address === undefined ? -1 : dial(address)
  if (fd < 0) return undefined
  try {
    return callerOf(fd).pid
  } finally {
    closeSync(fd)
  }
}

/** As they are started from source, compiled, and in the single executable: see src/os/self.ts. */
const TRUSTED = /\/proxy\/main\.[jt]s$|\/dotfly\/dist\/proxy\.js$|^--part=proxy\/main$/

function proxiesHere(): ProxyProcess[] {
  return readdirSync('/proc')
    .filter((entry) => /^[1-9][0-9]*$/.test(entry))
    .flatMap((name) => {
      try {
        const argv = readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0')
        if (!argv.some((word) => TRUSTED.test(word))) return []
        const stat = readFileSync(`/proc/${name}/stat`, 'latin1')
        return [{ pid: Number(name), parent: Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) }]
      } catch {
        return [] // it ended while we looked, or is not ours to see
      }
    })
}
