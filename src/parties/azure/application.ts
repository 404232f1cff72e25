// Applications and the federated credentials they trust.

import { ConfigError, allowOnly, needList, needRecord, needText } from '../shape.ts'
import { needIssuerUrl } from '../trust/issuer-url.ts'

export interface FederatedCredential {
  readonly name: string
  readonly issuer: string
  readonly subject: string
  readonly audience: string
}

export interface Application {
  readonly tenant: string
  readonly clientId: string
  readonly credentials: readonly FederatedCredential[]
}

export const SEED_TENANT = '11111111-2222-4333-8444-555555555555'
export const SEED_CLIENT = '66666666-7777-4888-8999-aaaaaaaaaaaa'

/** One application that trusts the one Machine of the seed: a subject is compared whole, so each Machine needs its own. */
export const seedApplications = (issuer: string): Application[] =>
  parseApplications([
    {
      tenant: SEED_TENANT,
      client_id: SEED_CLIENT,
      credentials: [{ name: 'ancient-snow', issuer, subject: 'example:weather-cat:ancient-snow-4824' }],
    },
  ])

/** `[{tenant, client_id, credentials: [{name, issuer, subject, audience?}]}]` */
export function parseApplications(value: unknown): Application[] {
  return needList(value, 'azure').map((one, index) => {
    const where = `azure[${index}]`
    const given = needRecord(one, where)
    allowOnly(given, ['tenant', 'client_id', 'credentials'], where)
    const credentials = needList(given['credentials'], `${where}.credentials`).map((each, at) =>
      parseCredential(each, `${where}.credentials[${at}]`),
    )
    // workload-identity-federation-considerations: at most 20, and no two of the same issuer and subject.
    if (credentials.length > 20) throw new ConfigError(`${where}.credentials are more than 20`)
    const pairs = credentials.map(({ issuer, subject }) => JSON.stringify([issuer, subject]))
    if (new Set(pairs).size !== pairs.length)
      throw new ConfigError(`${where}.credentials name one issuer and subject twice`)
    return {
      tenant: needGuid(given['tenant'], `${where}.tenant`),
      clientId: needGuid(given['client_id'], `${where}.client_id`),
      credentials,
    }
  })
}

function parseCredential(value: unknown, where: string): FederatedCredential {
  const given = needRecord(value, where)
  allowOnly(given, ['name', 'issuer', 'subject', 'audience'], where)
  const subject = needText(given['subject'], `${where}.subject`)
  // A pattern would be taken literally and never match: say so where it is written.
  if (subject.includes('*'))
    throw new ConfigError(
      `${where}.subject has a *: Azure compares it literally, and knows patterns for three other issuers only`,
    )
  return {
    name: needText(given['name'], `${where}.name`),
    issuer: needIssuerUrl(needText(given['issuer'], `${where}.issuer`), `${where}.issuer`),
    subject,
    audience:
      given['audience'] === undefined ? 'api://AzureADTokenExchange' : needText(given['audience'], `${where}.audience`),
  }
}

function needGuid(value: unknown, where: string): string {
  const text = needText(value, where)
  if (!/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text))
    throw new ConfigError(`${where} is not a GUID in lower case`)
  return text
}
