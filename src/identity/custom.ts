// Any other relying party, Vault for one: the grammar of --token-file.
// PATH,aud=AUDIENCE[,uid=N][,gid=N][,mode=0600][,format=raw|json]

import { resolve } from 'node:path'
import { printable, shown } from '../cli/printable.ts'
import { UsageError } from '../errors.ts'
import { isAudience, type TokenFile } from './cloud.ts'

/** One --token-file word as a typed value, or a UsageError that names what is wrong with it. */
export function parseTokenFile(word: string): TokenFile {
  const [path = '', ...settings] = word.split(',')
  const wrong = (problem: string): UsageError => new UsageError(`token file ${shown(path) || '(no path)'}: ${problem}`)
  if (!path.startsWith('/') || path.endsWith('/') || /\p{Cc}/u.test(path))
    throw wrong('the path is not that of a file, from / on')
  const given = new Map<Key, string>()
  for (const setting of settings) {
    const equals = setting.indexOf('=')
    const key = KEYS.find((name) => name === setting.slice(0, equals))
    if (key === undefined) throw wrong(`unknown setting ${shown(setting)}: use one of ${KEYS.join(', ')}`)
    if (given.has(key)) throw wrong(`${key} is given twice`)
    given.set(key, setting.slice(equals + 1))
  }
  const audience = given.get('aud')
  if (audience === undefined) throw wrong('whom is it for? write aud=AUDIENCE')
  if (audience === '') throw wrong('aud has no value: write such as aud=https://vault.example')
  if (Buffer.byteLength(audience) > 512)
    throw wrong(`the audience is ${Buffer.byteLength(audience)} bytes long: 512 is the most`)
  if (!isAudience(audience)) throw wrong(`audience ${shown(audience)} is not plain text`)
  const id = (key: 'uid' | 'gid'): number | undefined => {
    const value = given.get(key)
    if (value === undefined) return undefined
    const number = /^(0|[1-9][0-9]{0,9})$/.test(value) ? Number(value) : Number.NaN
    // The last one, -1, means "leave as it is" to chown.
    if (!(number < 0xffff_ffff)) throw wrong(`${key} ${shown(value)} is not a number: names are not looked up, see id`)
    return number
  }
  const mode = given.get('mode') ?? '0600'
  if (!/^0?[0-6][0-4]{2}$/.test(mode))
    throw wrong(`mode ${shown(mode)} is not three octal digits that let others read at most, such as 0640`)
  const format = FORMATS.find((name) => name === (given.get('format') ?? 'raw'))
  if (format === undefined) throw wrong(`format ${printable(given.get('format') ?? '')} is not raw or json`)
  const uid = id('uid')
  const gid = id('gid')
  return {
    cloud: 'custom',
    path: resolve(path),
    mode: Number.parseInt(mode, 8),
    ...(uid === undefined ? {} : { uid }),
    ...(gid === undefined ? {} : { gid }),
    audience,
    format,
  }
}

const KEYS = ['aud', 'uid', 'gid', 'mode', 'format'] as const
type Key = (typeof KEYS)[number]
const FORMATS = ['raw', 'json'] as const
