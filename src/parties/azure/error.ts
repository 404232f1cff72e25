// What Microsoft Entra answers when it does not do as asked: an OAuth error whose description begins with the code that
// everybody looks up. Codes and texts: live captures where a source is named, else from memory of the service: a guess.

import { randomUUID } from 'node:crypto'
import { json } from '../serve.ts'
import type { Reply } from '../serve.ts'

type OAuthError =
  | 'invalid_request'
  | 'invalid_client'
  | 'invalid_scope'
  | 'unauthorized_client'
  | 'unsupported_grant_type'

/** AADSTS number to what OAuth calls it. RFC 6749 5.2: 401 for `invalid_client`, 400 for the others. */
const KIND = {
  50013: 'invalid_client',
  50027: 'invalid_client',
  // 2022 capture: Azure/azure-workload-identity#616.
  70021: 'invalid_request',
  // Azure/azure-workload-identity#1200, microsoft/Agents#202: the newer codes come as invalid_client.
  700211: 'invalid_client',
  700212: 'invalid_client',
  700213: 'invalid_client',
  7002138: 'invalid_client',
  // obikuro/Sato#1
  700024: 'invalid_client',
  700016: 'unauthorized_client',
  70003: 'unsupported_grant_type',
  7000218: 'invalid_client',
  90002: 'invalid_request',
  90061: 'invalid_request',
  900144: 'invalid_request',
  1002012: 'invalid_scope',
} as const satisfies Record<number, OAuthError>

export type AadCode = keyof typeof KIND

export class EntraError extends Error {
  override name = 'EntraError'
  readonly code: AadCode
  constructor(code: AadCode, message: string, cause?: unknown) {
    super(message, { cause })
    this.code = code
  }
}

/** `host`: where `error_uri` points. `correlation`: the client's own, from its `client-request-id`. */
export function explain(
  { code, message }: EntraError,
  now: number,
  host: string,
  correlation: string | undefined,
): Reply {
  const trace_id = randomUUID()
  const correlation_id = correlation !== undefined && /^[0-9a-f-]{36}$/i.test(correlation) ? correlation : randomUUID()
  const timestamp = new Date(now).toISOString().replace('T', ' ').replace(/\.\d+/, '')
  return json(KIND[code] === 'invalid_client' ? 401 : 400, {
    error: KIND[code],
    error_description: `AADSTS${code}: ${message} Trace ID: ${trace_id} Correlation ID: ${correlation_id} Timestamp: ${timestamp}`,
    error_codes: [code],
    timestamp,
    trace_id,
    correlation_id,
    error_uri: `${host}/error?code=${code}`,
  })
}
