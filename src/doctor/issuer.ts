// What somebody registered with a cloud, beside what tokens say.

import type { Finding } from './finding.ts'

/** Nothing, or how the registered issuer differs. Relying parties compare letter by letter. Without a token to compare
 * it with there is still what no token of Fly's ever says. */
export function issuerFinding(about: string, registered: string, iss: string | undefined): Finding[] {
  if (iss === undefined) {
    const bare = registered.replace(/\/+$/, '')
    const seen = { about, seen: registered, wanted: bare.replace(/\/personal$/, '/ORG') }
    if (bare !== seen.wanted) return [{ code: 'ISSUER_ALIAS', ...seen }]
    return bare === registered ? [] : [{ code: 'ISSUER_SLASH', ...seen }]
  }
  if (registered === iss) return []
  const seen = { about, seen: registered, wanted: iss }
  if (registered.replace(/\/+$/, '') === iss.replace(/\/+$/, '')) return [{ code: 'ISSUER_SLASH', ...seen }]
  const alias = iss.replace(/\/[^/]+$/, '/personal')
  return [{ code: registered.replace(/\/+$/, '') === alias ? 'ISSUER_ALIAS' : 'ISSUER_OTHER', ...seen }]
}
