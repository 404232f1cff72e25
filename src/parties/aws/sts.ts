// AWS STS: an ID token in, the short-lived credentials of a role out; and who one is with them.

import { randomUUID } from 'node:crypto'
import { serve } from '../serve.ts'
import type { Call, Party, Reply } from '../serve.ts'
import type { Reach } from '../trust/reach.ts'
import { assumeRole } from './assume.ts'
import type { Account } from './assume.ts'
import { STS_STATUS, StsError } from './error.ts'
import type { StsCode } from './error.ts'
import type { Iam } from './iam.ts'
import { readAssumeRequest, readParameters } from './parameters.ts'
import { assumedRoleArn, assumedRoleId } from './sessions.ts'
import type { Session, Sessions } from './sessions.ts'
import { SignatureError, authenticate } from './sigv4.ts'
import type { SignatureTrouble } from './sigv4.ts'
import { element } from './xml.ts'
import type { Xml } from './xml.ts'

export interface StsOptions {
  readonly port?: number
  readonly iam: Iam
  readonly sessions: Sessions
  readonly reach?: Reach
  /** Unix ms. */
  readonly now?: () => number
  readonly provider?: Account['provider']
  /** Answers every request with this, to see what a client makes of it: no request can bring these about here. */
  readonly refuse?: 'IDPRejectedClaim' | 'RegionDisabledException' | 'IDPCommunicationError'
}

export function startSts({
  port,
  iam,
  sessions,
  reach = {},
  now = Date.now,
  provider = 'iss',
  refuse,
}: StsOptions): Promise<Party> {
  const account = { iam, sessions, reach, now, provider }
  return serve({ port }, async (call) => {
    const id = randomUUID()
    try {
      if (refuse !== undefined) throw new StsError(refuse, REFUSALS[refuse])
      return await act(call, account, id)
    } catch (caught) {
      const { code, message } = explain(caught)
      const error = [
        ['Type', 'Sender'],
        ['Code', code],
        ['Message', message],
      ] as const
      return xml(
        STS_STATUS[code],
        element(
          'ErrorResponse',
          [
            ['Error', error],
            ['RequestId', id],
          ],
          NAMESPACE,
        ),
        id,
      )
    }
  })
}

const NAMESPACE = ' xmlns="https://sts.amazonaws.com/doc/2011-06-15/"'

/** Texts: botocore's descriptions of these errors. */
const REFUSALS = {
  IDPRejectedClaim:
    'The identity provider (IdP) reported that authentication failed. This might be because the claim is invalid.',
  RegionDisabledException:
    'STS is not activated in this region for account:123456789012. Your account administrator can activate STS in this region using the IAM Console.',
  IDPCommunicationError: 'Unable to communicate with the identity provider',
}

async function act(call: Call, account: Account, id: string): Promise<Reply> {
  const parameters = readParameters(call)
  const action = parameters.get('Action')
  if (action === undefined) throw new StsError('MissingAction', 'The request must contain the parameter Action') // text: a guess
  const version = parameters.get('Version')
  if (version !== '2011-06-15')
    throw new StsError('NoSuchVersion', `The requested version ( ${version ?? ''} ) is not valid.`)
  const answer = (result: Xml): Reply =>
    xml(
      200,
      element(
        `${action}Response`,
        [
          [`${action}Result`, result],
          ['ResponseMetadata', [['RequestId', id]]],
        ],
        NAMESPACE,
      ),
      id,
    )
  switch (action) {
    case 'AssumeRoleWithWebIdentity':
      // Unsigned: the token is all the proof there is, and a signature sent along proves nothing more.
      return answer(await assumeRole(readAssumeRequest(parameters), account))
    case 'GetCallerIdentity':
      return answer(callerIdentity(authenticate(call, { service: 'sts', ...account })))
    default:
      throw new StsError('InvalidAction', `Could not find operation ${action} for version ${version}`)
  }
}

const callerIdentity = (session: Session): Xml => [
  ['Arn', assumedRoleArn(session)],
  ['UserId', assumedRoleId(session)],
  ['Account', session.role.account],
]

const xml = (status: number, body: string, id: string): Reply => ({
  status,
  headers: { 'content-type': 'text/xml', 'x-amzn-requestid': id },
  body: `${body}\n`,
})

function explain(caught: unknown): { code: StsCode; message: string } {
  if (caught instanceof StsError) return caught
  if (caught instanceof SignatureError) return SIGNATURE[caught.code]
  throw caught
}

const INVALID = {
  code: 'InvalidClientTokenId',
  message: 'The security token included in the request is invalid',
} as const
const MISMATCH = {
  code: 'SignatureDoesNotMatch',
  message:
    'The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.',
} as const
// The real text also tells both times.
const SKEWED = { code: 'SignatureDoesNotMatch', message: 'Signature expired or not yet current' } as const

const SIGNATURE: Record<SignatureTrouble, { code: StsCode; message: string }> = {
  NOT_SIGNED: { code: 'MissingAuthenticationToken', message: 'Request is missing Authentication Token' },
  INCOMPLETE: { code: 'IncompleteSignature', message: 'The request signature does not conform to AWS standards' },
  UNKNOWN_KEY: INVALID,
  WRONG_SESSION_TOKEN: INVALID,
  SESSION_EXPIRED: { code: 'ExpiredToken', message: 'The security token included in the request is expired' },
  SKEWED,
  PRESIGN_EXPIRED: SKEWED,
  WRONG_SCOPE: MISMATCH,
  HEADER_NOT_SIGNED: MISMATCH,
  BODY_DIFFERS: MISMATCH,
  MISMATCH,
}
