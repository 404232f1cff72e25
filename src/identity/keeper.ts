// Keeps token files fresh: a client of the socket like any other. What the environment asks for is found out first, and
// said; then start() waits for the first tokens, and from then on each file is replaced in time, or taken away in time.

import { Failure } from '../errors.ts'
import { arrange } from './arrange.ts'
import { HOPELESS, IdentityError, requestToken } from './client.ts'
import { type Instant, readClocks } from './clocks.ts'
import type { Arrangement, SettingsFile, TokenFile, Variables } from './cloud.ts'
import type { IdentityEvent, NoToken } from './event.ts'
import { FileError, prepareDirectory, readPlaced, removeFile, replaceFile } from './file.ts'
import { lifeOf } from './life.ts'
import type { IdentityOptions } from './options.ts'
import {
  asked,
  begin,
  dropped,
  due,
  early,
  failed,
  hold,
  jump,
  openGate,
  pass,
  removed,
  renewed,
  type Schedule,
  TICK,
  woken,
} from './schedule.ts'

export { arrange } from './arrange.ts'

export interface TokenKeeper {
  /** What the entrypoint's environment gets beside its own; never a variable that it has. */
  readonly env: Readonly<Record<string, string>>
  readonly files: readonly TokenFile[]
  /** Resolves when every file has its first token, or, with `continue`, when waiting is over or in vain; the
   * files are kept until stop(). With `fail` it then throws a Failure of one line, and nothing is kept. */
  start(): Promise<'ready' | 'late'>
  /** Nothing is asked or written any more. The files stay: whoever starts next finds them, and judges them. */
  stop(): Promise<void>
}

/** What the keeper takes from the world. */
export interface World {
  readonly clocks: () => Instant
  readonly random: () => number
  readonly request: typeof requestToken
}

/** A request that takes longer is made anew. */
const REQUEST_LIMIT = 10_000 // ms

/** What `env` and `options` ask for, without touching anything yet. */
export function tokenKeeper(
  env: Variables,
  options: IdentityOptions,
  report: (event: IdentityEvent) => void,
  world: World = { clocks: readClocks, random: Math.random, request: requestToken },
): TokenKeeper {
  return keep(arrange(env, options), options, report, world)
}

/** The same of a plan that was made elsewhere: nothing more of the environment is needed. */
export function keep(
  plan: Arrangement,
  options: Pick<IdentityOptions, 'socket' | 'wait'>,
  report: (event: IdentityEvent) => void,
  world: World = { clocks: readClocks, random: Math.random, request: requestToken },
): TokenKeeper {
  const keeper = new Keeper(plan, options, report, world)
  return { env: plan.env, files: plan.files, start: () => keeper.start(), stop: () => keeper.stop() }
}

class Keeper {
  readonly #plan: Arrangement
  readonly #options: Pick<IdentityOptions, 'socket' | 'wait'>
  readonly #report: (event: IdentityEvent) => void
  readonly #world: World
  readonly #kept: Kept[]
  #gate
  #last: Instant
  #timer: NodeJS.Timeout | undefined
  #stopped = false
  #settle: (() => void) | undefined

  constructor(
    plan: Arrangement,
    options: Pick<IdentityOptions, 'socket' | 'wait'>,
    report: (event: IdentityEvent) => void,
    world: World,
  ) {
    this.#plan = plan
    this.#options = options
    this.#report = report
    this.#world = world
    this.#last = world.clocks()
    this.#gate = openGate(this.#last)
    this.#kept = plan.files.map((file) => new Kept(file, begin(this.#last)))
  }

  async start(): Promise<'ready' | 'late'> {
    try {
      return await this.#first()
    } catch (error) {
      await this.stop()
      throw error
    }
  }

