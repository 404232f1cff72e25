// The look that strip takes at all bytes of an answer, in WebAssembly: at 64 bytes at once, many times as fast as
// JavaScript. It only says where strip.ts has to look closer: a place too many costs time, one too few would be a leak.

import { allocNumbers } from './secret.ts'
import type { SecretMemory } from './secret.ts'
import { INTRODUCERS } from './spellings.ts'
import { assemble } from './wasm.ts'

/** Bytes looked at in one call, of what lies elsewhere. */
export const SLICE = 4096
/** After as many a look stops, at the end of the 64 bytes that it is at: there is room for what these may hold of each
 *  kind, and for where it stopped. */
const ENOUGH = 1024
const ROOM = ENOUGH + 64 + 8 + 1
/** Bytes behind an introducer that say whether it is told. */
const BEHIND = 6
/** Bytes that a look may touch before and behind what it is to look at. */
const MARGIN = 128

/** Looks at the bytes of the memory from `from` to `end`, writes what it found from `out` on, and gives where that ends:
 *  each a place, less `base`, times 2, and one more where an introducer stands. There may be a few behind `end`. Behind
 *  the last stands where it stopped, less `base`. From `sure` on every introducer is told: what stands behind it is not
 *  all there. */
type Look = (from: number, end: number, out: number, base: number, sure: number) => number
export const PARAMETERS = ['$from', '$end', '$out', '$base', '$sure']
export const NUMBERS = ['$at', '$hash', '$ones', '$before', '$after']
export const VECTORS = ['$bytes', '$which', '$half', '$other']

const tell = (place: string, kind: 0 | 1): string => `
  local.get $out
  ${place}  local.get $base  i32.sub  i32.const 1  i32.shl  i32.const ${kind}  i32.or  i32.store offset=0
  local.get $out  i32.const 4  i32.add  local.set $out`
/** Goes on by `size`, as long as that is below `end`. */
const next = (local: string, size: number, end: string): string =>
  `local.get ${local}  i32.const ${size}  i32.add  local.tee ${local}  ${end}  i32.lt_u  br_if 0`

/** Byte `h >>> shift`, from `raw` or `escaped` on, is that of all grams whose product with `key` is h. It is one of ours,
 *  or looks like one, where none of the bits that h has is left in it. */
export interface Filter {
  readonly raw: number
  readonly escaped: number
  readonly key: number
  readonly shift: number
}

/** Finds every eighth gram of 4 bytes, in either case, that is one of `raw`, where one of the two beside it is, too;
 *  and every one of INTRODUCERS, but those of PLAIN where the grams before and behind it are raw bytes and none of
 *  `escaped`: of most line breaks nothing else is to be known. In `tables` stands, by its lower half, which of
 *  INTRODUCERS a byte would have to be; then a mask for that half; then the one that shares its lower half. It stops
 *  where it has written to `full`. */
