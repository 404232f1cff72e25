// Signature Version 4 on the wire, against a signer written here from AWS's description and not from src: S3 and
// GetCallerIdentity. That both agree with the SDKs' signers is shown in aws-sdk.test.ts.

import { createHash, createHmac } from 'node:crypto'
import { test } from 'tap'
import type { Test } from 'tap'
import { seedIam } from '../../src/parties/aws/iam.ts'
import { parsePolicy } from '../../src/parties/aws/policy.ts'
import { SEED_OBJECTS, startS3 } from '../../src/parties/aws/s3.ts'
import { Sessions } from '../../src/parties/aws/sessions.ts'
import type { Session } from '../../src/parties/aws/sessions.ts'
import { startSts } from '../../src/parties/aws/sts.ts'

const NOW = Date.parse('2026-11-23T19:48:42Z')
const OBJECT = '/weather-cat/forecast.txt'

async function start(
  t: Test,
  permissions?: object[],
): Promise<{ s3: string; sts: string; session: Session; sessions: Sessions; clock: { now: number } }> {
  const sessions = new Sessions()
  const clock = { now: NOW }
  const now = (): number => clock.now
  const objects = { ...SEED_OBJECTS, "weather-cat/a b/ü+*'(1).txt": 'odd\n', 'other/secret': 'secret\n' }
  const [s3, sts] = await Promise.all([
    startS3({ sessions, objects, now }),
    startSts({ iam: seedIam('https://oidc.fly.io/example'), sessions, now }),
  ])
  t.teardown(() => Promise.all([s3.close(), sts.close()]))
  const role =
    permissions === undefined
      ? seedRole()
      : {
          ...seedRole(),
          permissions: permissions.map((one) =>
            parsePolicy({ Version: '2012-10-17', Statement: one }, 'permissions', 'p'),
          ),
        }
  const session = sessions.open({ role, name: 'cat', expires: NOW + 3_600_000, tags: undefined, narrowed: undefined })
  return { s3: s3.url, sts: sts.url, session, sessions, clock }
}

function seedRole(): ReturnType<typeof seedIam>['roles'][number] {
  const [role] = seedIam('https://oidc.fly.io/example').roles
  if (role === undefined) throw new TypeError('the seed has a role')
  return role
}

interface Sign {
  url: string
  session: Pick<Session, 'accessKeyId' | 'secretAccessKey' | 'sessionToken'>
  method?: string
  service?: string
  region?: string
  day?: string
  stamp?: string
  body?: string
  headers?: Record<string, string>
  unsigned?: string[]
  /** What is changed after signing. */
  after?: (request: { url: string; method: string; headers: Record<string, string>; body: string }) => void
}

const sha = (text: string): string => createHash('sha256').update(text).digest('hex')

