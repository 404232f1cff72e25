// First-party caveats of a Machine's macaroon: four predicates, each spelled in exactly one way.

import { isMachineName, isSlug } from '../issuer/names.ts'

/** `expires` is the Unix second from which the token is refused. */
export type Caveat =
  | { readonly kind: 'org' | 'app' | 'machine'; readonly value: string }
  | { readonly kind: 'expires'; readonly value: number }

/** The typed caveat, or undefined: what is not understood can never be cleared. */
export function readCaveat(text: string): Caveat | undefined {
  const [, kind, value = ''] = /^(org|app|machine) = ([A-Za-z0-9_-]+)$/.exec(text) ?? []
  if (kind === 'org' || kind === 'app') return isSlug(value) ? { kind, value } : undefined
  if (kind === 'machine') return isMachineName(value) ? { kind, value } : undefined
  const [, at] = /^expires < ([0-9]{10})$/.exec(text) ?? []
  return at === undefined ? undefined : { kind: 'expires', value: Number(at) }
}

export const writeCaveat = ({ kind, value }: Caveat): string =>
  kind === 'expires' ? `expires < ${value}` : `${kind} = ${value}`
