// What an issuer is started with, and the edge where it comes in as JSON.

import { record } from '../mock/json.ts'
import { isSlug } from './names.ts'

export interface IssuerOptions {
  /** Slugs of the orgs it signs for. */
  readonly orgs: readonly string[]
  /** Other names under which an org's discovery answers, such as `personal`. */
  readonly aliases?: Readonly<Record<string, string>>
  /** What `iss` begins with, such as `https://oidc.fly.io`; without it, where the public door listens. */
  readonly base?: string
  /** TCP port of the public door; 0, the default, is any. */
  readonly port?: number
  /** Path of the private socket, in a directory that only flyd may enter. */
  readonly signer: string
}

export function parseIssuerOptions(json: string): IssuerOptions {
  const given = record(JSON.parse(json))
  if (given === undefined) throw new TypeError('issuer options are not an object')
  const { orgs, aliases, base, port, signer } = given
  if (!Array.isArray(orgs) || orgs.length === 0 || !orgs.every(isOrg))
    throw new TypeError('orgs is not a list of slugs')
  if (typeof signer !== 'string' || !signer.startsWith('/')) throw new TypeError('signer is not an absolute path')
  if (base !== undefined && (typeof base !== 'string' || !isOrigin(base)))
    throw new TypeError('base is not an http or https origin')
  if (port !== undefined && (typeof port !== 'number' || !Number.isInteger(port) || port < 0 || port > 65535))
    throw new TypeError('port is not a port')
  return {
    orgs,
    signer,
    aliases: parseAliases(aliases, orgs),
    ...(base === undefined ? {} : { base }),
    ...(port === undefined ? {} : { port }),
  }
}

const isOrg = (value: unknown): value is string => typeof value === 'string' && isSlug(value)

/** No path, query or trailing slash: relying parties compare `iss` byte by byte. */
const isOrigin = (text: string): boolean =>
  URL.canParse(text) && /^https?:$/.test(new URL(text).protocol) && new URL(text).origin === text

function parseAliases(value: unknown, orgs: readonly string[]): Record<string, string> {
  if (value === undefined) return {}
  if (typeof value !== 'object' || value === null) throw new TypeError('aliases is not an object')
  const aliases: Record<string, string> = {}
  for (const [alias, org] of Object.entries(value)) {
    if (!isSlug(alias) || orgs.includes(alias)) throw new TypeError('an alias is not a slug of its own')
    if (!isOrg(org) || !orgs.includes(org)) throw new TypeError('an alias names no org')
    aliases[alias] = org
  }
  return aliases
}
