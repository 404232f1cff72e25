// AWS's own exchange, for tools that run a command and want keys from it: a token in, keys of an hour out. Nothing else
// of AWS is here; programs with an SDK exchange their token file themselves.

import { request } from 'undici'
import { Failure } from '../errors.ts'

export interface StsRequest {
  readonly endpoint: string
  readonly role: string
  readonly session: string
  readonly token: string
  readonly timeout: number
}

export interface AwsKeys {
  readonly id: string
  readonly secret: string
  readonly session: string
  /** As STS wrote it, ISO 8601. */
  readonly expires: string
}

/** Where STS is: as the SDKs find it. */
export function stsEndpoint(env: Readonly<Record<string, string | undefined>>, role: string): string {
  const region = env['AWS_REGION'] || env['AWS_DEFAULT_REGION'] || ''
  const suffix = role.startsWith('arn:aws-cn:') ? 'amazonaws.com.cn' : 'amazonaws.com'
  const named = env['AWS_ENDPOINT_URL_STS'] || env['AWS_ENDPOINT_URL'] || ''
  if (named !== '') return named
  return /^[a-z0-9-]{1,32}$/.test(region) ? `https://sts.${region}.${suffix}/` : `https://sts.${suffix}/`
}

/** Throws a Failure with STS's code, which is one word; its message may repeat the token. */
export async function assumeRole({ endpoint, role, session, token, timeout }: StsRequest): Promise<AwsKeys> {
  if (!URL.canParse(endpoint)) throw new Failure('the endpoint of AWS STS is not a URL: see AWS_ENDPOINT_URL_STS')
  let status: number
  let text: string
  try {
    const answer = await request(endpoint, {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams({
        Action: 'AssumeRoleWithWebIdentity',
        Version: '2011-06-15',
        RoleArn: role,
        RoleSessionName: session,
        WebIdentityToken: token,
      }).toString(),
      signal: AbortSignal.timeout(timeout),
    })
    status = answer.statusCode
    text = await answer.body.text()
  } catch (caught) {
    throw new Failure(`AWS STS cannot be reached at ${new URL(endpoint).host}`, { cause: caught })
  }
  if (status !== 200) {
    const code = /<Code>([A-Za-z.]{1,64})<\/Code>/.exec(text)?.[1] ?? `status ${status}`
    throw new Failure(`AWS STS refused the token (${code}): dotfly doctor --trust-policy FILE may tell why`)
  }
  const field = (name: string): string => {
    const value = new RegExp(`<${name}>([A-Za-z0-9+/=:._-]{1,8192})</${name}>`).exec(text)?.[1]
    if (value === undefined) throw new Failure(`AWS STS answered without ${name}`)
    return value
  }
  return {
    id: field('AccessKeyId'),
    secret: field('SecretAccessKey'),
    session: field('SessionToken'),
    expires: field('Expiration'),
  }
}