async function send(sign: Sign): Promise<{ status: number; text: string; code: string | undefined }> {
  const {
    url,
    session,
    method = 'GET',
    service = 's3',
    region = 'us-east-1',
    stamp = '20261123T194842Z',
    day = '20261123',
    body = '',
    unsigned = [],
    after,
  } = sign
  const { host, pathname, searchParams } = new URL(url)
  const headers: Record<string, string> = {
    host,
    'x-amz-date': stamp,
    'x-amz-security-token': session.sessionToken,
    ...(service === 's3' ? { 'x-amz-content-sha256': sha(body) } : {}),
    ...sign.headers,
  }
  const names = Object.keys(headers)
    .filter((name) => !unsigned.includes(name))
    .sort()
  const strict = (text: string): string =>
    encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`)
  const path = pathname
    .split('/')
    .map((part) => strict(decodeURIComponent(part)))
    .join('/')
  const query = [...searchParams]
    .map(([name, value]) => `${strict(name)}=${strict(value)}`)
    .sort()
    .join('&')
  const canonical = [
    method,
    path,
    query,
    ...names.map((name) => `${name}:${headers[name]?.trim()}`),
    '',
    names.join(';'),
    headers['x-amz-content-sha256'] ?? sha(body),
  ].join('\n')
  const scope = `${day}/${region}/${service}/aws4_request`
  const hmac = (key: Buffer | string, text: string): Buffer => createHmac('sha256', key).update(text).digest()
  const key = hmac(hmac(hmac(hmac(`AWS4${session.secretAccessKey}`, day), region), service), 'aws4_request')
  const signature = hmac(key, ['AWS4-HMAC-SHA256', stamp, scope, sha(canonical)].join('\n')).toString('hex')
  headers['authorization'] =
    `AWS4-HMAC-SHA256 Credential=${session.accessKeyId}/${scope}, SignedHeaders=${names.join(';')}, Signature=${signature}`
  const request = { url, method, headers, body }
  after?.(request)
  delete headers['host']
  const response = await fetch(request.url, {
    method: request.method,
    headers,
    ...(request.body === '' ? {} : { body: request.body }),
  })
  const text = await response.text()
  return { status: response.status, text, code: /<Code>([^<]*)/.exec(text)?.[1] }
}

test('GetObject with the session reads, without it nothing does', async (t) => {
  const { s3, session } = await start(t)
  const answer = await send({ url: s3 + OBJECT, session })
  t.same([answer.status, answer.text], [200, 'meow, with a chance of rain\n'])
  t.same(await send({ url: s3 + OBJECT, session, method: 'HEAD' }), { status: 200, text: '', code: undefined })
  t.equal((await send({ url: s3 + OBJECT, session, region: 'ca-central-1' })).status, 200, 'any region')
  t.equal((await send({ url: `${s3}${OBJECT}?x-id=GetObject&a=b%20c&a=`, session })).status, 200, 'a query')
  t.equal(
    (await send({ url: `${s3}/weather-cat/a%20b/%C3%BC%2B%2A%27%281%29.txt`, session })).text,
    'odd\n',
    'an odd key',
  )
  const anonymous = await fetch(s3 + OBJECT)
  t.equal(anonymous.status, 403)
  t.match(
    await anonymous.text(),
    /^<\?xml version="1\.0" encoding="UTF-8"\?>\n<Error><Code>AccessDenied<\/Code><Message>Access Denied<\/Message>/,
  )
})

test('every way for a signature not to be good', async (t) => {
  const { s3, session, sessions } = await start(t)
  const url = s3 + OBJECT
  const other = sessions.open({
    role: session.role,
    name: 'dog',
    expires: NOW + 1,
    tags: undefined,
    narrowed: undefined,
  })
  const change =
    (name: string, value: string): NonNullable<Sign['after']> =>
    ({ headers }) =>
      (headers[name] = value)
  const auth =
    (from: string | RegExp, to: string): NonNullable<Sign['after']> =>
    ({ headers }) =>
      (headers['authorization'] = headers['authorization']?.replace(from, to) ?? '')
  const rows: [name: string, sign: Partial<Sign>, status: number, code: string][] = [
    ['another secret', { session: { ...session, secretAccessKey: 'x' } }, 403, 'SignatureDoesNotMatch'],
    ['an unknown key', { session: { ...session, accessKeyId: 'ASIAAAAAAAAAAAAAAAAA' } }, 403, 'InvalidAccessKeyId'],
    ['another session token', { session: { ...session, sessionToken: other.sessionToken } }, 400, 'InvalidToken'],
    ['no session token', { after: ({ headers }) => delete headers['x-amz-security-token'] }, 400, 'InvalidToken'],
    [
      'a changed path',
      { after: (request) => (request.url = `${s3}/weather-cat/a%20b/%C3%BC%2B%2A%27%281%29.txt`) },
      403,
      'SignatureDoesNotMatch',
    ],
    ['an added query', { after: (request) => (request.url += '?versionId=1') }, 403, 'SignatureDoesNotMatch'],
    [
      'a changed method',
      { method: 'HEAD', after: (request) => (request.method = 'GET') },
      403,
      'SignatureDoesNotMatch',
    ],
    [
      'a changed signed header',
      { headers: { 'x-amz-meta': 'a' }, after: change('x-amz-meta', 'b') },
      403,
      'SignatureDoesNotMatch',
    ],
    ['an added amz header', { after: change('x-amz-acl', 'public-read') }, 403, 'AccessDenied'],
    ['an unsigned host', { unsigned: ['host'] }, 403, 'AccessDenied'],
    ['an unsigned date', { unsigned: ['x-amz-date'] }, 403, 'AccessDenied'],
    ['no date', { after: ({ headers }) => delete headers['x-amz-date'] }, 400, 'AuthorizationHeaderMalformed'],
    ['an old signature', { stamp: '20261123T193341Z' }, 403, 'RequestTimeTooSkewed'],
    ['a signature of the future', { stamp: '20261123T200343Z' }, 403, 'RequestTimeTooSkewed'],
    ['a date that is none', { stamp: '20261123T999999Z' }, 403, 'RequestTimeTooSkewed'],
    ['another day in the scope', { day: '20261122' }, 400, 'AuthorizationHeaderMalformed'],
    [
      'another service',
      { service: 'sts', headers: { 'x-amz-content-sha256': sha('') } },
      400,
      'AuthorizationHeaderMalformed',
    ],
    [
      'a scope that ends otherwise',
      { after: auth('aws4_request', 'aws4_requests') },
      400,
      'AuthorizationHeaderMalformed',
    ],
    ['a flipped bit', { after: auth(/.$/, 'g') }, 403, 'SignatureDoesNotMatch'],
    ['a short signature', { after: auth(/.$/, '') }, 403, 'SignatureDoesNotMatch'],
    ['no signature', { after: auth(/, Signature=.*/, '') }, 400, 'AuthorizationHeaderMalformed'],
    ['no scope', { after: auth(/Credential=[^,]*/, 'Credential=x') }, 400, 'AuthorizationHeaderMalformed'],
    ['another scheme', { after: change('authorization', 'Bearer x') }, 400, 'AuthorizationHeaderMalformed'],
    [
      'a body that is not the one stated',
      { method: 'PUT', body: 'a', after: (request) => (request.body = 'b') },
      400,
      'XAmzContentSHA256Mismatch',
    ],
    ['a good one of a method that is not served', { method: 'DELETE' }, 405, 'MethodNotAllowed'],
  ]
  for (const [name, sign, status, code] of rows) {
    const answer = await send({ url, session, ...sign })
    t.same([answer.status, answer.code], [status, code], name)
  }
  t.equal(
    (await send({ url, session, headers: { 'x-amz-content-sha256': 'UNSIGNED-PAYLOAD' } })).status,
    200,
    'S3 allows an unsigned body',
  )
  t.equal((await fetch(`${s3}/%ff`, { headers: { authorization: 'AWS4-HMAC-SHA256 Credential=x' } })).status, 400)
})

/** A URL that carries its signature. `change` sees the query before it is signed. */
function presign(url: string, session: Session, change: (query: URLSearchParams) => void = () => {}): string {
  const { host, pathname } = new URL(url)
  const query = new URLSearchParams({
    'X-Amz-Algorithm': 'AWS4-HMAC-SHA256',
    'X-Amz-Credential': `${session.accessKeyId}/20261123/us-east-1/s3/aws4_request`,
    'X-Amz-Date': '20261123T194842Z',
    'X-Amz-Expires': '900',
    'X-Amz-Security-Token': session.sessionToken,
    'X-Amz-SignedHeaders': 'host',
  })
  change(query)
  const canonical = [...query]
    .map(([name, value]) => `${name}=${encodeURIComponent(value)}`)
    .sort()
    .join('&')
  const hmac = (key: Buffer | string, text: string): Buffer => createHmac('sha256', key).update(text).digest()
  const key = ['20261123', 'us-east-1', 's3', 'aws4_request'].reduce<Buffer | string>(
    hmac,
    `AWS4${session.secretAccessKey}`,
  )
  const text = ['GET', pathname, canonical, `host:${host}`, '', 'host', 'UNSIGNED-PAYLOAD'].join('\n')
  const scope = '20261123/us-east-1/s3/aws4_request'
  return `${url}?${canonical}&X-Amz-Signature=${hmac(key, ['AWS4-HMAC-SHA256', query.get('X-Amz-Date'), scope, sha(text)].join('\n')).toString('hex')}`
}

test('a presigned URL', async (t) => {
  const { s3, session, clock } = await start(t)
  const url = s3 + OBJECT
  const get = async (signed: string, headers: Record<string, string> = {}): Promise<[number, string | undefined]> => {
    const response = await fetch(signed, { headers })
    return [response.status, /<Code>([^<]*)/.exec(await response.text())?.[1]]
  }
  t.same(await get(presign(url, session)), [200, undefined])
  t.same(await get(`${presign(url, session)}&versionId=1`), [403, 'SignatureDoesNotMatch'])
  t.same(await get(presign(url, session).replace('forecast', 'forecasts')), [403, 'SignatureDoesNotMatch'])
  t.same(
    await get(presign(url, session), { 'x-amz-acl': 'private' }),
    [403, 'AccessDenied'],
    'a header that is not signed',
  )
  for (const seconds of ['0', '604801', 'x', '1.5']) {
    t.same(
      await get(presign(url, session, (query) => query.set('X-Amz-Expires', seconds))),
      [400, 'AuthorizationHeaderMalformed'],
      seconds,
    )
  }
  t.same(await get(presign(url, session, (query) => query.set('X-Amz-Algorithm', 'AWS4-HMAC-SHA1'))), [
    400,
    'AuthorizationHeaderMalformed',
  ])
  t.same(await get(presign(url, session, (query) => query.delete('X-Amz-Security-Token'))), [400, 'InvalidToken'])
  t.same(await get(presign(url, session, (query) => query.set('X-Amz-Date', '20261123T235959Z'))), [
    403,
    'RequestTimeTooSkewed',
  ])
  clock.now = NOW + 899_999
  t.same(await get(presign(url, session)), [200, undefined])
  clock.now = NOW + 900_000
  t.same(await get(presign(url, session)), [403, 'AccessDenied'], 'its time is over')
})

test('a session ends when it says', async (t) => {
  const { s3, sts, session, clock } = await start(t)
  clock.now = session.expires - 1
  const stamp = '20261123T204841Z'
  t.equal((await send({ url: s3 + OBJECT, session, stamp })).status, 200)
  clock.now = session.expires
  t.match(await send({ url: s3 + OBJECT, session, stamp }), { status: 400, code: 'ExpiredToken' })
  t.match(await send({ url: `${sts}/?Action=GetCallerIdentity&Version=2011-06-15`, session, stamp, service: 'sts' }), {
    status: 403,
    code: 'ExpiredToken',
  })
})

test('a role reads what it is permitted to', async (t) => {
  const allow = (over: object): object => ({ Effect: 'Allow', Action: 's3:GetObject', Resource: '*', ...over })
  for (const [name, permissions, path, status, code] of [
    ['another bucket', undefined, '/other/secret', 403, 'AccessDenied'],
    ['no such key, to one who may not list', undefined, '/weather-cat/none', 403, 'AccessDenied'],
    [
      'no such key, to one who may',
      [allow({}), allow({ Action: 's3:ListBucket' })],
      '/weather-cat/none',
      404,
      'NoSuchKey',
    ],
    ['no such bucket', [allow({ Action: 's3:*' })], '/none/none', 404, 'NoSuchBucket'],
    ['no permissions', [], OBJECT, 403, 'AccessDenied'],
    [
      'a Deny in another policy',
      [allow({}), { Effect: 'Deny', Action: 's3:*', Resource: '*/forecast.txt' }],
      OBJECT,
      403,
      'AccessDenied',
    ],
    [
      'a tag that the session has not',
      [allow({ Condition: { StringEquals: { 'aws:PrincipalTag/team': 'x' } } })],
      OBJECT,
      403,
      'AccessDenied',
    ],
    ['a bucket', [allow({ Action: 's3:*' })], '/weather-cat', 405, 'MethodNotAllowed'],
  ] as const) {
    const { s3, session } = await start(t, permissions === undefined ? undefined : [...permissions])
    t.match(await send({ url: s3 + path, session }), { status, code }, name)
  }
})

test('a session sees its tags, and what it was narrowed to', async (t) => {
  const condition = { StringEquals: { 'aws:PrincipalTag/Team': 'x' } }
  const { s3, session, sessions } = await start(t, [
    {
      Effect: 'Allow',
      Action: 's3:GetObject',
      Resource: 'arn:aws:s3:::${aws:PrincipalTag/bucket}/*',
      Condition: condition,
    },
  ])
  const tags = {
    principal: new Map([
      ['team', { key: 'Team', value: 'x' }],
      ['bucket', { key: 'bucket', value: 'weather-cat' }],
    ]),
    transitive: [],
  }
  const opened = { role: session.role, name: 'cat', expires: session.expires, tags }
  t.equal((await send({ url: s3 + OBJECT, session: sessions.open({ ...opened, narrowed: undefined }) })).status, 200)
  const narrow = (resource: string): Session =>
    sessions.open({
      ...opened,
      narrowed: parsePolicy({ Statement: { Effect: 'Allow', Action: '*', Resource: resource } }, 'permissions', 'p'),
    })
  t.equal((await send({ url: s3 + OBJECT, session: narrow('arn:aws:s3:::weather-cat/fore*') })).status, 200)
  t.equal((await send({ url: s3 + OBJECT, session: narrow('arn:aws:s3:::weather-cat/back*') })).status, 403)
  t.equal((await send({ url: `${s3}/other/secret`, session: narrow('*') })).status, 403, 'a narrowing grants nothing')
})

test('GetCallerIdentity tells who signed', async (t) => {
  const { sts, session } = await start(t)
  const body = 'Action=GetCallerIdentity&Version=2011-06-15'
  const headers = { 'content-type': 'application/x-www-form-urlencoded' }
  const ask = (over: Partial<Sign>): ReturnType<typeof send> =>
    send({ url: `${sts}/`, session, method: 'POST', service: 'sts', body, headers, ...over })
  const answer = await ask({})
  t.equal(answer.status, 200)
  t.match(
    answer.text,
    /^<GetCallerIdentityResponse xmlns="https:\/\/sts\.amazonaws\.com\/doc\/2011-06-15\/"><GetCallerIdentityResult><Arn>arn:aws:sts::123456789012:assumed-role\/weather-cat\/cat<\/Arn><UserId>AROA[A-Z2-7]{17}:cat<\/UserId><Account>123456789012<\/Account>/,
  )
  t.match(await ask({ session: { ...session, accessKeyId: 'ASIAX' } }), { status: 403, code: 'InvalidClientTokenId' })
  t.match(await ask({ session: { ...session, secretAccessKey: 'x' } }), { status: 403, code: 'SignatureDoesNotMatch' })
  t.equal((await ask({ stamp: '20261123T194343Z' })).status, 200)
  t.match(await ask({ stamp: '20261123T194341Z' }), { status: 403, code: 'SignatureDoesNotMatch' })
  t.match(await ask({ after: (request) => (request.body = `${body}&Version=2011-06-15`) }), {
    status: 403,
    code: 'SignatureDoesNotMatch',
  })
  t.match(await ask({ after: ({ headers: sent }) => (sent['authorization'] = 'AWS4-HMAC-SHA256 x') }), {
    status: 400,
    code: 'IncompleteSignature',
  })
})
