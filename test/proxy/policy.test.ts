// Policy: a request in, what goes to flyd or a code out.

import { test } from 'tap'
import { compile, methodsOf } from '../../src/proxy/policy.ts'
import type { Ask, Policy } from '../../src/proxy/policy.ts'
import type { Request } from '../../src/proxy/request.ts'
import { APP, MACHINE, OWN } from '../support/corpus.ts'

const POLICY: Policy = { preset: 'self', allow: [], audiences: [], app: APP, machine: MACHINE }
const request = (method: string, target: string, body = ''): Request => ({
  method,
  target,
  fields: [],
  body: Buffer.from(body),
  http10: false,
  keepAlive: true,
  expects: false,
})
const judge = (over: Partial<Policy>, method: string, target: string, body = ''): Ask | string =>
  compile({ ...POLICY, ...over })(request(method, target, body))
const routed = (over: Partial<Policy>, method: string, target: string): string => {
  const ask = judge(over, method, target)
  return typeof ask === 'string' ? ask : ask.route
}

test('the methods that a target has', async (t) => {
  const methods = (over: Partial<Policy>, target: string, asked = 'HEAD'): string =>
    methodsOf(request(asked, target, 'no JSON'), compile({ ...POLICY, ...over }))
  t.equal(methods({}, '/v1/tokens/oidc'), 'POST')
  t.equal(methods({ preset: 'token', audiences: ['a'] }, '/v1/tokens/oidc'), 'POST', 'whatever its body')
  t.equal(methods({ preset: 'all' }, '/v1/tokens/oidc?aud=x', 'GET'), 'POST', 'or its query')
  t.equal(methods({}, `${OWN}/metadata`), 'GET, PUT, PATCH')
  t.equal(methods({}, `${OWN}/metadata/k`), 'GET, POST, DELETE')
  t.equal(methods({ preset: 'token' }, `${OWN}/metadata/k`), '', 'none that policy leaves out')
  t.equal(methods({ preset: 'token', allow: [`DELETE ${OWN}/metadata/*`] }, `${OWN}/metadata/k`), 'DELETE')
  t.equal(methods({ preset: 'all' }, '/v1/apps/other/machines'), 'GET, POST, PUT, PATCH, DELETE')
  for (const target of ['*', 'evil:443', '/v1/../x', '/v1/nothing']) t.equal(methods({}, target), '', target)
})

