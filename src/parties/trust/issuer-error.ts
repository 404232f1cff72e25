// Why an issuer's keys could not be had. Each party has its own words for it.

export type IssuerTrouble =
  | 'UNREACHABLE'
  | 'SLOW'
  | 'REDIRECT'
  | 'STATUS'
  | 'TOO_LARGE'
  | 'NOT_JSON'
  | 'WRONG_ISSUER'
  | 'NO_JWKS_URI'
  | 'NOT_A_KEY_SET'
  | 'TOO_MANY_KEYS'

export class IssuerError extends Error {
  override name = 'IssuerError'
  readonly code: IssuerTrouble
  constructor(code: IssuerTrouble, cause?: unknown) {
    super(`no keys from the issuer: ${code}`, { cause })
    this.code = code
  }
}
