// Field lines and the two allow-lists: text in, value out.

import { test } from 'tap'
import * as headers from '../../src/proxy/headers.ts'
import { toFlyd, toGuest } from '../../src/proxy/headers.ts'

const readFields = (text: string, at: number, limit: number): ReturnType<typeof headers.readFields> =>
  headers.readFields(Buffer.from(text, 'latin1'), at, text.length, limit)

test('fields are read strictly', (t) => {
  t.same(readFields('', 0, 9), [])
  t.same(readFields('Host: b\r\nA: z\r\nVIA:  d \r\nExpect:\r\nrEfErEr: g\t\r\n', 0, 9), [
    ['host', 'b'],
    ['via', 'd'],
    ['expect', ''],
    ['referer', 'g\t'],
  ])
  t.same(readFields('skipped\r\nVia: b', 9, 9), [['via', 'b']], 'from an offset, with or without the last CRLF')
  t.same(
    readFields('Hos: a\r\nHosts: b\r\nTransfer_Encoding: c\r\nvib: d\r\n', 0, 9),
    [],
    'others are nobody’s business',
  )
  t.same(
    readFields('X-Forwarded-For: a\r\nx-forwarded-: b\r\nX-FORWARDED-Host: c\r\nx-forwarded: d\r\n', 0, 9),
    [
      ['x-forwarded-', 'a'],
      ['x-forwarded-', 'b'],
      ['x-forwarded-', 'c'],
    ],
    'but all that a proxy adds is one',
  )
  for (const wrong of [
    'A',
    'A\r\nB: c',
    ': b',
    'A : b',
    ' A: b',
    'A: b\r\n c',
    'A: b\rc',
    'A: b\nC: d',
    'A: \0',
    'A: \x7f',
    'A\xe9: b',
    '\r\nA: b',
    `${'a'.repeat(129)}: b`,
    'A(: b',
    'A: b\r\n\r\n',
  ]) {
    t.equal(readFields(wrong, 0, 9), 'malformed', JSON.stringify(wrong.slice(0, 20)))
  }
  t.same(readFields('Via: J\xfcrgen\tx', 0, 9), [['via', 'J\xfcrgen\tx']], 'obs-text is read, and goes nowhere')
  t.equal(readFields('A: b\r\n'.repeat(10), 0, 9), 'too many', 'those that nobody asks for are counted')
  t.end()
})

test('what passes to flyd is a lease nonce', (t) => {
  t.equal(
    toFlyd([
      ['authorization', 'x'],
      ['fly-src', 'y'],
      ['connection', 'close'],
      ['host', 'z'],
    ]),
    '',
  )
  t.equal(
    toFlyd([
      ['fly-machine-lease-nonce', 'a1'],
      ['fly-machine-lease-nonce', 'b2'],
    ]),
    'fly-machine-lease-nonce: a1\r\n',
  )
  for (const value of ['', 'a b', 'a\tb', 'a'.repeat(65), 'a-b', '\xe9'])
    t.equal(toFlyd([['fly-machine-lease-nonce', value]]), '')
  t.end()
})

test('what passes to the guest has a listed name and its grammar', (t) => {
  const passes = (name: string, value: string): boolean => toGuest([[name, value]]) === `${name}: ${value}\r\n`
  for (const value of [
    'text/plain; charset=utf-8',
    'application/json',
    'text/event-stream',
    'application/vnd.a+json;charset=utf-8',
  ])
    t.ok(passes('content-type', value), value)
  for (const value of [
    'text/plain; x=y',
    'text',
    'text/plain; charset="a"',
    'text/plain; charset=utf-8; a=b',
    `text/${'a'.repeat(65)}`,
    'text/pläin',
  ])
    t.notOk(passes('content-type', value), value)
  t.ok(passes('fly-request-id', '01JNRQ9VVKJ7HZFMJWJB3M3RYN-yyz'))
  for (const value of ['', 'a b', 'a_b', 'a'.repeat(65)]) t.notOk(passes('fly-request-id', value))
  t.ok(passes('retry-after', '30'))
  t.notOk(passes('retry-after', 'Wed, 21 Oct 2015 07:28:00 GMT'))
  for (const name of [
    'set-cookie',
    'location',
    'x-debug',
    'etag',
    'server',
    'via',
    'content-length',
    'transfer-encoding',
    'connection',
    'www-authenticate',
    '__proto__',
    'constructor',
  ])
    t.notOk(passes(name, '1'), name)
  t.end()
})
