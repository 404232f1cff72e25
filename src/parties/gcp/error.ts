// What Google answers when it does not do as asked: the token endpoint as RFC 6749 5.2 has it, the others as Google's
// APIs do. Codes and texts: live captures where a source is named at the throw, else a guess.

export type StsCode =
  | 'invalid_request'
  | 'invalid_target'
  | 'invalid_grant'
  | 'unauthorized_client'
  | 'unsupported_grant_type'

/** All are 400, `unauthorized_client` as well: RFC 6749 5.2 keeps 401 for `invalid_client`. */
export class TokenEndpointError extends Error {
  override name = 'TokenEndpointError'
  readonly code: StsCode
  constructor(code: StsCode, message: string, cause?: unknown) {
    super(message, { cause })
    this.code = code
  }
}

export type ApiStatus = 'INVALID_ARGUMENT' | 'UNAUTHENTICATED' | 'PERMISSION_DENIED' | 'NOT_FOUND'

export const API_STATUS: Record<ApiStatus, number> = {
  INVALID_ARGUMENT: 400,
  UNAUTHENTICATED: 401,
  PERMISSION_DENIED: 403,
  NOT_FOUND: 404,
}

export class ApiError extends Error {
  override name = 'ApiError'
  readonly status: ApiStatus
  readonly details: readonly object[]
  constructor(status: ApiStatus, message: string, details: readonly object[] = []) {
    super(message)
    this.status = status
    this.details = details
  }
}
