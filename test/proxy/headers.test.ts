// Field lines and the two allow-lists: text in, value out.

import { test } from 'tap'
import { readFields, toFlyd, toGuest } from '../../src/proxy/headers.ts'

test('fields are read strictly', (t) => {
  t.same(readFields('', 0, 9), [])
  t.same(readFields('A: b\r\nC:  d \r\nE:\r\nF: g\t\r\n', 0, 9), [
    ['a', 'b'],
    ['c', 'd'],
    ['e', ''],
    ['f', 'g\t'],
  ])
  t.same(readFields('skipped\r\nA: b', 9, 9), [['a', 'b']], 'from an offset, with or without the last CRLF')
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
  t.same(readFields('A: J\xfcrgen\tx', 0, 9), [['a', 'J\xfcrgen\tx']], 'obs-text is read, and goes nowhere')
  t.equal(readFields('A: b\r\n'.repeat(10), 0, 9), 'too many')
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
