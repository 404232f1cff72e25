// `npm run record`: docs/recording.svg, a minute at two terminals. Everything in it was typed into a real shell and is
// what really came back; only the waits are shortened. The picture is one file without script, light or dark as its
// reader's, and still where its reader asked for that.

import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { setTimeout as pause } from 'node:timers/promises'
import type { IBufferLine, Terminal } from '@xterm/headless'
import xterm from '@xterm/headless'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const COLUMNS = 100
const PROMPT = '$ '
/** No wait is shown longer than this, seconds. */
const LONGEST = 0.9

/** The time that its reader sees, seconds. */
let clock = 0
let last = performance.now()

function tick(): number {
  const now = performance.now()
  clock += Math.min((now - last) / 1000, LONGEST)
  last = now
  return clock
}

/** Time to read, which costs us none. */
function linger(seconds: number): void {
  clock += seconds
  last = performance.now()
}

type Tone = 'plain' | 'red' | 'green' | 'yellow'

interface Run {
  column: number
  text: string
  tone: Tone
}

interface Drawn extends Run {
  row: number
  from: number
  /** Infinity: to the end. */
  until: number
}

class Screen {
  readonly rows: number
  /** All that was ever shown. */
  readonly drawn: Drawn[] = []
  readonly #terminal: Terminal
  readonly #shell: ChildProcessByStdio<Writable, Readable, null>
  #lines: Drawn[][]

  constructor(rows: number, env: Record<string, string>) {
    this.rows = rows
    this.#terminal = new xterm.Terminal({ cols: COLUMNS, rows, allowProposedApi: true, scrollback: 0 })
    this.#lines = Array.from({ length: rows }, () => [])
    const shell = `stty rows ${rows} cols ${COLUMNS}; exec bash --norc --noprofile -i`
    this.#shell = spawn('script', ['-qefc', shell, '/dev/null'], { cwd: ROOT, env, stdio: ['pipe', 'pipe', 'inherit'] })
    this.#shell.stdout.on('data', (bytes: Buffer) => this.#terminal.write(bytes, () => this.#look()))
  }

  /** Types a line as a person would, and Enter. */
  async type(line: string): Promise<void> {
    for (const keys of line.match(/.{1,3}/gs) ?? []) {
      this.#shell.stdin.write(keys)
      await pause(80)
    }
    await pause(300)
    this.#shell.stdin.write('\r')
  }

  press(key: string): void {
    this.#shell.stdin.write(key)
  }

  /** Resolves with what the screen shows once it matches. */
  async until(sign: RegExp): Promise<string> {
    for (;;) {
      const shown = this.text()
      if (sign.test(shown)) return shown
      await pause(50)
    }
  }

  /** When the shell asks for the next line, and nothing else is coming. */
  async prompt(): Promise<void> {
    await pause(300)
    await this.until(/(?:^|\n)\$ $/)
    await pause(300)
  }

  text(): string {
    return Array.from({ length: this.rows }, (_, row) => this.#line(row)?.translateToString(true) ?? '')
      .join('\n')
      .replace(/\n+$/, '')
      .replace(/(^|\n)\$$/, '$1$ ')
  }

  async end(): Promise<void> {
    const ended = new Promise<void>((done) => this.#shell.on('close', () => done()))
    this.#shell.stdin.end('exit\r')
    await ended
  }

  #line(row: number): IBufferLine | undefined {
    return this.#terminal.buffer.active.getLine(row)
  }

  /** Compares each line with what is drawn: what its first cells have in common stays, the rest is drawn anew. */
  #look(): void {
    const now = tick()
    for (let row = 0; row < this.rows; row++) {
      const runs = this.#runs(row)
      const before = this.#lines[row] ?? []
      const common = commonCells(before, runs)
      const kept: Drawn[] = []
      for (const one of before) {
        const end = one.column + one.text.length
        if (end <= common) {
          kept.push(one)
          continue
        }
        one.until = now
        if (one.column < common)
          kept.push(this.#draw(row, { ...one, text: one.text.slice(0, common - one.column) }, now))
      }
      for (const run of runs) {
        const cut = Math.max(0, common - run.column)
        const text = run.text.slice(cut)
        if (text !== '') kept.push(this.#draw(row, { ...run, column: run.column + cut, text }, now))
      }
      this.#lines[row] = kept
    }
  }

  #draw(row: number, { column, text, tone }: Run, from: number): Drawn {
    const one = { row, column, text, tone, from, until: Number.POSITIVE_INFINITY }
    this.drawn.push(one)
    return one
  }

  #runs(row: number): Run[] {
    const line = this.#line(row)
    const runs: Run[] = []
    for (let column = 0; column < COLUMNS; column++) {
      const cell = line?.getCell(column)
      const tone: Tone = cell?.isFgPalette() === true ? toneOf(cell.getFgColor()) : 'plain'
      const last = runs.at(-1)
      const text = cell?.getChars() || ' '
      if (last?.tone === tone) last.text += text
      else runs.push({ column, text, tone })
    }
    // What is blank to the end is not there.
    const end = runs.at(-1)
    if (end !== undefined) end.text = end.text.trimEnd()
    return runs.filter(({ text }) => text !== '')
  }
}

const toneOf = (colour: number): Tone => (['plain', 'red', 'green', 'yellow'] as const)[colour] ?? 'plain'

