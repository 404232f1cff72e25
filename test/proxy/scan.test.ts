// What strip's WebAssembly finds, against the same in plain JavaScript; and that it is what its text says.

import { closeSync, openSync, readSync } from 'node:fs'
import ffi from 'node:ffi'
import { test } from 'tap'
import createWabt from 'wabt'
import { Dice } from '../../src/canary/credentials.ts'
import { look, NUMBERS, PARAMETERS, Scan, SLICE, VECTORS } from '../../src/proxy/scan.ts'
import { secretMemory } from '../../src/proxy/secret.ts'
import { INTRODUCERS } from '../../src/proxy/spellings.ts'
import { assemble } from '../../src/proxy/wasm.ts'

const wabt = await createWabt()

/** The binary that WABT makes of this text. */
function reference(text: string): Uint8Array {
  const declared = (kind: string, names: string[], type: string): string =>
    names.map((name) => `(${kind} ${name} ${type})`).join(' ')
  const module = `(module (import "scan" "memory" (memory 0))
    (func (export "look") ${declared('param', PARAMETERS, 'i32')} (result i32)
      ${declared('local', NUMBERS, 'i32')} ${declared('local', VECTORS, 'v128')}
      ${text.replaceAll(/offset=\d+/g, '$& align=1')}))`
  return wabt.parseWat('look.wat', module, { relaxed_simd: true }).toBinary({}).buffer
}

test('the assembler makes of the text what WABT makes of it', async (t) => {
  for (const filter of [
    { raw: 128, escaped: 80, key: 0x9e3779b1, shift: 12 },
    { raw: 70_000, escaped: 2 ** 24, key: 1, shift: 31 },
    { raw: 2 ** 24, escaped: 256, key: -64, shift: 0 },
  ]) {
    for (const tables of [filter.raw - 48, 2 ** 20]) {
      const text = look(filter, tables, tables + 1234)
      t.strictSame(
        Buffer.from(assemble(text, PARAMETERS, NUMBERS, VECTORS)).toString('hex'),
        Buffer.from(reference(text)).toString('hex'),
      )
    }
  }
  for (const text of ['i32.divide', 'local.get $nothing', 'i32.const']) {
    const make = (): unknown => new WebAssembly.Module(assemble(text, PARAMETERS, NUMBERS, VECTORS))
    t.throws(make, text)
  }
})

test('the look finds what a look at every byte finds, in whatever memory and at whatever place', async (t) => {
  const dice = new Dice('scan')
  const size = 3 * SLICE
  const memory = secretMemory(Scan.memory + size + 4096)
  const [key, shift] = [0x9e3779b1, 22]
  const [raw, escaped] = [memory.alloc(1024), memory.alloc(1024)]
  for (let i = 0; i < raw.length; i++) {
    raw[i] = (1 << dice.below(8)) | (1 << dice.below(8))
    escaped[i] = raw[i]! | (1 << dice.below(8))
  }
  const scan = new Scan(memory, { raw: raw.byteOffset, escaped: escaped.byteOffset, key, shift })
  const ours = memory.alloc(size)
  const theirs = Buffer.alloc(size)
  let [samples, told, untold, stopped] = [0, 0, 0, 0]

  for (let round = 0; round < 300; round++) {
    const length = dice.below(round % 3 === 0 ? size : 200)
    const place = dice.below(size - length)
    // Here and there an introducer, and every other byte in some rounds.
    const bytes = dice.bytes(size)
    for (let i = 0; i < size; i++) {
      const rare = round % 3 > 0 && dice.below(40) > 0
      ours[i] = rare && INTRODUCERS.includes(bytes[i]!) ? 0x61 : bytes[i]!
      if (round % 3 === 0 && dice.below(8) === 0) ours[i] = INTRODUCERS[dice.below(8)]!
    }
    ours.copy(theirs)
    for (const whole of [ours, theirs]) {
      const b = whole.subarray(place, place + length)
      const has = (bits: Buffer, i: number): boolean => {
        if (i < 0 || i + 4 > b.length) return false
        const h = Math.imul(b.readInt32LE(i) | 0x20202020, key)
        return (bits[h >>> shift]! & h & 255) === 0
      }
      /** Whether nothing can be behind this introducer. */
      const isIdle = (i: number): boolean => {
        const behind = b[i] === 0x0d && b[i + 1] === 0x0a ? i + 2 : i + 1
        const after = b.subarray(behind, behind + 4)
        const isPlain = [0x0a, 0x0d, 0, 0x3b].includes(b[i]!)
        return (
          isPlain &&
          after.length === 4 &&
          !has(escaped, i - 4) &&
          !has(escaped, behind) &&
          !INTRODUCERS.some((c) => after.includes(c))
        )
      }
      const keys = [...b.keys()]
      const sampled = keys.filter((i) => i % 8 === 0 && has(raw, i) && (has(raw, i - 4) || has(raw, i + 4)))
      const introduced = keys.filter((i) => INTRODUCERS.includes(b[i]!))
      const wanted = introduced.filter((i) => !isIdle(i))
      const got: number[] = []
      for (let at = 0; at < b.length; at = scan.next) {
        got.push(...scan.found.subarray(0, scan.look(b, at)))
        if (whole === ours && scan.next < b.length) stopped++
      }
      const placesOf = (kind: number): number[] => got.filter((what) => (what & 1) === kind).map((what) => what >> 1)
      const places = { samples: placesOf(0), introducers: placesOf(1) }
      t.strictSame(
        sampled.filter((i) => !places.samples.includes(i)),
        [],
        'no sample is missed',
      )
      t.strictSame(
        wanted.filter((i) => !places.introducers.includes(i)),
        [],
        'no introducer is missed',
      )
      // Beside the first or the last of `b` there may be one too many, which costs time only.
      const more = places.samples.filter((i) => !sampled.includes(i))
      t.ok(
        more.every((i) => i + 4 > b.length || (has(raw, i) && (i === 0 || i + 8 > b.length))),
        `samples: ${more.join()} of ${b.length}`,
      )
      const others = places.introducers.filter((i) => !wanted.includes(i))
      t.ok(
        others.every((i) => i >= b.length || (introduced.includes(i) && (i < 4 || i + 6 >= b.length))),
        `introducers: ${others.join()} of ${b.length}`,
      )
      samples += sampled.length
      told += wanted.length
      untold += introduced.length - wanted.length
    }
  }
  t.comment({ samples, told, untold, stopped })
  for (const n of [samples, told, untold]) t.ok(n > 1000)
  t.ok(stopped > 10, 'and where it has found much it stops, and goes on from there')
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
