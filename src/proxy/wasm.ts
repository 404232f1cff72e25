// An assembler for as much of WebAssembly as scan.ts is written in: the instructions of its text format, in the order in
// which they run. Opcodes and the frame of a module are those of the WebAssembly Core Specification, chapter 5; a test
// holds that WABT makes the same bytes of the same text.

const MAGIC = Buffer.from('\0asm\x01\0\0\0', 'latin1')
const I32 = 0x7f
const V128 = 0x7b
const OPCODES = new Map(
  `loop:3,64 if:4,64 end:11 br_if:13 local.get:32 local.set:33 local.tee:34 i32.load:40 i32.load8_u:45 i32.load16_u:47 i32.store:54
  i32.const:65 i32.eqz:69 i32.eq:70 i32.lt_u:73 i32.ge_u:79 i32.ctz:104 i32.add:106 i32.sub:107 i32.mul:108 i32.and:113 i32.or:114 i32.xor:115 i32.shl:116 i32.shr_u:118
  i64.eqz:80 i64.mul:126 i64.extend_i32_u:173
  v128.load:253,0 i8x16.eq:253,35 v128.and:253,78 v128.or:253,80
  i8x16.bitmask:253,100 i8x16.relaxed_swizzle:253,128,2`
    .split(/\s+/)
    .map((entry) => entry.split(':'))
    .map(([word = '', opcode = '']) => [word, opcode.split(',').map(Number)]),
)

/** LEB128, of what is not negative and of what may be. */
function unsigned(n: number): number[] {
  return n < 128 ? [n] : [(n & 127) | 128, ...unsigned(n >>> 7)]
}
function signed(n: number): number[] {
  return n >= -64 && n < 64 ? [n & 127] : [(n & 127) | 128, ...signed(n >> 7)]
}
const sized = (bytes: number[]): number[] => [...unsigned(bytes.length), ...bytes]
const list = (...items: number[][]): number[] => [...unsigned(items.length), ...items.flat()]
const section = (id: number, ...items: number[][]): number[] => [id, ...sized(list(...items))]
const name = (text: string): number[] => sized([...Buffer.from(text)])

/** A module of one function, `look`, that takes `parameters` and gives a number, all i32, and has further locals:
 *  `numbers`, and `vectors` of 16 bytes. It imports a memory, as `memory` of `scan`. Throws where a word is not known. */
export function assemble(
  text: string,
  parameters: readonly string[],
  numbers: readonly string[],
  vectors: readonly string[],
): Uint8Array<ArrayBuffer> {
  const locals = [...parameters, ...numbers, ...vectors]
  const encode = (word: string): number[] => {
    if (word.startsWith('$')) return unsigned(locals.indexOf(word) >>> 0)
    if (word.startsWith('offset=')) return [0, ...unsigned(Number(word.slice('offset='.length)))]
    return OPCODES.get(word) ?? signed(Number(BigInt(word)))
  }
  const body = [
    ...list([...unsigned(numbers.length), I32], [...unsigned(vectors.length), V128]),
    ...`${text.trim()} end`.split(/\s+/).flatMap(encode),
  ]
  const type = [0x60, ...list(...parameters.map(() => [I32])), ...list([I32])]
  return Uint8Array.from([
    ...MAGIC,
    ...section(1, type),
    ...section(2, [...name('scan'), ...name('memory'), 2, 0, 0]),
    ...section(3, [0]), // of that type
    ...section(7, [...name('look'), 0, 0]),
    ...section(10, sized(body)),
  ])
}
