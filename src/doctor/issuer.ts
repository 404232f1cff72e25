// What somebody registered with a cloud, beside what tokens say.

import type { Finding } from './finding.ts'

/** Nothing, or how the registered issuer differs. Relying parties compare letter by letter. */
export function issuerFinding(about: string, registered: string, iss: string): Finding[] {
  if (registered === iss) return []
  const seen = { about, seen: registered, wanted: iss }
  if (registered.replace(/\/+$/, '') === iss.replace(/\/+$/, '')) return [{ code: 'ISSUER_SLASH', ...seen }]
  const alias = iss.replace(/\/[^/]+$/, '/personal')
  return [{ code: registered.replace(/\/+$/, '') === alias ? 'ISSUER_ALIAS' : 'ISSUER_OTHER', ...seen }]
}
