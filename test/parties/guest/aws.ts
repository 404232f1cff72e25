// A guest's program with AWS's SDK, which is told nothing but its environment.

import { GetObjectCommand, S3Client } from '@aws-sdk/client-s3'
import type { S3ClientConfig } from '@aws-sdk/client-s3'
import { AssumeRoleWithWebIdentityCommand, GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts'
import { fromNodeProviderChain, fromTokenFile } from '@aws-sdk/credential-providers'
import { print, told } from './told.ts'

const OBJECT = { Bucket: 'weather-cat', Key: 'forecast.txt' }

const read = (options: S3ClientConfig = {}): Promise<unknown> =>
  told(async () => (await new S3Client(options).send(new GetObjectCommand(OBJECT))).Body?.transformToString())

const TASKS: Record<string, () => Promise<unknown>> = {
  read: async () => {
    const s3 = new S3Client({})
    return {
      default: await read(),
      chain: await read({ credentials: fromNodeProviderChain() }),
      file: await read({ credentials: fromTokenFile() }),
      who: await told(() => new STSClient({}).send(new GetCallerIdentityCommand({}))),
      missing: await told(() => s3.send(new GetObjectCommand({ ...OBJECT, Key: 'none' }))),
      expires: (await s3.config.credentials()).expiration,
    }
  },
  once: () => read({ maxAttempts: 1 }),
  retry: async () => ({ read: await read() }),
  narrowed: async () => ({
    wide: await narrowed('*'),
    narrow: await narrowed('arn:aws:s3:::weather-cat/other'),
    tag: await narrowed('arn:aws:s3:::${aws:PrincipalTag/app_name}/forecast.txt'),
    none: await narrowed('arn:aws:s3:::${aws:PrincipalTag/none}/forecast.txt'),
  }),
}

/** With a session policy that permits this resource only. */
const narrowed = (resource: string): Promise<unknown> =>
  told(async () => {
    const Policy = JSON.stringify({
      Version: '2012-10-17',
      Statement: { Effect: 'Allow', Action: 's3:*', Resource: resource },
    })
    const asked = {
      RoleArn: process.env['AWS_ROLE_ARN'],
      RoleSessionName: 'cat',
      WebIdentityToken: process.env['TOKEN'],
      DurationSeconds: 900,
      Policy,
    }
    const { Credentials: got } = await new STSClient({}).send(new AssumeRoleWithWebIdentityCommand(asked))
    return read({
      credentials: {
        accessKeyId: got?.AccessKeyId ?? '',
        secretAccessKey: got?.SecretAccessKey ?? '',
        sessionToken: got?.SessionToken ?? '',
      },
    })
  })

print(await TASKS[process.argv[2] ?? '']?.())
