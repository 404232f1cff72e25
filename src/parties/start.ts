// All relying parties at once, for `dotfly mock`: each on a loopback port of its own, each seeded for the org `example`
// and its app weather-cat, with more from a file where there is one.

import { readFile } from 'node:fs/promises'
import { reason, unreadable } from '../errors.ts'
import { parseIam, seedIam, keyPrefix } from './aws/iam.ts'
import type { Iam } from './aws/iam.ts'
import { SEED_OBJECTS, startS3 } from './aws/s3.ts'
import { Sessions } from './aws/sessions.ts'
import { startSts } from './aws/sts.ts'
import { SEED_CLIENT, SEED_TENANT, parseApplications, seedApplications } from './azure/application.ts'
import { startAzure } from './azure/azure.ts'
import { startGcp } from './gcp/gcp.ts'
import { SEED_ACCOUNT, SEED_PROVIDER, parseProject, seedProject } from './gcp/pool.ts'
import { seedRules, startAnthropic } from './generic/anthropic.ts'
import { SEED_AUDIENCE, startRelyingParty } from './generic/relying-party.ts'
import type { Party } from './serve.ts'
import { ConfigError, allowOnly, needRecord } from './shape.ts'

export interface PartiesOptions {
  /** `base` is what `iss` begins with, `url` where the documents below it are really fetched. */
  readonly issuer: { readonly base: string; readonly url: string }
  /**
   * A JSON file `{iam?, gcp?, azure?}` that adds to the seed. In it `{issuer}` stands for the issuer's base and
   * `{issuer_key}` for the same without its scheme, as IAM's condition keys have it: the port is another in each run.
   */
  readonly file?: string
  /** Unix ms. */
  readonly now?: () => number
}

export interface Parties {
  /** For mock.json. */
  readonly json: {
    readonly sts: { readonly url: string; readonly role_arn: string }
    readonly s3: { readonly url: string; readonly object: string }
    readonly gcp: { readonly url: string; readonly audience: string; readonly service_account: string }
    readonly azure: { readonly url: string; readonly tenant: string; readonly client_id: string }
    readonly generic: { readonly url: string; readonly audience: string }
    readonly anthropic: {
      readonly url: string
      readonly audience: string
      readonly organization_id: string
      readonly federation_rule_id: string
    }
  }
  /** PEM: what clients of `azure.url` must trust. */
  readonly azureCa: string
  close(): Promise<void>
}

export async function startParties({ issuer, file, now = Date.now }: PartiesOptions): Promise<Parties> {
  const iss = `${issuer.base}/example`
  const { iam, project, applications } = await configure(iss, issuer.base, file)
  const reach = issuer.base === issuer.url ? {} : { via: { [issuer.base]: issuer.url } }
  const sessions = new Sessions()
  const rules = seedRules(iss)
  const running: Party[] = []
  const keep = <P extends Party>(party: P): P => {
    running.push(party)
    return party
  }
  const close = async (): Promise<void> => {
    await Promise.all(running.map((party) => party.close()))
  }
  try {
    const sts = keep(await startSts({ iam, sessions, reach, now }))
    const s3 = keep(await startS3({ sessions, objects: SEED_OBJECTS, now }))
    const gcp = keep(await startGcp({ project, reach, now }))
    const azure = keep(await startAzure({ applications, reach, now }))
    const generic = keep(await startRelyingParty({ expected: { issuer: iss, audience: SEED_AUDIENCE }, reach, now }))
    const anthropic = keep(await startAnthropic({ rules, reach, now }))
    return {
      json: {
        sts: { url: sts.url, role_arn: iam.roles[0]?.arn ?? '' },
        s3: { url: s3.url, object: Object.keys(SEED_OBJECTS)[0] ?? '' },
        gcp: { url: gcp.url, audience: `//iam.googleapis.com/${SEED_PROVIDER}`, service_account: SEED_ACCOUNT },
        azure: { url: azure.url, tenant: SEED_TENANT, client_id: SEED_CLIENT },
        generic: { url: generic.url, audience: SEED_AUDIENCE },
        anthropic: {
          url: anthropic.url,
          audience: rules[0]?.audience ?? '',
          organization_id: rules[0]?.organization ?? '',
          federation_rule_id: rules[0]?.id ?? '',
        },
      },
      azureCa: azure.ca,
      close,
    }
  } catch (error) {
    // One port that is taken must not leave the others listening.
    await close()
    throw error
  }
}

interface Configured {
  readonly iam: Iam
  readonly project: ReturnType<typeof parseProject>
  readonly applications: ReturnType<typeof parseApplications>
}

async function configure(iss: string, base: string, file: string | undefined): Promise<Configured> {
  const seed = { iam: seedIam(iss), project: seedProject(iss), applications: seedApplications(iss) }
  if (file === undefined) return seed
  const text = await readFile(file, 'utf8').catch((caught: unknown) => {
    throw new ConfigError(`parties file ${file} ${unreadable(caught)}: name another, or leave it out`, {
      cause: caught,
    })
  })
  try {
    const filled = text.replaceAll('{issuer}', base).replaceAll('{issuer_key}', keyPrefix(base))
    const given = needRecord(JSON.parse(filled), 'the file')
    allowOnly(given, ['iam', 'gcp', 'azure'], 'the file')
    const [iam, project, applications] = [
      parseIam(given['iam'] ?? {}),
      parseProject(given['gcp'] ?? {}),
      parseApplications(given['azure']),
    ]
    return {
      iam: { providers: [...seed.iam.providers, ...iam.providers], roles: [...seed.iam.roles, ...iam.roles] },
      project: {
        providers: [...seed.project.providers, ...project.providers],
        serviceAccounts: [...seed.project.serviceAccounts, ...project.serviceAccounts],
      },
      applications: [...seed.applications, ...applications],
    }
  } catch (caught) {
    throw new ConfigError(`${file}: ${reason(caught)}`, { cause: caught })
  }
}
