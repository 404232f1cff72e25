// The sessions that STS opened: the one thing it shares with the services that accept its credentials.

import { createHash, randomBytes } from 'node:crypto'
import type { Role } from './iam.ts'
import type { Context } from './pattern.ts'
import { allows } from './policy.ts'
import type { Policy } from './policy.ts'
import type { SessionTags } from './tags.ts'

export interface Session {
  readonly role: Role
  readonly name: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken: string
  /** Unix ms. */
  readonly expires: number
  readonly tags: SessionTags | undefined
  /** What the caller narrowed it to. */
  readonly narrowed: Policy | undefined
}

export class Sessions {
  readonly #byKey = new Map<string, Session>()

  open(asked: Pick<Session, 'role' | 'name' | 'expires' | 'tags' | 'narrowed'>): Session {
    const session = {
      ...asked,
      accessKeyId: `ASIA${base32(randomBytes(16)).slice(0, 16)}`,
      secretAccessKey: randomBytes(30).toString('base64'),
      sessionToken: randomBytes(240).toString('base64'),
    }
    // Expired ones stay for a while, to be told from unknown ones; the oldest goes first.
    const [oldest] = this.#byKey.keys()
    if (this.#byKey.size >= LIMIT && oldest !== undefined) this.#byKey.delete(oldest)
    this.#byKey.set(session.accessKeyId, session)
    return session
  }

  find(accessKeyId: string): Session | undefined {
    return this.#byKey.get(accessKeyId)
  }
}

const LIMIT = 10_000

export const assumedRoleArn = ({ role, name }: Pick<Session, 'role' | 'name'>): string =>
  `arn:aws:sts::${role.account}:assumed-role/${role.name}/${name}`

/** Unique id of a role: AROA and 17 characters. The same for the same role in every run. */
export const assumedRoleId = ({ role, name }: Pick<Session, 'role' | 'name'>): string =>
  `AROA${base32(createHash('sha256').update(role.arn).digest()).slice(0, 17)}:${name}`

/** Whether the session may: the role must permit it, and the narrowing, where there is one, as well. */
export function permits(session: Session, action: string, resource: string): boolean {
  const ask = { action, resource, context: contextOf(session) }
  if (session.narrowed !== undefined && !allows([session.narrowed], ask)) return false
  return allows(session.role.permissions, ask)
}

function contextOf(session: Session): Context {
  const context = new Map([['aws:userid', [assumedRoleId(session)]]])
  for (const [key, { value }] of session.tags?.principal ?? []) context.set(`aws:principaltag/${key}`, [value])
  return context
}

function base32(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'[byte % 32]).join('')
}
