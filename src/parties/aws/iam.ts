// The account: which identity providers it knows, and which roles they may be let into.

import { ConfigError, allowOnly, needList, needRecord, needText, needTexts } from '../shape.ts'
import { needIssuerUrl } from '../trust/issuer-url.ts'
import { parsePolicy } from './policy.ts'
import type { Policy } from './policy.ts'

export interface Provider {
  /** As registered: the `iss` of its tokens, byte by byte. */
  readonly url: string
  /** "Client IDs" in IAM's words: the audiences it may be used with. */
  readonly audiences: readonly string[]
  readonly account: string
  readonly arn: string
}

export interface Role {
  readonly arn: string
  readonly account: string
  readonly name: string
  readonly maxSessionSeconds: number
  readonly trust: Policy
  readonly permissions: readonly Policy[]
}

export interface Iam {
  readonly providers: readonly Provider[]
  readonly roles: readonly Role[]
}

/** The account of the seed: one role, which every Machine of the app `example:weather-cat` may assume. */
export function seedIam(issuer: string): Iam {
  const key = keyPrefix(issuer)
  return parseIam({
    providers: [{ url: issuer, audiences: ['sts.amazonaws.com'] }],
    roles: [
      {
        arn: 'arn:aws:iam::123456789012:role/weather-cat',
        trust: {
          Version: '2012-10-17',
          Statement: [
            {
              Effect: 'Allow',
              Principal: { Federated: providerArn(ACCOUNT, issuer) },
              Action: ['sts:AssumeRoleWithWebIdentity', 'sts:TagSession'],
              Condition: {
                StringEquals: { [`${key}:aud`]: 'sts.amazonaws.com' },
                StringLike: { [`${key}:sub`]: 'example:weather-cat:*' },
              },
            },
          ],
        },
        permissions: [
          {
            Version: '2012-10-17',
            Statement: [{ Effect: 'Allow', Action: 's3:GetObject', Resource: 'arn:aws:s3:::weather-cat/*' }],
          },
        ],
      },
    ],
  })
}

/** `{providers: [{url, audiences}], roles: [{arn, trust, permissions?, max_session_seconds?}]}` */
export function parseIam(value: unknown): Iam {
  const given = needRecord(value, 'iam')
  allowOnly(given, ['providers', 'roles'], 'iam')
  return {
    providers: needList(given['providers'], 'providers').map((one, index) => parseProvider(one, `providers[${index}]`)),
    roles: needList(given['roles'], 'roles').map((one, index) => parseRole(one, `roles[${index}]`)),
  }
}

/** What condition keys begin with, and a provider's ARN ends in: the URL without its scheme. */
export const keyPrefix = (url: string): string => url.replace(/^https?:\/\//, '')

export const providerArn = (account: string, url: string): string =>
  `arn:aws:iam::${account}:oidc-provider/${keyPrefix(url)}`

const ACCOUNT = '123456789012'

function parseProvider(value: unknown, where: string): Provider {
  const given = needRecord(value, where)
  allowOnly(given, ['url', 'audiences', 'account'], where)
  const url = needIssuerUrl(needText(given['url'], `${where}.url`), `${where}.url`)
  const account = given['account'] === undefined ? ACCOUNT : needText(given['account'], `${where}.account`)
  if (!/^\d{12}$/.test(account)) throw new ConfigError(`${where}.account is not twelve digits`)
  const audiences = needTexts(given['audiences'], `${where}.audiences`)
  // Quota "client IDs per OIDC provider".
  if (audiences.length > 100) throw new ConfigError(`${where}.audiences are more than 100`)
  return { url, account, audiences, arn: providerArn(account, url) }
}

function parseRole(value: unknown, where: string): Role {
  const given = needRecord(value, where)
  allowOnly(given, ['arn', 'trust', 'permissions', 'max_session_seconds'], where)
  const arn = needText(given['arn'], `${where}.arn`)
  const [, account, name] = ROLE_ARN.exec(arn) ?? []
  if (account === undefined || name === undefined) throw new ConfigError(`${where}.arn is not the ARN of a role`)
  const { max_session_seconds: most = 3600 } = given
  if (typeof most !== 'number' || !Number.isInteger(most) || most < 3600 || most > 43_200) {
    throw new ConfigError(`${where}.max_session_seconds is not 3600 to 43200`)
  }
  return {
    arn,
    account,
    name,
    maxSessionSeconds: most,
    trust: parsePolicy(given['trust'], 'trust', `${where}.trust`),
    permissions: needList(given['permissions'], `${where}.permissions`).map((one, index) =>
      parsePolicy(one, 'permissions', `${where}.permissions[${index}]`),
    ),
  }
}

/** A path may stand before the name, and is no part of it. */
export const ROLE_ARN = /^arn:aws:iam::(\d{12}):role\/(?:[\w+=,.@-]+\/)*([\w+=,.@-]{1,64})$/