  async #first(): Promise<'ready' | 'late'> {
    const { problems, notices, settings } = this.#plan
    const { limit, otherwise } = this.#options.wait
    const since = this.#world.clocks().boot
    for (const notice of notices) this.#report({ kind: 'notice', notice })
    for (const problem of problems) this.#report({ kind: 'problem', problem })
    const [first] = problems
    if (first !== undefined && otherwise === 'fail')
      throw new Failure(
        `${first.variable} is wrong (${first.code}), and without it there is no token for ${first.cloud}`,
      )
    const unsettled = settings.map((file) => this.#furnish(file)).some((written) => !written)
    for (const kept of this.#kept) this.#adopt(kept)

    // Nothing to keep is the common case, and costs no timer.
    const settled = new Promise<void>((resolve) => (this.#settle = resolve))
    const late = setTimeout(() => this.#settle?.(), limit)
    if (this.#kept.length === 0) this.#settle?.()
    else this.#tick()
    await settled
    clearTimeout(late)
    this.#settle = undefined
    if (this.#stopped) return 'late'
    const missing = this.#kept.filter(({ first }) => first !== 'written')
    const ms = this.#world.clocks().boot - since
    if (missing.length === 0 && !unsettled && problems.length === 0) {
      if (this.#kept.length > 0) this.#report({ kind: 'ready', files: this.#kept.length, ms })
      return 'ready'
    }
    if (otherwise === 'fail' && (missing.length > 0 || unsettled)) {
      const [file] = missing
      throw new Failure(
        `no token in ${file?.file.path ?? settings[0]?.path ?? ''} after ${Math.round(ms / 100) / 10} s (${file?.code ?? 'waiting'}): see dotfly doctor, or go on without it by --wait-token ${limit / 1000}s,continue`,
      )
    }
    this.#report({ kind: 'late', missing: missing.map(({ file }) => file.path), ms })
    return 'late'
  }

  async stop(): Promise<void> {
    this.#stopped = true
    clearTimeout(this.#timer)
    for (const kept of this.#kept) kept.cancel?.abort()
    await Promise.all(this.#kept.flatMap(({ busy }) => busy ?? []))
    this.#settle?.()
  }

  /** A file of settings is written once; without it a token file is of no use. */
  #furnish(file: SettingsFile): boolean {
    try {
      prepareDirectory(file)
      replaceFile(file, file.text)
      return true
    } catch (error) {
      this.#unwritten(file.path, error, 0)
      return false
    }
  }

  /** What an earlier run left: good as long as its token is, if it is one; nobody shall read the rest. */
  #adopt(kept: Kept): void {
    const { file } = kept
    try {
      prepareDirectory(file)
      const text = readPlaced(file)
      if (text === undefined) return
      const now = this.#world.clocks()
      const life = lifeOf(tokenIn(file, text))
      const left = life === undefined ? 0 : life.exp - Math.max(life.iat, now.wall / 1000)
      if (life !== undefined && left > 0) {
        const iat = life.exp - left
        // Wanted all the same: it may be another Machine's, of which this one is a copy.
        kept.schedule = { ...begin(now, hold(now, { ...life, iat }, this.#world.random, file.refreshAt)), wanted: true }
        if (!due(kept.schedule, now).remove) return
        kept.schedule = begin(now)
      }
      removeFile(file)
    } catch (error) {
      this.#unwritten(file.path, error, 0, kept)
    }
  }

  #tick(): void {
    if (this.#stopped) return
    clearTimeout(this.#timer)
    const now = this.#world.clocks()
    this.#wake(now)
    this.#last = now
    let wait = TICK
    for (const kept of this.#kept) {
      const { ask, remove, wait: least } = due(kept.schedule, now)
      wait = Math.min(wait, least)
      // Whatever request is under way: it may hang.
      if (remove) {
        kept.schedule = removed(kept.schedule)
        this.#takeAway(kept)
      }
      if (!ask || kept.busy !== undefined) continue
      const { gate, wait: closed } = pass(this.#gate, now)
      this.#gate = gate
      if (closed > 0) {
        wait = Math.min(wait, closed)
        continue
      }
      kept.schedule = asked(kept.schedule)
      kept.busy = this.#finish(kept, this.#renew(kept, now))
    }
    if (this.#kept.every(({ first }) => first !== undefined)) this.#settle?.()
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#tick(), Math.max(1, wait))
  }

  async #finish(kept: Kept, work: Promise<void>): Promise<void> {
    try {
      await work
    } catch {
      // A mistake of ours, and no reason to stop keeping the file.
      kept.schedule = failed(kept.schedule, this.#world.clocks(), this.#world.random)
      this.#report({ kind: 'fault' })
    }
    kept.busy = undefined
    this.#tick()
  }

  #wake(now: Instant): void {
    const how = jump(this.#last, now)
    if (how === undefined) return
    const ms = now.boot - this.#last.boot
    this.#report({ kind: 'woken', how, ms: how === 'stepped' ? now.wall - this.#last.wall - ms : ms })
    // Every one of them is asked for at once, so the bucket that filled up meanwhile matters.
    for (const kept of this.#kept) {
      kept.schedule = woken(kept.schedule, now, this.#world.random)
      kept.cancel?.abort()
    }
  }

  #takeAway(kept: Kept): void {
    const { path } = kept.file
    try {
      if (removeFile(kept.file)) this.#report({ kind: 'removed', path })
    } catch (error) {
      if (error instanceof FileError) this.#report({ kind: 'stuck', path, code: error.code, errno: error.errno })
      else this.#report({ kind: 'fault' })
    }
  }

  async #renew(kept: Kept, at: Instant): Promise<void> {
    const cancel = new AbortController()
    kept.cancel = cancel
    try {
      await this.#exchange(kept, at, cancel.signal)
    } finally {
      kept.cancel = undefined
    }
  }

  async #exchange(kept: Kept, at: Instant, signal: AbortSignal): Promise<void> {
    const { file } = kept
    const { clocks, random, request } = this.#world
    const refused = (code: NoToken, status = 0, retryAfter = 0): void => {
      const now = clocks()
      const hopeless = code !== 'TIMELESS_TOKEN' && HOPELESS.has(code)
      kept.schedule = failed(kept.schedule, now, random, { retryAfter, hopeless })
      kept.code = code
      if (hopeless) kept.first ??= 'hopeless'
      const again = kept.schedule.notBefore - now.boot
      this.#report({ kind: 'refused', path: file.path, audience: file.audience, code, status, again })
    }
    let token
    try {
      token = await request({
        socket: this.#options.socket,
        ...(file.audience === undefined ? {} : { audience: file.audience }),
        ...(file.awsPrincipalTags === true ? { awsPrincipalTags: true } : {}),
        signal,
        timeout: REQUEST_LIMIT,
      })
    } catch (error) {
      if (!(error instanceof IdentityError)) throw error
      if (error.code === 'CANCELLED') kept.schedule = dropped(kept.schedule)
      else refused(error.code, error.status, error.retryAfter)
      return
    }
    const life = lifeOf(token)
    if (life === undefined) {
      refused('TIMELESS_TOKEN')
      return
    }
    const wait = early(kept.schedule, clocks(), life)
    if (wait > 0) await pause(wait, signal)
    // Woken while it was under way: a token of before is not trusted to be this Machine's.
    if (signal.aborted) {
      kept.schedule = dropped(kept.schedule)
      return
    }
    try {
      replaceFile(file, content(file, token, life.exp))
    } catch (error) {
      const now = clocks()
      kept.schedule = failed(kept.schedule, now, random)
      this.#unwritten(file.path, error, kept.schedule.notBefore - now.boot, kept)
      return
    }
    kept.schedule = renewed(kept.schedule, at, life, random, file.refreshAt)
    kept.first = 'written'
    kept.code = undefined
    this.#report({
      kind: 'written',
      path: file.path,
      audience: file.audience,
      life: (life.exp - life.iat) * 1000,
      skew: at.wall - life.iat * 1000,
      ms: clocks().boot - at.boot,
    })
  }

  #unwritten(path: string, error: unknown, again: number, kept?: Kept): void {
    if (!(error instanceof FileError)) throw error
    if (kept !== undefined) {
      kept.code = error.code
      // A disk may be emptied; a directory is what somebody made it.
      if (error.code !== 'DISK_FULL' && error.code !== 'SYSTEM') kept.first ??= 'hopeless'
    }
    this.#report({ kind: 'unwritten', path, code: error.code, errno: error.errno, again })
  }
}

/** One token file, its schedule, and what is being done about it. */
class Kept {
  readonly file: TokenFile
  schedule: Schedule
  /** The one request that is under way, to the end of its writing. */
  busy: Promise<void> | undefined
  /** Gives up the request that is under way. */
  cancel: AbortController | undefined
  /** How the first token went: there, or never to come by itself. */
  first: 'written' | 'hopeless' | undefined
  /** Why there is none. */
  code: string | undefined

  constructor(file: TokenFile, schedule: Schedule) {
    this.file = file
    this.schedule = schedule
  }
}

/** The token as it was signed, without a newline: many programs take the file's bytes as they are. */
const content = ({ format, audience }: TokenFile, token: string, exp: number): string =>
  format === 'raw' ? token : `${JSON.stringify({ token, audience, expires_at: new Date(exp * 1000).toISOString() })}\n`

function tokenIn({ format }: TokenFile, text: string): string {
  if (format === 'raw') return text.trim()
  try {
    const json: unknown = JSON.parse(text)
    return typeof json === 'object' && json !== null && 'token' in json && typeof json.token === 'string'
      ? json.token
      : ''
  } catch {
    return '' // whatever it is, it is no token file of ours
  }
}

/** Ends early when aborted. */
const pause = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', done)
  })
