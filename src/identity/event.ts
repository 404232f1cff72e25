// All that the keeper of token files may ever say: paths and audiences that were given to us, numbers, and codes of
// closed unions; never a byte of a token. Text is made of it in src/cli/keep.ts alone.

import type { Trouble } from './client.ts'
import type { FileTrouble } from './file.ts'
import type { Jump } from './schedule.ts'

export type CloudName = 'aws' | 'gcp' | 'azure' | 'anthropic' | 'custom'

/** What in the environment makes a cloud impossible to set up. `variable` is the one to be mended. */
export interface Problem {
  readonly code:
    | 'ROLE_ARN_BLANKS'
    | 'ROLE_ARN_MALFORMED'
    | 'PROVIDER_MALFORMED'
    | 'SERVICE_ACCOUNT_MALFORMED'
    | 'CLIENT_ID_MALFORMED'
    | 'TENANT_ID_MALFORMED'
    | 'ORGANIZATION_MISSING'
    | 'AUDIENCE_INVALID'
    | 'PATH_TWICE'
  readonly cloud: CloudName
  readonly variable: string
}

/** What in the environment somebody else has decided, and may not know that they did. */
export interface Notice {
  readonly code:
    /** Long-lived keys are set, and the SDKs take them first. */
    | 'STATIC_KEYS_WIN'
    /** A variable that we would set was set already, to something else: it stays. */
    | 'VARIABLE_KEPT'
    /** A profile is named, and if it exists it comes first. */
    | 'PROFILE_MAY_WIN'
    /** AWS_ROLE_SESSION_NAME as set will be refused. */
    | 'SESSION_NAME_INVALID'
  readonly cloud: CloudName
  readonly variable: string
}

/** Why there is no new token. */
export type NoToken = Trouble | 'TIMELESS_TOKEN'

export type IdentityEvent =
  | { kind: 'problem'; problem: Problem }
  | { kind: 'notice'; notice: Notice }
  /** `life`: ms that it is good for; `skew`: ms that the wall clock is ahead of the issuer's. */
  | { kind: 'written'; path: string; audience: string | undefined; life: number; skew: number; ms: number }
  /** `again`: ms until the next try. */
  | { kind: 'refused'; path: string; audience: string | undefined; code: NoToken; status: number; again: number }
  /** `again` 0: it is not tried again, or not for this reason. */
  | { kind: 'unwritten'; path: string; code: FileTrouble; errno: string; again: number }
  /** ALARM: no new token came in time, so the old one was taken away. */
  | { kind: 'removed'; path: string }
  /** ALARM: and it could not be taken away. */
  | { kind: 'stuck'; path: string; code: FileTrouble; errno: string }
  | { kind: 'woken'; how: Jump; ms: number }
  | { kind: 'ready'; files: number; ms: number }
  /** The time to wait is over, and the entrypoint is started all the same. */
  | { kind: 'late'; missing: readonly string[]; ms: number }
  | { kind: 'fault' }
