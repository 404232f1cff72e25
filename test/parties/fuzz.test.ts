// Whatever is sent or configured: an answer of the protocol's, never a fault of the mock.

import * as fc from 'fast-check'
import { test } from 'tap'
import { Agent, request } from 'undici'
import { matches } from '../../src/parties/aws/pattern.ts'
import { parsePolicy } from '../../src/parties/aws/policy.ts'
import { parseIam } from '../../src/parties/aws/iam.ts'
import { parseApplications } from '../../src/parties/azure/application.ts'
import { CelError, compileCel } from '../../src/parties/gcp/cel.ts'
import { parseProject } from '../../src/parties/gcp/pool.ts'
import { ConfigError } from '../../src/parties/shape.ts'
import { startParties } from '../../src/parties/start.ts'
import { flyClaims, forge, KEY, startTestIssuer } from './support.ts'

test('no request makes a party fail', async (t) => {
  const issuer = await startTestIssuer()
  const parties = await startParties({ issuer: { base: issuer.url, url: issuer.url } })
  const dispatcher = new Agent({ connect: { ca: parties.azureCa } })
  t.teardown(async () => {
    await dispatcher.close()
    await Promise.all([issuer.close(), parties.close()])
  })
  const { sts, s3, gcp, azure, generic, anthropic } = parties.json
  const signed = await issuer.sign()
  const some = <const T>(...values: T[]): fc.Arbitrary<T> => fc.constantFrom(...values)
  const claims = fc.dictionary(
    some('iss', 'sub', 'aud', 'exp', 'iat', 'nbf', 'azp', 'amr', 'https://aws.amazon.com/tags'),
    fc.jsonValue(),
    { maxKeys: 3 },
  )
  const token = fc.oneof(
    fc.string(),
    some(signed, ''),
    fc
      .tuple(claims, fc.dictionary(some('alg', 'kid', 'crit', 'jku'), fc.jsonValue()))
      .map(([over, header]) =>
        forge({ alg: 'RS256', kid: KEY.jwk.kid, ...header }, { ...flyClaims(issuer.iss), ...over }, 'AAAA'),
      ),
  )
  const signedClaims = claims.map((over) => ({ over }))
  const form = fc.dictionary(
    some(
      'Action',
      'Version',
      'RoleArn',
      'RoleSessionName',
      'DurationSeconds',
      'Policy',
      'grant_type',
      'audience',
      'scope',
      'client_id',
      'subject_token_type',
    ),
    fc.oneof(
      fc.string(),
      some(
        'AssumeRoleWithWebIdentity',
        'GetCallerIdentity',
        '2011-06-15',
        sts.role_arn,
        'cat',
        '{"Statement":[]}',
        gcp.audience,
      ),
    ),
  )
  const full = {
    Action: 'AssumeRoleWithWebIdentity',
    Version: '2011-06-15',
    RoleArn: sts.role_arn,
    RoleSessionName: 'cat',
  }
  const path = fc.oneof(
    fc.webPath(),
    some(
      '/',
      '/v1/token',
      '/v1/oauth/token',
      '/whoami',
      '/weather-cat/forecast.txt',
      `/${azure.tenant}/oauth2/v2.0/token`,
      '/%',
      '/%ff/a',
      '//a',
    ),
  )
  const headers = fc.dictionary(
    some(
      'authorization',
      'x-amz-date',
      'x-amz-security-token',
      'x-amz-content-sha256',
      'anthropic-beta',
      'content-type',
    ),
    fc.oneof(
      fc.stringMatching(/^[!-~ ]*$/),
      some(
        'AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host, Signature=f',
        'Bearer x',
        'application/json',
        'application/x-www-form-urlencoded',
      ),
    ),
  )
  const send = async (
    url: string,
    at: string,
    method: 'GET' | 'POST' | 'HEAD',
    head: Record<string, string>,
    body: string | null,
  ): Promise<void> => {
    const answer = await request(url + at, {
      dispatcher,
      method,
      headers: head,
      ...(method === 'POST' ? { body } : {}),
    })
    const text = await answer.body.text()
    if (answer.statusCode === 500) throw new Error(`${method} ${at}: ${text}`)
  }
  const urls = some(sts.url, s3.url, gcp.url, azure.url, generic.url, anthropic.url)
  await fc.assert(
    fc.asyncProperty(
      urls,
      path,
      some('GET', 'POST', 'HEAD'),
      headers,
      fc.oneof(fc.string(), fc.json()),
      (url, at, method, head, body) => send(url, at, method, head, body),
    ),
    { numRuns: 400 },
  )
  const asForm = { 'content-type': 'application/x-www-form-urlencoded' }
  await fc.assert(
    fc.asyncProperty(
      some(sts.url, `${gcp.url}/v1/token`, `${azure.url}/${azure.tenant}/oauth2/v2.0/token`),
      form,
      token,
      (url, fields, compact) => {
        const body = new URLSearchParams({
          ...full,
          ...fields,
          WebIdentityToken: compact,
          subject_token: compact,
          client_assertion: compact,
        })
        return send(url, '', 'POST', asForm, String(body))
      },
    ),
    { numRuns: 300 },
  )
  await fc.assert(
    fc.asyncProperty(signedClaims, async ({ over }) =>
      send(
        sts.url,
        '/',
        'POST',
        asForm,
        String(new URLSearchParams({ ...full, WebIdentityToken: await issuer.sign(over) })),
      ),
    ),
    { numRuns: 150 },
  )
  t.pass()
})

