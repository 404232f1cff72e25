// What strip's WebAssembly finds, against the same in plain JavaScript; and that it is what its text says.

import { closeSync, openSync, readSync } from 'node:fs'
import ffi from 'node:ffi'
import { test } from 'tap'
import createWabt from 'wabt'
import { Dice } from '../../src/canary/credentials.ts'
import { introducers, NUMBERS, PARAMETERS, samples, Scan, SLICE, VECTORS } from '../../src/proxy/scan.ts'
import { secretMemory } from '../../src/proxy/secret.ts'
import { INTRODUCERS } from '../../src/proxy/spellings.ts'
import { assemble } from '../../src/proxy/wasm.ts'

const wabt = await createWabt()

/** The binary that WABT makes of these functions' text. */
function reference(functions: Record<string, string>): Uint8Array {
  const declared = (kind: string, names: string[], type: string): string =>
    names.map((name) => `(${kind} ${name} ${type})`).join(' ')
  const all = Object.entries(functions).map(
    ([name, text]) =>
      `(func (export "${name}") ${declared('param', PARAMETERS, 'i32')} (result i32)
       ${declared('local', NUMBERS, 'i32')} ${declared('local', VECTORS, 'v128')}
       ${text.replaceAll(/offset=\d+/g, '$& align=1')})`,
  )
  return wabt.parseWat('looks.wat', `(module (import "scan" "memory" (memory 0)) ${all.join('\n')})`).toBinary({})
    .buffer
}

test('the assembler makes of the text what WABT makes of it', async (t) => {
  for (const filter of [
    { address: 128, key: 0x9e3779b1, shift: 12 },
    { address: 70_000, key: 1, shift: 31 },
    { address: 2 ** 24, key: -64, shift: 0 },
  ]) {
    const looks = { samples: samples(filter), introducers: introducers(filter.address - 48) }
    t.strictSame(
      Buffer.from(assemble(looks, PARAMETERS, NUMBERS, VECTORS)).toString('hex'),
      Buffer.from(reference(looks)).toString('hex'),
    )
  }
  for (const text of ['i32.divide', 'local.get $nothing', 'i32.const']) {
    const make = (): unknown => new WebAssembly.Module(assemble({ f: text }, PARAMETERS, NUMBERS, VECTORS))
    t.throws(make, text)
  }
})

test('the looks find what a look at every byte finds, in whatever memory and at whatever place', async (t) => {
  const dice = new Dice('scan')
  const size = 3 * SLICE
  const memory = secretMemory(Scan.memory + size + 2048)
  const filter = memory.alloc(1024)
  for (let i = 0; i < filter.length; i++) filter[i] = (1 << dice.below(8)) | (1 << dice.below(8))
  const [key, shift] = [0x9e3779b1, 22]
  const scan = new Scan(memory, { address: filter.byteOffset, key, shift })
  const ours = memory.alloc(size)
  const theirs = Buffer.alloc(size)
  const found: Record<'samples' | 'introducers', number> = { samples: 0, introducers: 0 }

  for (let round = 0; round < 300; round++) {
    const length = dice.below(round % 3 === 0 ? size : 200)
    const place = dice.below(size - length)
    // Here and there an introducer, and every other byte in some rounds.
    const bytes = dice.bytes(size)
    for (let i = 0; i < size; i++) {
      const rare = round % 3 > 0 && dice.below(40) > 0
      ours[i] = rare && INTRODUCERS.includes(bytes[i]!) ? 0x61 : bytes[i]!
    }
    ours.copy(theirs)
    const has = (b: Buffer, i: number): boolean => {
      if (i < 0 || i + 4 > b.length) return false
      const h = Math.imul(b.readInt32LE(i) | 0x20202020, key)
      return ((filter[h >>> shift]! >> (h & 7)) & 1) === 1
    }
    for (const whole of [ours, theirs]) {
      const b = whole.subarray(place, place + length)
      const want = {
        samples: [...b.keys()].filter((i) => i % 8 === 0 && has(b, i) && (has(b, i - 4) || has(b, i + 4))),
        introducers: [...b.keys()].filter((i) => INTRODUCERS.includes(b[i]!)),
      }
      for (const kind of ['samples', 'introducers'] as const) {
        const got: number[] = []
        for (let at = 0; at < b.length; at += SLICE) {
          const n = scan.find(scan[kind], b, at)
          got.push(...scan.found.subarray(0, n))
        }
        found[kind] += want[kind].length
        // A sample beside the first or the last may lie outside of `b`: then it is one too many, which costs time only.
        const extra = got.filter((i) => !want[kind].includes(i))
        const edge = (i: number): boolean => kind === 'samples' && has(b, i) && (i === 0 || i + 8 > b.length)
        t.strictSame(
          want[kind].filter((i) => !got.includes(i)),
          [],
          'none is missed',
        )
        t.ok(
          extra.every((i) => i + 4 > b.length || edge(i)),
          `${kind}: ${extra.join()} of ${b.length}`,
        )
      }
    }
  }
  t.comment(found)
  t.ok(found.samples > 1000)
  t.ok(found.introducers > 1000)
})

/** Whether /proc/self/mem gives, to root, what the process itself reads there. */
function kernelReads(memory: ArrayBuffer): boolean {
  const fd = openSync('/proc/self/mem', 'r')
  try {
    return readSync(fd, Buffer.alloc(64), 0, 64, ffi.getRawPointer(memory)) === 64
  } catch {
    return false
  } finally {
    closeSync(fd)
  }
}

test('the memory that WebAssembly shares is the secret one', async (t) => {
  const hidden = secretMemory(1000)
  const open = secretMemory(1000, false)
  t.notOk(open.secret)
  t.ok(kernelReads(open.memory.buffer), 'ordinary memory can be read, so that the next line can fail')
  if (!hidden.secret) return t.comment('this kernel has no secret memory')
  t.notOk(kernelReads(hidden.memory.buffer))
  t.throws(() => hidden.memory.grow(1), 'it cannot be moved')
  const piece = hidden.alloc(10)
  t.equal(piece.buffer, hidden.memory.buffer)
  t.throws(() => hidden.alloc(1000), 'and is used up')
  return t.end()
})
