// What STS answers when it does not do as asked. Codes and statuses: botocore's service-2.json for STS, and the common
// errors of the query protocol; messages: live captures where a source is named at the throw, else a guess.

export type StsCode =
  | 'AccessDenied'
  | 'ExpiredToken'
  | 'ExpiredTokenException'
  | 'IDPCommunicationError'
  | 'IDPRejectedClaim'
  | 'IncompleteSignature'
  | 'InvalidAction'
  | 'InvalidClientTokenId'
  | 'InvalidIdentityToken'
  | 'MalformedPolicyDocument'
  | 'MissingAction'
  | 'MissingAuthenticationToken'
  | 'NoSuchVersion'
  | 'PackedPolicyTooLarge'
  | 'RegionDisabledException'
  | 'SignatureDoesNotMatch'
  | 'ValidationError'

export const STS_STATUS: Record<StsCode, number> = {
  AccessDenied: 403,
  ExpiredToken: 403,
  ExpiredTokenException: 400,
  IDPCommunicationError: 400,
  IDPRejectedClaim: 403,
  IncompleteSignature: 400,
  InvalidAction: 400,
  InvalidClientTokenId: 403,
  InvalidIdentityToken: 400,
  MalformedPolicyDocument: 400,
  MissingAction: 400,
  MissingAuthenticationToken: 403,
  NoSuchVersion: 400,
  PackedPolicyTooLarge: 400,
  RegionDisabledException: 403,
  SignatureDoesNotMatch: 403,
  ValidationError: 400,
}

export class StsError extends Error {
  override name = 'StsError'
  readonly code: StsCode
  constructor(code: StsCode, message: string, cause?: unknown) {
    super(message, { cause })
    this.code = code
  }
}