test('no configuration makes a reader fail otherwise than by a ConfigError', async (t) => {
  const only = (read: () => unknown): void => {
    try {
      read()
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error
    }
  }
  const like = (...names: string[]): fc.Arbitrary<unknown> =>
    fc.letrec((tie) => ({
      value: fc.oneof(
        { maxDepth: 5 },
        fc.string(),
        fc.constantFrom('Allow', '*', 'https://a.example/b', 'true', 'assertion.sub'),
        fc.boolean(),
        fc.array(tie('value'), { maxLength: 3 }),
        tie('object'),
      ),
      object: fc.dictionary(fc.constantFrom(...names), tie('value'), { maxKeys: 6 }),
    })).value
  const policy = like(
    'Version',
    'Statement',
    'Effect',
    'Principal',
    'Federated',
    'Action',
    'Resource',
    'Condition',
    'StringLike',
    '__proto__',
  )
  fc.assert(
    fc.property(policy, fc.constantFrom('trust' as const, 'permissions' as const), (value, kind) =>
      only(() => parsePolicy(value, kind, 'p')),
    ),
  )
  fc.assert(
    fc.property(like('providers', 'roles', 'url', 'audiences', 'arn', 'trust', 'Statement'), (value) =>
      only(() => parseIam(value)),
    ),
  )
  fc.assert(
    fc.property(
      like('providers', 'service_accounts', 'name', 'issuer', 'attribute_mapping', 'google.subject'),
      (value) => only(() => parseProject(value)),
    ),
  )
  fc.assert(
    fc.property(like('tenant', 'client_id', 'credentials', 'subject'), (value) => only(() => parseApplications(value))),
  )
  t.pass()
})

test('a pattern matches what the regular expression of the same meaning matches', async (t) => {
  const letters = fc
    .array(fc.constantFrom('a', 'b', ':', '*', '?', '.', 'ü', '😀'), { maxLength: 8 })
    .map((list) => list.join(''))
  fc.assert(
    fc.property(letters, letters, (pattern, text) => {
      const source = Array.from(pattern, (char) =>
        char === '*' ? '[^]*' : char === '?' ? '[^]' : char.replace('.', '\\.'),
      ).join('')
      return (
        matches(pattern, text, true) === new RegExp(`^${source}$`, 'u').test(text) &&
        matches(pattern, text, false) === (pattern === text)
      )
    }),
    { numRuns: 3000 },
  )
  const long = 'a'.repeat(20_000)
  // With a way back for each star it would take years, and the test its time-out.
  t.notOk(matches('*a*a*a*a*a*b', long, true))
})

test('an expression is refused when read, or says something, or fails as an expression', async (t) => {
  const words = fc.constantFrom(
    'assertion',
    '.sub',
    '.list',
    '[0]',
    '["sub"]',
    '==',
    '!=',
    '&&',
    '||',
    '!',
    '-',
    '+',
    'in',
    '(',
    ')',
    '[',
    ']',
    ',',
    '?',
    ':',
    '"a"',
    "'b'",
    '7',
    'true',
    'null',
    'has',
    'size',
    '.startsWith',
    '.extract',
    '{',
    '\\',
    '"',
  )
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(words, { maxLength: 12 }).map((list) => list.join(' ')),
      ),
      (text) => {
        try {
          compileCel(text, ['assertion'], 'c')({ assertion: { sub: 'acme:api:m', list: ['a'] } })
        } catch (error) {
          if (!(error instanceof ConfigError) && !(error instanceof CelError)) throw error
        }
      },
    ),
    { numRuns: 5000 },
  )
  t.pass()
})
