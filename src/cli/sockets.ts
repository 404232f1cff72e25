// The grammar of --socket: PATH[,mode=0755][,uid=N][,gid=N][,policy=self|token|all][,aud=A]…[,allow=METHOD /path]…
// Strict: a socket that is a little wider than its author thought is how a credential's use escapes.

import { resolve } from 'node:path'
import { UsageError } from '../errors.ts'
import type { Preset, SocketOptions } from '../init/options.ts'
import type { Environment } from './commands.ts'
import { isPlain, shown } from './printable.ts'

const DEFAULT_SOCKET = '/.fly/api'

/** One --socket word as a typed value, or a UsageError that names what is wrong with it. */
export function parseSocket(word: string): SocketOptions {
  const [path = '', ...settings] = word.split(',')
  const socket: SocketOptions = { path: socketPath(path), policy: 'self', allow: [], audiences: [] }
  const seen = new Set<string>()
  for (const setting of settings) {
    const equals = setting.indexOf('=')
    const key = equals < 0 ? setting : setting.slice(0, equals)
    const value = equals < 0 ? '' : setting.slice(equals + 1)
    const wrong = (problem: string): UsageError => new UsageError(`socket ${shown(path)}: ${problem}`)
    if (!isKey(key)) throw wrong(`unknown setting ${shown(key) || '(empty)'}: use one of ${KEYS.join(', ')}`)
    if (value === '') throw wrong(`${key} has no value: write ${EXAMPLE[key]}`)
    if (seen.has(key) && key !== 'aud' && key !== 'allow') throw wrong(`${key} is given twice`)
    seen.add(key)
    const problem = SET[key](socket, value)
    if (problem !== undefined) throw wrong(problem)
  }
  const closed = closedBy(socket)
  if (closed !== undefined) throw new UsageError(`socket ${shown(path)}: ${closed}`)
  return socket
}

/** What is wrong with a mode by which those who are meant cannot connect. Only the write bit lets anybody: that group and
 * others have the read bit, as in 0755, says nothing. Without a mode it may be the service manager's. */
function closedBy({ mode, uid, gid }: SocketOptions): string | undefined {
  const [who, bits, better] =
    uid !== undefined
      ? [`uid ${uid} cannot`, 0o200, '0600'] // with a uid nobody else is served
      : gid !== undefined
        ? [`gid ${gid} cannot`, 0o020, '0660']
        : ['nobody can', 0o222, '0600']
  if (mode === undefined || (mode & bits) !== 0) return undefined
  const octal = `0${mode.toString(8).padStart(3, '0')}`
  return `with mode ${octal} ${who} connect, which needs the write bit: write such as mode=${better}`
}

/** All sockets of one launch: no path twice, for the second would take over the first. */
export function parseSockets(words: readonly string[]): SocketOptions[] {
  const sockets = words.map(parseSocket)
  const paths = new Set<string>()
  for (const { path } of sockets) {
    if (paths.has(path)) throw new UsageError(`socket ${shown(path)} is given twice`)
    paths.add(path)
  }
  return sockets
}

/** `DOTFLY_SOCKET` holds what --socket takes; several are set apart by `;`, as `,` and space have a meaning there. */
export function socketWords(env: Environment): string[] {
  const words = (env['DOTFLY_SOCKET'] ?? '').split(';').filter((word) => word.trim() !== '')
  return words.length === 0 ? [DEFAULT_SOCKET] : words.map((word) => word.trim())
}

/** An absolute path that the kernel can bind: sun_path holds 108 bytes, the last of them a zero. */
export function socketPath(word: string): string {
  if (word === '') throw new UsageError(`a socket needs a path: write --socket ${DEFAULT_SOCKET}`)
  // A control character could forge a log line, and a zero byte makes an abstract socket that no file mode guards.
  if (/[\x00-\x1f\x7f-\x9f]/.test(word)) throw new UsageError(`socket path ${shown(word)} has a control character`)
  const path = resolve(word)
  const bytes = Buffer.byteLength(path)
  if (bytes > 107)
    throw new UsageError(`socket path ${shown(path)} is ${bytes} bytes long: 107 is the most a socket can have`)
  return path
}

const KEYS = ['mode', 'uid', 'gid', 'policy', 'aud', 'allow'] as const
type Key = (typeof KEYS)[number]
const isKey = (word: string): word is Key => KEYS.some((key) => key === word)

const EXAMPLE: Record<Key, string> = {
  mode: 'mode=0660',
  uid: 'uid=1000',
  gid: 'gid=1000',
  policy: 'policy=token',
  aud: 'aud=sts.amazonaws.com',
  allow: 'allow=GET /v1/apps/*/machines',
}

/** Each takes its value, or says what is wrong with it. */
const SET: Record<Key, (socket: SocketOptions, value: string) => string | undefined> = {
  mode(socket, value) {
    if (!/^0?[0-7]{3}$/.test(value)) return `mode ${shown(value)} is not three octal digits, each 0 to 7, such as 0660`
    socket.mode = Number.parseInt(value, 8)
    return undefined
  },
  uid(socket, value) {
    const uid = id(value)
    if (uid === undefined) return `uid ${shown(value)} is not a number: names are not looked up, see id -u`
    socket.uid = uid
    return undefined
  },
  gid(socket, value) {
    const gid = id(value)
    if (gid === undefined) return `gid ${shown(value)} is not a number: names are not looked up, see id -g`
    socket.gid = gid
    return undefined
  },
  policy(socket, value) {
    const preset = PRESETS.find((name) => name === value)
    if (preset === undefined) return `policy ${shown(value)} is not one of ${PRESETS.join(', ')}`
    socket.policy = preset
    return undefined
  },
  aud(socket, value) {
    if (value.length > 512 || !isPlain(value))
      return `audience ${shown(value)} is not plain text of at most 512 characters`
    if (socket.audiences.includes(value)) return `audience ${shown(value)} is given twice`
    socket.audiences.push(value)
    return undefined
  },
  allow(socket, value) {
    if (!ROUTE.test(value)) return `allow ${shown(value)} is not METHOD /path, such as GET /v1/apps/*/machines`
    if (socket.allow.includes(value)) return `allow ${shown(value)} is given twice`
    socket.allow.push(value)
    return undefined
  },
}

const PRESETS: readonly Preset[] = ['self', 'token', 'all']

// `*` stands for a whole segment and a final `?` lets a query pass; no segment starts with a dot, for one of dots alone
// would let the host's own router walk up.
const ROUTE = /^(GET|POST|PUT|PATCH|DELETE) \/v1(\/(\*|[A-Za-z0-9_~:-][A-Za-z0-9._~:-]*))+\??$/

/** 0 to 2^32-2; the last one, -1, means "leave as it is" to chown. */
function id(value: string): number | undefined {
  const number = /^(0|[1-9][0-9]{0,9})$/.test(value) ? Number(value) : Number.NaN
  return number < 0xffff_ffff ? number : undefined
}