export function look({ raw, escaped, key, shift }: Filter, tables: number, full: number): string {
  // A byte, 0 where it is one. The product of eight is 0 where one of them is, and only there: 64 bits hold 255 to the eighth.
  const gram = (bits: number, at: string, offset: number): string => `
    local.get ${at}  i32.load offset=${offset}  i32.const 0x20202020  i32.or  i32.const ${key | 0}  i32.mul
    local.tee $hash  i32.const ${shift}  i32.shr_u  i32.load8_u offset=${bits}
    local.get $hash  i32.and`
  // All ones where there is one. Where no index is above 15, a relaxed swizzle is as strict as any, and one instruction less.
  const introducers = (at: string, offset: number): string => `
    local.get $which  local.get ${at}  v128.load offset=${offset}  local.tee $bytes  local.get $half  v128.and
    i8x16.relaxed_swizzle  local.get $bytes  i8x16.eq
    local.get $bytes  local.get $other  i8x16.eq  v128.or`
  const all = (size: number, or: string, one: (offset: number) => string): string =>
    Array.from({ length: 64 / size }, (_, i) => `${one(size * i)} ${i > 0 ? or : ''}`).join(' ')
  const stopIfFull = `
    local.get $out  i32.const ${full}  i32.ge_u
    if
      local.get $from  local.set $end
    end`
  // The tables are read, not written out: V8 would make such constants anew each time they are used.
  return `
    i32.const ${tables}  v128.load offset=0  local.set $which
    i32.const ${tables}  v128.load offset=16  local.set $half
    i32.const ${tables}  v128.load offset=32  local.set $other
    loop
      ${all(8, 'i64.mul', (offset) => `${gram(raw, '$from', offset)}  i64.extend_i32_u`)}  i64.eqz
      if
        local.get $from  i32.const 4  i32.sub  local.set $at
        loop
          ${gram(raw, '$at', 4)}  i32.eqz
          if
            ${gram(raw, '$at', 0)} ${gram(raw, '$at', 8)} i32.mul  i32.eqz
            if
              ${tell('local.get $at  i32.const 4  i32.add', 0)}
            end
          end
          ${next('$at', 8, 'local.get $from  i32.const 60  i32.add')}
        end
        ${stopIfFull}
      end
      ${all(16, 'v128.or', (offset) => introducers('$from', offset))}  i8x16.bitmask
      if
        local.get $from  local.set $at
        loop
          ${introducers('$at', 0)}  i8x16.bitmask  local.tee $ones
          if
            loop
              local.get $at  local.get $ones  i32.ctz  i32.add  i32.const 4  i32.sub  local.tee $before
              local.get $before  i32.load16_u offset=4  i32.const ${CR_LF}  i32.eq  i32.add  local.set $after
              ${gram(escaped, '$before', 0)} ${gram(escaped, '$after', 5)} i32.mul  i32.eqz
              i32.const ${PLAIN}  local.get $before  i32.load8_u offset=4  i32.shr_u  i32.const -1  i32.xor  i32.or
              local.get $before  local.get $sure  i32.ge_u  i32.or  i32.const 1  i32.and
              ${introducers('$after', 5)}  i8x16.bitmask  i32.const 15  i32.and  i32.or
              if
                ${tell('local.get $before  i32.const 4  i32.add', 1)}
              end
              local.get $ones  local.get $ones  i32.const 1  i32.sub  i32.and  local.tee $ones  br_if 0
            end
          end
          ${next('$at', 16, 'local.get $from  i32.const 64  i32.add')}
        end
        ${stopIfFull}
      end
      ${next('$from', 64, 'local.get $end')}
    end
    local.get $out  local.get $from  local.get $base  i32.sub  i32.store offset=0
    local.get $out`
}
const CR_LF = 0x0a0d
/** Introducers that are gaps, or what is left of a unit, by themselves; as bits, of which the lower 5 of each are one. */
const PLAIN = [0x0a, 0x0d, 0, 0x3b].reduce((bits, c) => bits | (1 << (c & 31)), 0)

export class Scan {
  /** What the last look found, as `Look` says. */
  readonly found: Int32Array
  /** Where the next look is to begin. */
  next = 0
  readonly #look: Look
  readonly #memory: ArrayBuffer
  readonly #copy: Buffer

  /** Bytes to be `alloc`ed. */
  static readonly memory = 4 * ROOM + SLICE + 2 * MARGIN + 64

  constructor({ alloc, memory }: SecretMemory, filter: Filter) {
    const tables = alloc(48).fill(15, 16)
    for (let half = 0; half < 16; half++) tables[half] = ~half // no byte with this half
    for (const c of INTRODUCERS) tables[c & 15] = c
    const other = INTRODUCERS.find((c) => tables[c & 15] !== c) ?? 0 // there is one
    tables.fill(other, 32)
    this.found = allocNumbers(alloc, ROOM)
    this.#copy = alloc(SLICE + 2 * MARGIN)
    this.#memory = memory.buffer
    const text = look(filter, tables.byteOffset, this.found.byteOffset + 4 * ENOUGH)
    const module = new WebAssembly.Module(assemble(text, PARAMETERS, NUMBERS, VECTORS))
    const { exports } = new WebAssembly.Instance(module, { scan: { memory } })
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- it is what was just assembled
    this.#look = exports['look'] as Look
  }

  /** How many are `found` in `b` from `at` to `next`; the last of them may be behind the end of `b`. */
  look(b: Buffer, at: number): number {
    let from = b.byteOffset + at
    let size = b.length - at
    if (b.buffer !== this.#memory) {
      from = this.#copy.byteOffset + MARGIN
      size = Math.min(SLICE, size)
      b.copy(this.#copy, MARGIN - Math.min(4, at), Math.max(0, at - 4), at + size + BEHIND)
    }
    const out = this.found.byteOffset
    const end = this.#look(from, from + size, out, from - at, from - at + b.length - BEHIND - 4)
    const count = (end - out) >> 2
    this.next = this.found[count] ?? 0
    return count
  }
}
