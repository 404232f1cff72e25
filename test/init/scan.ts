// An attacker's memory scanner: every readable mapping of a process, by /proc/PID/mem.

import { closeSync, openSync, readFileSync, readSync } from 'node:fs'

/** How often `needle` lies in the memory of `pid`; throws where the kernel forbids the look. Pages that cannot be read,
 * such as secret ones, count as empty: `unreadable` says how many mappings had some. */
export function scan(pid: number, needle: Buffer): { copies: number; bytes: number; unreadable: number } {
  const memory = openSync(`/proc/${pid}/mem`, 'r')
  const found = { copies: 0, bytes: 0, unreadable: 0 }
  const chunk = Buffer.alloc(4 << 20)
  try {
    for (const line of readFileSync(`/proc/${pid}/maps`, 'latin1').split('\n')) {
      const [, from, to, rights = ''] = /^([0-9a-f]+)-([0-9a-f]+) (....)/.exec(line) ?? []
      if (from === undefined || to === undefined || !rights.startsWith('r') || line.endsWith('[vvar]')) continue
      const end = BigInt(`0x${to}`)
      let failed = false
      for (let at = BigInt(`0x${from}`); at < end;) {
        const length = Number(end - at < BigInt(chunk.length) ? end - at : BigInt(chunk.length))
        let read = 0
        try {
          read = readSync(memory, chunk, 0, length, at)
        } catch {
          failed = true // a page that the kernel will not touch
        }
        found.bytes += read
        const bytes = chunk.subarray(0, read)
        for (let hit = bytes.indexOf(needle); hit >= 0; hit = bytes.indexOf(needle, hit + 1)) found.copies++
        // The last bytes again, for a copy that lies across; a page forward where nothing could be read.
        at +=
          read > needle.length && read === length && BigInt(read) < end - at
            ? BigInt(read - needle.length)
            : BigInt(read > 0 ? read : 4096)
      }
      if (failed) found.unreadable++
    }
  } finally {
    closeSync(memory)
  }
  return found
}
