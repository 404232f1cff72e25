// What `dotfly proxy` may be told, from the command line first, then DOTFLY_* variables, then what a Machine has:
// one function from words to typed options, so that nothing behind it ever sees a string that was not judged.

import { UsageError } from '../errors.ts'
import { LEVELS, type Level } from '../init/log.ts'
import type { ProxyOptions } from '../init/options.ts'
import type { Declarations } from './arguments.ts'
import type { Environment } from './commands.ts'
import { shown } from './printable.ts'
import { parseSockets, socketWords } from './sockets.ts'

/** The options that `dotfly proxy` and `dotfly init` share; each adds its own. */
export const declareProxy = (command: Declarations): Declarations =>
  command
    .several('--socket <path>')
    .option('--flyd <url>')
    .option('--flyd-ca <file>')
    .option('--macaroon-file <file>')
    .option('--macaroon-fd <n>')
    .option('--app <name>')
    .option('--machine <id>')
    .choice('--log-level <level>', LEVELS)

/** The options as they were typed. */
export interface ProxyWords {
  socket?: string[]
  flyd?: string
  flydCa?: string
  macaroonFile?: string
  macaroonFd?: string
  app?: string
  machine?: string
  logLevel?: string
}

const DEFAULT_FLYD = 'http://_api.internal:4280'

export function proxyOptions(words: ProxyWords, env: Environment): ProxyOptions {
  const app = given(words.app) ?? given(env['DOTFLY_APP']) ?? given(env['FLY_APP_NAME'])
  const machine = given(words.machine) ?? given(env['DOTFLY_MACHINE']) ?? given(env['FLY_MACHINE_ID'])
  const flyd = parseFlyd(given(words.flyd) ?? given(env['DOTFLY_FLYD']) ?? DEFAULT_FLYD)
  const flydCa = given(words.flydCa) ?? given(env['DOTFLY_FLYD_CA'])
  return {
    sockets: parseSockets(words.socket ?? socketWords(env)),
    flyd,
    ...(flydCa === undefined ? {} : { flydCa: caFile(flydCa, flyd) }),
    macaroon: macaroonSource(words, env),
    ...(app === undefined ? {} : { app: segment('app', app) }),
    ...(machine === undefined ? {} : { machine: segment('machine', machine) }),
  }
}

export function logLevel(words: ProxyWords, env: Environment): Level {
  const word = given(words.logLevel) ?? given(env['DOTFLY_LOG_LEVEL']) ?? 'info'
  const level = LEVELS.find((name) => name === word)
  if (level === undefined) throw new UsageError(`log level ${shown(word)} is not one of ${LEVELS.join(', ')}`)
  return level
}

/** Exactly one source, or none that was asked for and the one that systemd gives. */
function macaroonSource(words: ProxyWords, env: Environment): ProxyOptions['macaroon'] {
  const choices = [
    { file: words.macaroonFile, fd: words.macaroonFd, names: '--macaroon-file and --macaroon-fd' },
    {
      file: env['DOTFLY_MACAROON_FILE'],
      fd: env['DOTFLY_MACAROON_FD'],
      names: 'DOTFLY_MACAROON_FILE and DOTFLY_MACAROON_FD',
    },
  ]
  for (const choice of choices) {
    const file = given(choice.file)
    const fd = given(choice.fd)
    if (file !== undefined && fd !== undefined) throw new UsageError(`${choice.names} exclude each other: give one`)
    if (file !== undefined) return { file: macaroonFile(file) }
    if (fd !== undefined) return { fd: macaroonFd(fd) }
  }
  const directory = given(env['CREDENTIALS_DIRECTORY'])
  if (directory !== undefined) return { file: `${directory}/macaroon` }
  throw new UsageError('no macaroon: name its file with --macaroon-file, or an open descriptor with --macaroon-fd')
}

function macaroonFile(word: string): string {
  // The likeliest mistake, and one that would put the credential into argv and then into a message about a file.
  if (/\s|FlyV1|fm[12][ar]?_/.test(word)) {
    throw new UsageError('the macaroon file is not a path: the macaroon itself is never given on the command line')
  }
  return word
}

function macaroonFd(word: string): number {
  if (!/^(0|[3-9]|[1-9][0-9]{1,5})$/.test(word)) {
    throw new UsageError(
      `macaroon descriptor ${shown(word)} is not the number of an open descriptor to read from, such as 3`,
    )
  }
  return Number(word)
}

const ANY = 0xffff_ffff // of vsock(7): no context and no port

/** Where flyd listens, with the port written out: no path, user or query, for requests are rebuilt from constants. */
function parseFlyd(word: string): string {
  if (word.startsWith('unix:')) {
    const path = word.slice('unix:'.length)
    if (!path.startsWith('/') || /[\x00-\x1f\x7f-\x9f]/.test(path))
      throw new UsageError(`flyd ${shown(word)} is not unix:/path`)
    if (Buffer.byteLength(path) > 107)
      throw new UsageError(
        `flyd's socket path is ${Buffer.byteLength(path)} bytes long: 107 is the most a socket can have`,
      )
    return word
  }
  if (word.startsWith('vsock:')) {
    const numbers = word.slice('vsock:'.length).split(':')
    if (
      numbers.length !== 2 ||
      !numbers.every((number) => /^(0|[1-9][0-9]{0,9})$/.test(number) && Number(number) < ANY)
    )
      throw new UsageError(`flyd ${shown(word)} is not vsock:CID:PORT, such as vsock:2:4280, for a port of the host`)
    return word
  }
  const url = URL.canParse(word) ? new URL(word) : undefined
  if (url === undefined || (url.protocol !== 'http:' && url.protocol !== 'https:') || url.hostname === '') {
    throw new UsageError('flyd is not http://HOST:PORT, https://HOST:PORT, unix:/PATH or vsock:CID:PORT')
  }
  if (url.username !== '' || url.password !== '')
    throw new UsageError('flyd has a user or password in its URL: the macaroon is the only credential')
  if (url.pathname !== '/' || url.search !== '' || url.hash !== '')
    throw new UsageError(`flyd ${shown(word)} has more than a host and a port: leave out what follows`)
  const port = url.port === '' ? (url.protocol === 'http:' ? '80' : '443') : url.port
  return `${url.protocol}//${url.hostname}:${port}`
}

/** Whoever pins a CA believes that the connection is verified: where it would not be, that is said. */
function caFile(word: string, flyd: string): string {
  if (/[\x00-\x1f\x7f-\x9f]|FlyV1|fm[12][ar]?_/.test(word))
    throw new UsageError('the CA of flyd is not a path: name the PEM file that holds it')
  if (!flyd.startsWith('https:'))
    throw new UsageError('--flyd-ca is given, and flyd is not https://HOST:PORT: change --flyd, or leave it out')
  return word
}

/** A name that becomes one segment of a path. */
function segment(what: string, word: string): string {
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/.test(word))
    throw new UsageError(`${what} ${shown(word)} is not a name of letters, digits, dots, - and _`)
  return word
}

/** An empty variable is one that is not set: `FOO= command` is how a shell takes it back. */
const given = (word: string | undefined): string | undefined => (word === undefined || word === '' ? undefined : word)