const cells = (runs: readonly Run[]): string[] => {
  const found: string[] = []
  for (const { column, text, tone } of runs)
    for (const [i, character] of [...text].entries()) found[column + i] = `${tone}${character}`
  return found
}

function commonCells(before: readonly Run[], after: readonly Run[]): number {
  const [a, b] = [cells(before), cells(after)]
  let common = 0
  while (common < Math.max(a.length, b.length) && (a[common] ?? 'plain ') === (b[common] ?? 'plain ')) common++
  return common
}

const SIZE = 13
const WIDTH = SIZE * 0.6 // of a cell: every monospaced font is set to it
const HEIGHT = 17

function picture(panes: readonly { title: string; screen: Screen }[], seconds: number): string {
  const rules = new Map<string, string>()
  /** The class of what is seen from here to there. */
  const span = (from: number, until: number): string => {
    const percent = (time: number): string => `${((100 * time) / seconds).toFixed(2)}%`
    const key = `${percent(from)}-${Number.isFinite(until) ? percent(until) : ''}`
    const known = rules.get(key)
    if (known !== undefined) return known
    const name = `t${rules.size.toString(36)}`
    rules.set(key, name)
    return name
  }
  let top = 0
  const body = panes.map(({ title, screen }) => {
    const y = top
    const height = screen.rows * HEIGHT + 44
    top += height + 10
    const texts = screen.drawn
      .filter(({ from, until, text }) => until - from > 0.01 && text.trim() !== '')
      .map(({ row, column, text, tone, from, until }) => {
        const lead = text.length - text.trimStart().length
        const shown = text.trim()
        const x = 14 + (column + lead) * WIDTH
        const style = tone === 'plain' ? '' : ` ${tone}`
        return `<text x="${round(x)}" y="${46 + row * HEIGHT}" class="${span(from, until)}${style}" textLength="${round(shown.length * WIDTH)}">${escaped(shown)}</text>`
      })
    return `<g transform="translate(0 ${y})"><rect width="${FRAME}" height="${height}" rx="8" class="pane"/><text x="14" y="20" class="title">${title}</text>
${texts.join('\n')}
</g>`
  })
  const times = [...rules].map(([key, name]) => {
    const [from = '', until = ''] = key.split('-')
    const end = until === '' ? '' : `${until}{visibility:hidden}`
    const still = until === '' ? '' : 'visibility:hidden;'
    return `.${name}{${still}animation-name:${name}}@keyframes ${name}{0%{visibility:hidden}${from}{visibility:visible}${end}}`
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${FRAME} ${top - 10}" font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace" font-size="${SIZE}">
<title>dotfly at a terminal: npm start, curl, dotfly token, dotfly doctor, dotfly canary</title>
<style>
text{white-space:pre;fill:#1f2328;animation:${seconds.toFixed(1)}s step-end infinite}
.pane{fill:#f6f8fa;stroke:#d1d9e0}.title{fill:#59636e;animation:none}.red{fill:#cf222e}.green{fill:#1a7f37}.yellow{fill:#9a6700}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.pane{fill:#0d1117;stroke:#3d444d}.title{fill:#9198a1}.red{fill:#ff7b72}.green{fill:#3fb950}.yellow{fill:#d29922}}
@media(prefers-reduced-motion:reduce){text{animation:none}}
${times.join('\n')}
</style>
${body.join('\n')}
</svg>
`
}

const FRAME = 28 + COLUMNS * WIDTH
const round = (x: number): string => String(Math.round(x * 10) / 10)
const escaped = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')

const env = {
  PATH: `${ROOT}node_modules/.bin:${process.env['PATH'] ?? ''}`,
  HOME: '/nonexistent',
  TERM: 'xterm-256color',
  LC_ALL: 'C.UTF-8',
  PS1: PROMPT,
  npm_config_update_notifier: 'false',
  npm_config_progress: 'false',
  npm_config_cache: '/tmp/dotfly-recording-npm',
}
const host = new Screen(14, env)
const guest = new Screen(28, env)
await Promise.all([host.prompt(), guest.prompt()])
// The picture begins with two prompts.
clock = 0
for (const one of [...host.drawn, ...guest.drawn]) one.from = 0
linger(1)

await host.type('npm start')
const curl = /^curl --unix-socket (\S+) .*'$/m
const shown = await host.until(/Ctrl-C ends the demo/)
const [line = '', socket = ''] = curl.exec(shown.replaceAll(/(?<=^.{100})\n/gm, '')) ?? []
linger(1.5)

/** One command on a clean screen, and time to read what it says. */
async function scene(command: string, seconds: number): Promise<void> {
  guest.press('\f')
  await pause(200)
  await guest.type(command)
  await guest.prompt()
  linger(seconds)
}
await scene(`${line}; echo`, 6)
await scene(`npx dotfly token --socket ${socket} --aud sts.amazonaws.com --claims`, 9)
await scene(`npx dotfly doctor --socket ${socket}`, 7)
await scene('npx dotfly canary --quick', 10)
host.press('\u0003')
await host.prompt()
linger(2)
const end = tick()
const svg = picture(
  [
    { title: 'the host and the proxy', screen: host },
    { title: 'a program in the Machine', screen: guest },
  ],
  end,
)
await Promise.all([host.end(), guest.end()])
writeFileSync(new URL('../docs/recording.svg', import.meta.url), svg)
process.stdout.write(`docs/recording.svg: ${end.toFixed(0)} s, ${Math.ceil(svg.length / 1024)} KiB\n`)
