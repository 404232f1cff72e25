// Workload identity pools: which issuers a provider trusts, what it makes of their claims, and which service accounts
// the result may act as.

import { ConfigError, allowOnly, needList, needRecord, needText, needTexts } from '../shape.ts'
import { needIssuerUrl } from '../trust/issuer-url.ts'
import { compileCel } from './cel.ts'
import type { Variables } from './cel.ts'

type Expression = (given: Variables) => unknown

export interface Provider {
  /** `projects/N/locations/global/workloadIdentityPools/P/providers/X` */
  readonly name: string
  readonly issuer: string
  /** Whole: the default is the provider's own name, and a list of one's own replaces it. */
  readonly audiences: readonly string[]
  readonly mapping: ReadonlyMap<string, Expression>
  readonly condition: Expression | undefined
  readonly disabled: boolean
}

export interface ServiceAccount {
  readonly email: string
  /** `principal://…/subject/S` and `principalSet://…/attribute.A/V` or `…/*`, with the role workloadIdentityUser. */
  readonly members: readonly string[]
}

export interface Project {
  readonly providers: readonly Provider[]
  readonly serviceAccounts: readonly ServiceAccount[]
}

export const SEED_PROVIDER =
  'projects/123456789012/locations/global/workloadIdentityPools/fly-machines/providers/fly-io'
export const SEED_ACCOUNT = 'weather-cat@example.iam.gserviceaccount.com'

/** One provider for the org `example`, and a service account that every Machine of its app weather-cat may act as. */
export const seedProject = (issuer: string): Project =>
  parseProject({
    providers: [
      {
        name: SEED_PROVIDER,
        issuer,
        attribute_mapping: {
          'google.subject': 'assertion.sub',
          'attribute.app': 'assertion.app_name',
          'attribute.region': 'assertion.region',
        },
        attribute_condition: 'assertion.org_name == "example"',
      },
    ],
    service_accounts: [
      {
        email: SEED_ACCOUNT,
        members: [`principalSet://iam.googleapis.com/${poolOf(SEED_PROVIDER)}/attribute.app/weather-cat`],
      },
    ],
  })

export const poolOf = (provider: string): string => provider.replace(/\/providers\/[^/]*$/, '')

/** `{providers: [{name, issuer, allowed_audiences?, attribute_mapping, attribute_condition?, disabled?}], service_accounts: [{email, members}]}` */
export function parseProject(value: unknown): Project {
  const given = needRecord(value, 'gcp')
  allowOnly(given, ['providers', 'service_accounts'], 'gcp')
  return {
    providers: needList(given['providers'], 'providers').map((one, index) => parseProvider(one, `providers[${index}]`)),
    serviceAccounts: needList(given['service_accounts'], 'service_accounts').map((one, index) =>
      parseAccount(one, `service_accounts[${index}]`),
    ),
  }
}

const NAME = /^projects\/\d+\/locations\/global\/workloadIdentityPools\/[a-z0-9-]{4,32}\/providers\/[a-z0-9-]{4,32}$/

function parseProvider(value: unknown, where: string): Provider {
  const given = needRecord(value, where)
  allowOnly(
    given,
    ['name', 'issuer', 'allowed_audiences', 'attribute_mapping', 'attribute_condition', 'disabled'],
    where,
  )
  const name = needText(given['name'], `${where}.name`)
  if (!NAME.test(name)) throw new ConfigError(`${where}.name is not the full name of a provider`)
  const own = needTexts(given['allowed_audiences'], `${where}.allowed_audiences`)
  const { attribute_condition: condition, disabled = false } = given
  if (typeof disabled !== 'boolean') throw new ConfigError(`${where}.disabled is not a boolean`)
  return {
    name,
    issuer: needIssuerUrl(needText(given['issuer'], `${where}.issuer`), `${where}.issuer`),
    audiences: own.length > 0 ? own : [`//iam.googleapis.com/${name}`, `https://iam.googleapis.com/${name}`],
    mapping: parseMapping(given['attribute_mapping'], `${where}.attribute_mapping`),
    condition:
      condition === undefined
        ? undefined
        : compileCel(
            needText(condition, `${where}.attribute_condition`),
            ['assertion', 'google', 'attribute'],
            `${where}.attribute_condition`,
          ),
    disabled,
  }
}

function parseMapping(value: unknown, where: string): Map<string, Expression> {
  const mapping = new Map<string, Expression>()
  for (const [target, text] of Object.entries(needRecord(value, where))) {
    if (!TARGET.test(target))
      throw new ConfigError(`${where} has the target ${target}: google.subject, google.groups or attribute.NAME`)
    mapping.set(target, compileCel(needText(text, `${where}["${target}"]`), ['assertion'], `${where}["${target}"]`))
  }
  if (!mapping.has('google.subject')) throw new ConfigError(`${where} has no google.subject`)
  // IAM: at most 50 custom attributes.
  if (mapping.size > 52) throw new ConfigError(`${where} has more than 50 attributes`)
  return mapping
}

const TARGET = /^(?:google\.subject|google\.groups|attribute\.[a-z0-9_]{1,100})$/

function parseAccount(value: unknown, where: string): ServiceAccount {
  const given = needRecord(value, where)
  allowOnly(given, ['email', 'members'], where)
  const email = needText(given['email'], `${where}.email`)
  if (!/^[a-z0-9-]+@[a-z0-9.-]+$/.test(email)) throw new ConfigError(`${where}.email is not one`)
  return { email, members: needTexts(given['members'], `${where}.members`) }
}
