// What an ID token says. flyd tells which Machine asks and for which audience; the rest, above all `iss`, `sub` and
// the times, is set here, so that flyd cannot have another org's name signed by mistake.

import type { JWTPayload } from 'jose'
import { record } from '../mock/json.ts'
import { isMachineName, isSlug } from './names.ts'

/** Seconds that an ID token is good for. */
export const LIFETIME = 600

/** The Machine that a token speaks of. Ids are strings, as Fly has them. */
export interface Subject {
  readonly org_id: string
  readonly org_name: string
  readonly app_id: string
  readonly app_name: string
  readonly machine_id: string
  readonly machine_name: string
  readonly machine_version: string
  readonly image: string
  readonly image_digest: string
  readonly region: string
}

export interface SignRequest {
  readonly subject: Subject
  readonly aud: string | undefined
  readonly awsPrincipalTags: boolean
}

export class ClaimError extends Error {
  override name = 'ClaimError'
}

export interface Moment {
  /** `<base>/<org>` */
  readonly iss: string
  /** Unix seconds. */
  readonly now: number
  readonly jti: string
}

export function claims({ subject, aud, awsPrincipalTags }: SignRequest, { iss, now, jti }: Moment): JWTPayload {
  return {
    ...subject,
    iss,
    aud: aud ?? `https://fly.io/${subject.org_name}`,
    sub: `${subject.org_name}:${subject.app_name}:${subject.machine_name}`,
    jti,
    iat: now,
    nbf: now,
    exp: now + LIFETIME,
    ...(awsPrincipalTags ? { [AWS_TAGS]: awsTags(subject) } : {}),
  }
}

/** The signer's edge: a request of flyd as a typed value, or a ClaimError. */
export function parseSignRequest(json: unknown): SignRequest {
  const { subject, aud, aws_principal_tags: tags } = fields(json, 'request')
  const given = fields(subject, 'subject')
  const read = (name: keyof Subject): string => {
    const value = given[name]
    if (typeof value !== 'string' || !RULE[name](value)) throw new ClaimError(`${name} is not valid`)
    return value
  }
  if (aud !== undefined && (typeof aud !== 'string' || !isAudience(aud))) throw new ClaimError('aud is not valid')
  if (tags !== undefined && typeof tags !== 'boolean') throw new ClaimError('aws_principal_tags is not a boolean')
  return {
    subject: {
      org_id: read('org_id'),
      org_name: read('org_name'),
      app_id: read('app_id'),
      app_name: read('app_name'),
      machine_id: read('machine_id'),
      machine_name: read('machine_name'),
      machine_version: read('machine_version'),
      image: read('image'),
      image_digest: read('image_digest'),
      region: read('region'),
    },
    aud,
    awsPrincipalTags: tags === true,
  }
}

/** Plain text of some length: whatever the relying party calls itself. */
export const isAudience = (text: string): boolean => text !== '' && text.length <= 512 && !/[\p{Cc}\p{Cs}]/u.test(text)

const isNumber = (text: string): boolean => /^[1-9][0-9]{0,18}$/.test(text)

const RULE: Record<keyof Subject, (value: string) => boolean> = {
  org_id: isNumber,
  org_name: isSlug,
  app_id: isNumber,
  app_name: isSlug,
  machine_id: (text) => /^[0-9a-f]{14}$/.test(text),
  machine_name: isMachineName,
  machine_version: (text) => /^[0-9A-HJKMNP-TV-Z]{26}$/.test(text),
  image: (text) => /^[a-z0-9][A-Za-z0-9._:/@-]{0,254}$/.test(text),
  image_digest: (text) => /^sha256:[0-9a-f]{64}$/.test(text),
  region: isSlug,
}

// The claim's name and shape are AWS's; which tags Fly puts there is not public, so these three are a guess.
const AWS_TAGS = 'https://aws.amazon.com/tags'
const awsTags = ({ org_name, app_name, machine_name }: Subject): object => ({
  principal_tags: { org_name: [org_name], app_name: [app_name], machine_name: [machine_name] },
  transitive_tag_keys: ['org_name', 'app_name', 'machine_name'],
})

function fields(json: unknown, what: string): Record<string, unknown> {
  const given = record(json)
  if (given === undefined) throw new ClaimError(`${what} is not an object`)
  return given
}
