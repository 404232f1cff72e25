// Mutation evidence: breaks the strip engine in named ways, one at a time, in a copy of the tree, and shows that its tests
// fail each time. `node test/mutation/strip.ts [name…]`; exits 1 when a mutant lives, or no longer applies.

import { spawnSync } from 'node:child_process'
import { closeSync, cpSync, mkdtempSync, openSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

const ROOT = resolve(import.meta.dirname, '../..')
// The quick ones first: most mutants never see the rest.
const TESTS = ['anatomy', 'spellings', 'strip-innocent', 'scan', 'strip-shapes', 'strip-rule', 'strip'].map(
  (name) => `test/proxy/${name}.test.ts`,
)

type File = 'anatomy' | 'grams' | 'scan' | 'spellings' | 'strip'
/** What is lost, and the change that loses it. */
const MUTANTS: [string, File, string, string][] = [
  ['windows of 17 bytes', 'strip', 'tail.to - head.from >= WINDOW', 'tail.to - head.from > WINDOW'],
  ['3 secret bytes are enough', 'strip', 'q3 = q2', 'q3 = q1'],
  ['5 secret bytes are needed', 'strip', 'if (q - q3 < WINDOW', 'if (q - q3 < WINDOW - 12'],
  ['all bytes are secret', 'strip', 'this.#secret[at] = secret', 'this.#secret[at] = 1'],
  ['a look at every other 64 bytes', 'scan', "next('$from', 64,", "next('$from', 128,"],
  ['a sample of every sixteenth gram', 'scan', "all(8, 'i64.mul'", "all(16, 'i64.mul'"],
  [
    'a gram counts only with the one before it',
    'scan',
    "${gram(raw, '$at', 0)} ${gram(raw, '$at', 8)} i32.mul",
    "${gram(raw, '$at', 0)} ${gram(raw, '$at', 0)} i32.mul",
  ],
  ['samples have one case', 'scan', 'i32.const 0x20202020  i32.or', 'i32.const 0  i32.or'],
  ['seven bytes introduce', 'scan', 'tables.fill(other, 32)', 'tables.fill(15, 32)'],
  [
    'a line break is told by what follows alone',
    'scan',
    "${gram(escaped, '$before', 0)} ${gram(",
    'i32.const 1 ${gram(',
  ],
  [
    'a line break is told by what went before alone',
    'scan',
    "${gram(escaped, '$after', 5)} i32.mul",
    'i32.const 1 i32.mul',
  ],
  ['an escape behind a line break is not looked at', 'scan', 'i32.const 15  i32.and', 'i32.const 0  i32.and'],
  [
    'what is not here yet is taken for innocent',
    'scan',
    'local.get $sure  i32.ge_u  i32.or',
    'i32.const 0  i32.and  i32.or',
  ],
  ['what follows is not copied', 'scan', 'at + size + BEHIND', 'at + size'],
  [
    'of 16 bytes the first one introduces',
    'scan',
    'local.tee $ones  br_if 0',
    'i32.const 0  i32.and  local.tee $ones  br_if 0',
  ],
  ['what went before is not copied', 'scan', 'MARGIN - Math.min(4, at), Math.max(0, at - 4)', 'MARGIN, at'],
  ['the end of a window is left', 'strip', 'run.to = Math.min(end, q3 + WINDOW)', 'run.to = Math.min(end, q3 + 8)'],
  ['the start of a window is left', 'strip', 'Math.max(start, q - WINDOW + 1)', 'Math.max(start, q - 8)'],
  ['no escapes at all', 'strip', 'if ((what & 1) === 1) this.#around(', 'if (what < 0) this.#around('],
  [
    'escapes by 4 bytes only',
    'strip',
    'this.#tryAll(this.#grams.pairs, b, r, pair, skip, 2 - skip)',
    'void [b, r, pair, skip]',
  ],
  ['long units are told by four, as raw bytes are', 'strip', 'few = true', 'few = false'],
  ['nothing stands behind what ends with ;', 'strip', ' || introducer === SEMICOLON', ''],
  ['bytes before an escape are not looked at', 'strip', 'if (p >= 4) this.#tryGram(', 'if (p < 0) this.#tryGram('],
  ['no base64url in the filter', 'grams', 'raw, rawUrls, n - 3)', 'raw, 0, n - 3)'],
  ['no base64url beside a gap', 'grams', 'escaped, urls, first)', 'escaped, 0, first)'],
  ['one byte of a gram is base64url, or none', 'grams', '(some - 1) & urls', '(some >> 1) & urls'],
  ['a gram before what is secret is no sample', 'grams', 'ahead < n - 3 + WINDOW', 'ahead <= n'],
  ['a gram behind what is secret is no sample', 'grams', 'last >= n - 3 - WINDOW', 'last >= n - 3'],
  ['gaps are bytes of escaped grams', 'grams', 'if (isGap(c)) continue', ''],
  ['a pair is the first of a gram', 'grams', 'this.pairs.add(escaped >>> 16,', 'this.pairs.add(escaped & 0xffff,'],
  ['one run hides another', 'strip', 'if (from > covered.to) covered.from = from', ''],
  [
    'two bytes of public text make a run',
    'strip',
    '(start >= this.#long.from && end < this.#long.to)',
    '(Date.now() < 0)',
  ],
  ['nothing is known of what went before', 'strip', 'const known = Math.min(CONTEXT, this.#offset)', 'const known = 0'],
  [
    'a look that is full skips 64 bytes',
    'scan',
    'local.get $from  local.set $end',
    'local.get $from  i32.const 64  i32.add  local.tee $from  local.set $end',
  ],
  ['a gram leaves one bit of its hash', 'grams', '& ~h', '& ~(h & 127)'],
  [
    'a byte of the seam is left out',
    'strip',
    'copy(chunk, 0, needles.seam, CONTEXT, more)',
    'copy(chunk, 0, needles.seam, CONTEXT, more - 1)',
  ],
  ['8 bytes of context', 'strip', 'const CONTEXT = 32', 'const CONTEXT = 8'],
  [
    'a chunk is searched at its seam only',
    'strip',
    'const runs = isLong ? met.concat(needles.find(chunk, 0)) : met',
    'const runs = met',
  ],
  [
    'what was cut off passes when the rest is gone',
    'strip',
    'const to = from < run.to ? run.to : run.cut',
    'const to = run.to',
  ],
  ['nothing is held', 'strip', 'let hold = Math.min(needles.findTail(end)', 'let hold = Math.min(0'],
  ['a short run at the end is not held', 'strip', '< WINDOW && tail.to < b.length)', '< WINDOW)'],
  [
    'the first units of a run are raw bytes',
    'strip',
    'const from = to - cutAt(b, to, want(n), kind, true)',
    'const from = to - cutAt(b, start + 1 + n - first, want(n), kind, true)',
  ],
  ['what reads as a gap is one', 'strip', 'if (length > 0 || gap === 0', 'if (gap === 0'],
  ['an end is read in one way', 'strip', 'for (const tail of tails)', 'for (const tail of tails.slice(0, 1))'],
  ['a beginning is read in one way', 'strip', 'for (const head of heads)', 'for (const head of heads.slice(0, 1))'],
  ['no window ends within a gap', 'strip', 'if (isEnd(m) && (n > first', 'if (m < 0 && (n > first'],
  ['one case is enough', 'strip', 'cases &= AGREE[i]?.[this.#bytes[n] ?? 0] ?? 0', 'cases &= 15'],
  [
    'what is cut beside a run has any case',
    'strip',
    'let n = first - 1; n <= next; n++) cases',
    'let n = first; n < next; n++) cases',
  ],
  ['a run that was judged in one case is judged', 'strip', '= cases | (this.#judgedAt', '= 15 | (this.#judgedAt'],
  ['what was judged stays so', 'strip', 'this.#epoch += b.length + 1', 'this.#epoch += 0'],
  [
    'a run found in the middle of an escape stands for all',
    'strip',
    'lengthOf(escapeAt(b, from - k)) > k) return cases',
    'k < 0) return cases',
  ],
  ['all is blanked already', 'strip', 'return start >= from && end <= to &&', 'return'],
  [
    'two bytes with nothing whole beside them are short',
    'strip',
    'return to - from < WINDOW &&',
    'return to - from < 24 &&',
  ],
  ['no raw bytes before a cut unit', 'strip', 'if (!isPlain && p >= 2 &&', 'if (p < 0 &&'],
  [
    'nothing ends with two escapes',
    'strip',
    'introducer === 0x25 && second >= 0',
    'introducer === 0x125 && second >= 0',
  ],
  ['nothing stands across a wide gap', 'strip', '(at - p > 8 || at >= b.length)', '(at < 0)'],
  ['no raw bytes before a gap and a cut unit', 'strip', 'first - p + pathAt(b, first) >= WINDOW / 2', 'first < 0'],
  ['what begins an escape is one', 'strip', 'escapeAt(b, second) === 0', 'INTRODUCES[b[second] ?? 0] === 0'],
  [
    'no gap at the end may begin with a raw byte',
    'strip',
    'if (tail.to > end) tails',
    'if (tail.to > end && tail.from === from) tails',
  ],
  ['a NUL is cut without its 0', 'spellings', '`&#${c};`', "`&#${c || ''};`"],
  [
    '\\0 before digits is no gap',
    'spellings',
    '=== 0x30 && b[i - 2] === 0x5c ? 2 << 8',
    '=== 0x130 && b[i - 2] === 0x5c ? 2 << 8',
  ],
  [
    '\\0 before digits is looked at as an escape alone',
    'strip',
    '=== 0x5c && b[p + 1] === 0x30',
    '=== 0x15c && b[p + 1] === 0x30',
  ],
  ['every line break behind a = is soft', 'spellings', 'isGap(c) && c === want', 'isGap(c) && c !== c'],
  ['every = before a line break is soft', 'spellings', 'isGap(c) && stream[b[at - gap]', 'c < 0 && stream[b[at - gap]'],
  ['what is cut may hold no escape', 'spellings', ' && !(n % 3 === 2 && c === 0x25)', ''],
  ['the end of a line is held', 'strip', 'b[b.length - 1] === 0x0a', 'b[b.length - 1] === 0x100'],
  [
    'what was held is lost at the end',
    'strip',
    'this.#context.subarray(CONTEXT - this.#held))',
    'this.#context.subarray(CONTEXT))',
  ],
  ['runs are counted in pieces', 'strip', 'run.from > this.#open.to', 'run.from >= this.#open.to'],
  ['no base64 at shift 1 and 2', 'spellings', 'TEXT, [0, 1, 2])', 'TEXT, [0])'],
  ['nothing backwards', 'spellings', '    backwards(part, write)\n', ''],
  ['no hex', 'spellings', '    hex(part, write)\n', ''],
  [
    'no case but its own',
    'spellings',
    'export const CASES = [[], CASED, [SAME], CASED]',
    'export const CASES = [[], [SAME], [SAME], [SAME]]',
  ],
  ['no base64url', 'spellings', 'c === 0x2d ? 0x2b : c === 0x5f ? 0x2f : c', 'c'],
  [
    'hex in lower case only',
    'spellings',
    'STREAM = [SAME, STANDARD, LOWER, SAME]',
    'STREAM = [SAME, STANDARD, SAME, SAME]',
  ],
  ['no NULs of UTF-16', 'spellings', '|| c === 0x0d || c === 0', '|| c === 0x0d'],
  ['backslashes introduce nothing', 'spellings', 'INTRODUCERS = [0x25, 0x5c,', 'INTRODUCERS = [0x25, 0x25,'],
  ['%25 is no %', 'spellings', "  ['%25', '%'],\n", ''],
  ['a cut unit does not count', 'spellings', 'if (length > cut) cut = length', 'if (length > cut) cut = 0'],
  ['half known base64 characters are secret', 'anatomy', 'return first & (', 'return first | ('],
  ['the cid of a third party is public', 'anatomy', "if (key === 'vid ') secret.fill(1, cid, at - 1)", ''],
  ['what is not understood is public', 'anatomy', '      secret.fill(1, at, end)\n', ''],
]

/** The name of the test that failed first, or undefined where all pass. */
function killer(tree: string): string | undefined {
  for (const file of TESTS) {
    // Into a file: a test that bails out would leave its last words in a pipe.
    const path = join(tree, 'out.tap')
    const out = openSync(path, 'w')
    const { status } = spawnSync(process.execPath, ['--disable-warning=ExperimentalWarning', file], {
      cwd: tree,
      env: { ...process.env, TAP_BAIL: '1' },
      stdio: ['ignore', out, 'ignore'],
      timeout: 240_000,
    })
    closeSync(out)
    if (status !== 0) return [...readFileSync(path, 'latin1').matchAll(/^# Subtest: (.*)$/gm)].at(-1)?.[1] ?? file
  }
  return undefined
}

const tree = mkdtempSync(join(tmpdir(), 'dotfly-mutants-'))
for (const part of ['src', 'test', 'package.json', 'tsconfig.json'])
  cpSync(join(ROOT, part), join(tree, part), { recursive: true })
symlinkSync(join(ROOT, 'node_modules'), join(tree, 'node_modules'))
process.on('exit', () => rmSync(tree, { recursive: true, force: true }))

const unharmed = process.argv.length > 2 ? undefined : killer(tree)
if (unharmed !== undefined) throw new Error(`the tests fail without a mutant: ${unharmed}`)
let bad = 0
for (const [name, file, from, to] of MUTANTS.filter(
  ([name]) => process.argv.length < 3 || process.argv.includes(name),
)) {
  const path = join(tree, `src/proxy/${file}.ts`)
  const source = readFileSync(path, 'utf8')
  const began = performance.now()
  let verdict = 'DOES NOT APPLY'
  if (source.split(from).length === 2) {
    writeFileSync(
      path,
      source.replace(from, () => to),
    )
    const by = killer(tree)
    writeFileSync(path, source)
    verdict = by === undefined ? 'LIVES' : `killed by: ${by}`
  }
  if (!verdict.startsWith('killed')) bad++
  console.log(`${name.padEnd(42)} ${((performance.now() - began) / 1000).toFixed(1).padStart(5)} s  ${verdict}`)
}
console.log(`${MUTANTS.length} mutants, ${bad} not killed`)
process.exitCode = bad > 0 ? 1 : 0