test('whatever is accepted goes on in bytes that this file made', (t) => {
  const targets = [
    '/v1/tokens/current',
    OWN,
    `${OWN}/metadata/a%2Bb`,
    `${OWN}/wait?state=started`,
    '/v1/apps/x',
    '/v1/%61pps',
    '/v1/a/../b',
    '/',
    '/v1',
    '//v1/x',
    '/v1/x/',
    '/v1/x;y',
    '/v1/x?y=%41',
    '/v1/x?y=%zz',
    '/v1/x?%0d',
  ]
  for (const preset of ['self', 'token', 'all'] as const) {
    for (const method of ['GET', 'POST', 'DELETE']) {
      for (const target of targets) {
        const ask = judge({ preset, allow: ['GET /v1/*'] }, method, target)
        if (typeof ask === 'string') continue
        t.match(ask.target, /^\/v1\/[A-Za-z0-9\-._~!$&'()*+,=:@/%?]+$/)
        t.notMatch(ask.target, /\.\.|\/\/|\/$|%(?![0-9A-F]{2})/)
      }
    }
  }
  t.end()
})

test('presets', (t) => {
  t.equal(routed({}, 'POST', '/v1/tokens/oidc'), '/v1/tokens/oidc')
  t.equal(routed({ preset: 'token' }, 'POST', '/v1/tokens/oidc'), '/v1/tokens/oidc')
  t.equal(routed({ preset: 'token' }, 'GET', OWN), 'ROUTE_NOT_ALLOWED', 'it is this Machine, and the policy says no')
  t.equal(
    routed({ app: undefined, machine: undefined }, 'GET', OWN),
    'NOT_THIS_MACHINE',
    'without an identity nothing is our own',
  )
  t.equal(routed({ app: undefined, machine: undefined }, 'GET', '/v1/apps/undefined'), 'NOT_THIS_MACHINE')
  t.equal(routed({ app: undefined }, 'POST', '/v1/tokens/oidc'), '/v1/tokens/oidc')
  t.equal(routed({ preset: 'all' }, 'DELETE', '/v1/apps/x/volumes/y'), '/v1/…')
  t.equal(routed({ preset: 'all' }, 'GET', '/v2/x'), 'ROUTE_NOT_SERVED')
  t.equal(routed({ preset: 'all' }, 'GET', '/v1/.x/y'), 'ROUTE_NOT_SERVED')
  t.equal(
    routed({ app: '$&', machine: "$'" }, 'GET', "/v1/apps/$&/machines/$'"),
    '/v1/apps/:app/machines/:machine',
    'a name is text and no replacement pattern',
  )
  t.end()
})

test('patterns stand for one segment', (t) => {
  const over = { allow: ['GET /v1/apps/*/secrets?', 'POST /v1/a.b/*'] }
  t.equal(routed(over, 'GET', '/v1/apps/x/secrets'), '/v1/apps/*/secrets?')
  t.equal(routed(over, 'GET', '/v1/apps/x/secrets?show_secrets=1'), '/v1/apps/*/secrets?')
  t.equal(routed(over, 'GET', '/v1/apps/x/y/secrets'), 'ROUTE_NOT_SERVED')
  t.equal(routed(over, 'GET', '/v1/apps/../secrets'), 'TARGET_MALFORMED')
  t.equal(routed(over, 'GET', '/v1/apps/./secrets'), 'ROUTE_NOT_ALLOWED')
  t.equal(routed(over, 'GET', '/v1/apps//secrets'), 'ROUTE_NOT_SERVED')
  t.equal(routed(over, 'GET', '/v1/apps/a%2fb/secrets'), 'TARGET_MALFORMED')
  t.equal(routed(over, 'POST', '/v1/apps/x/secrets'), 'METHOD_NOT_ALLOWED')
  t.equal(routed(over, 'POST', '/v1/a.b/c'), '/v1/a.b/*')
  t.equal(routed(over, 'POST', '/v1/aXb/c'), 'ROUTE_NOT_SERVED', 'a dot is a dot')
  t.equal(routed(over, 'POST', '/v1/a.b/c?d=e'), 'QUERY_NOT_SERVED')
  t.end()
})

test('minting is judged by its body, whatever the policy', (t) => {
  for (const preset of ['self', 'token', 'all'] as const) {
    const over = { preset, audiences: ['a', 'b'], allow: ['GET /v1/tokens/*?', 'PUT /v1/tokens/oidc'] }
    t.match(judge(over, 'POST', '/v1/tokens/oidc', '{"aud":"b"}'), {
      body: '{"aud":"b"}',
      audience: 'b',
      mints: true,
      again: true,
    })
    t.equal(judge(over, 'POST', '/v1/tokens/oidc', '{"aud":"c"}'), 'AUDIENCE_NOT_ALLOWED')
    t.equal(judge(over, 'POST', '/v1/tokens/oidc', '{}'), 'AUDIENCE_NOT_ALLOWED')
    t.equal(judge(over, 'POST', '/v1/tokens/oidc'), 'AUDIENCE_NOT_ALLOWED')
    t.equal(judge(over, 'POST', '/v1/tokens/oidc', '{"aud":["b"]}'), 'BODY_MALFORMED')
    t.equal(judge(over, 'GET', '/v1/tokens/oidc?aud=c'), 'METHOD_NOT_ALLOWED')
    t.equal(judge(over, 'PUT', '/v1/tokens/oidc', '{"aud":"c"}'), 'METHOD_NOT_ALLOWED')
    for (const path of [
      '/v1/tokens/OIDC',
      '/v1/Tokens/oidc',
      '/v1/tokens/oidc/',
      '/v1/tokens//oidc',
      '/v1/tokens/oidc;a',
      '/v1/tokens/oid%63',
      '/v1/./tokens/oidc',
    ]) {
      t.equal(judge(over, 'POST', path, '{"aud":"c"}'), 'ROUTE_NOT_SERVED', path)
    }
  }
  t.end()
})

test('a body is written anew', (t) => {
  const written = (body: string): string => {
    const ask = judge({}, 'POST', `${OWN}/metadata/k`, body)
    return typeof ask === 'string' ? ask : ask.body
  }
  t.equal(written(' {"a" : 1, "a":\t2 } '), '{"a":2}')
  t.equal(written(''), '')
  t.equal(written('{"__proto__":{"x":1}}'), '{"__proto__":{"x":1}}')
  t.equal(written(String.raw`{"k":"\u000d\n\ud800"}`), String.raw`{"k":"\r\n\ud800"}`)
  for (const bad of ['[]', 'null', '1', '"x"', '{', '{"a":1,}', "{'a':1}", 'a=b', '{}\0', '\ufeff{}']) {
    t.equal(written(bad), 'BODY_MALFORMED', bad.slice(0, 20))
  }
  const nested = `${'{"a":'.repeat(10_000)}1${'}'.repeat(10_000)}`
  t.ok(['BODY_MALFORMED', nested].includes(written(nested)), 'nesting is refused or written, and never throws')
  t.end()
})

test('keys are decoded once and encoded again', (t) => {
  const key = (text: string): string => {
    const ask = judge({}, 'GET', `${OWN}/metadata/${text}`)
    return typeof ask === 'string' ? ask : ask.target.slice(`${OWN}/metadata/`.length)
  }
  t.equal(key('a.b'), 'a.b')
  t.equal(key('%61'), 'a')
  t.equal(key('%7E%c3%a9+@'), '~%C3%A9%2B%40')
  t.equal(key('...'), '...')
  for (const bad of [
    '.',
    '..',
    '%2e',
    '%2E%2e',
    '.%2e',
    '%2f',
    '%5c',
    '%25',
    '%00',
    '%0a',
    '%7f',
    '%ff',
    '%c0%ae',
    'a;b',
    '%',
    '%4',
    '',
    'a'.repeat(513),
  ])
    t.equal(key(bad), 'TARGET_MALFORMED', bad.slice(0, 9))
  t.end()
})
