// What needs CAP_SYS_ADMIN and no filter in the way: a map of BPF, and a count of page faults of the process in argv[2].
import ffi from 'node:ffi'

const NUMBERS = { x64: { bpf: 321, perf: 298 }, arm64: { bpf: 280, perf: 241 } }[process.arch]
const { functions: libc } = ffi.dlopen(null, {
  syscall: { arguments: ['i64', 'i64', 'i64', 'i64', 'i64', 'i64'], return: 'i64' },
})
const call = (number, ...args) => {
  const [a = 0n, b = 0n, c = 0n, d = 0n, e = 0n] = args.map(BigInt)
  return libc.syscall(BigInt(number), a, b, c, d, e) < 0n ? 'refused' : 'LEAK'
}

/** A map of one number: what any program of BPF begins with. */
export function bpf() {
  const attributes = Buffer.from(Uint32Array.of(2, 4, 4, 1).buffer)
  return call(NUMBERS.bpf, 0, ffi.getRawPointer(attributes), attributes.length)
}

export function perf(pid) {
  const attributes = Buffer.alloc(128)
  attributes.writeUInt32LE(1, 0) // PERF_TYPE_SOFTWARE
  attributes.writeUInt32LE(attributes.length, 4)
  attributes.writeBigUInt64LE(2n, 8) // PERF_COUNT_SW_PAGE_FAULTS
  return call(NUMBERS.perf, ffi.getRawPointer(attributes), pid, -1, -1, 0)
}

if (import.meta.main) console.log(`bpf ${bpf()} perf ${perf(Number(process.argv[2]))}`)
