import { test } from 'tap'
import { UsageError } from '../../src/errors.ts'
import { parseSocket, parseSockets } from '../../src/cli/sockets.ts'

test('a path alone gets the defaults of the real socket', async (t) => {
  t.strictSame(parseSocket('/.fly/api'), { path: '/.fly/api', policy: 'self', allow: [], audiences: [] })
})

test('every setting lands in its own field', async (t) => {
  const word =
    '/run/app.sock,mode=0600,uid=1000,gid=0,policy=token,aud=sts.amazonaws.com,aud=//iam.googleapis.com/x=y,allow=GET /v1/apps/*/machines?'
  t.strictSame(parseSocket(word), {
    path: '/run/app.sock',
    mode: 0o600,
    uid: 1000,
    gid: 0,
    policy: 'token',
    audiences: ['sts.amazonaws.com', '//iam.googleapis.com/x=y'],
    allow: ['GET /v1/apps/*/machines?'],
  })
})

test('mode is taken with or without its leading zero', async (t) => {
  t.equal(parseSocket('/a,mode=660').mode, 0o660)
  t.equal(parseSocket('/a,mode=0660').mode, 0o660)
})

test('a mode is taken where somebody that is meant can connect, and be it everybody', async (t) => {
  for (const word of ['mode=0755', 'mode=0644', 'mode=0200', 'mode=0666', 'mode=0777', 'mode=0060', 'mode=0066'])
    t.equal(parseSocket(`/a,${word}`).mode, Number.parseInt(word.slice(5), 8))
  t.match(parseSocket('/a,mode=0660,gid=7'), { mode: 0o660, gid: 7 })
  t.match(parseSocket('/a,mode=0755,uid=7,gid=7'), { mode: 0o755, uid: 7 }, 'a uid alone is served anyway')
  t.match(parseSocket('/a,gid=7'), { gid: 7 }, "a socket unit's own mode is not known here")
})

test('a relative path is made absolute, for the process may change directory', async (t) => {
  t.equal(parseSocket('api').path, `${process.cwd()}/api`)
})

test('a path of 107 bytes is the longest', async (t) => {
  t.equal(parseSocket(`/${'a'.repeat(106)}`).path.length, 107)
  t.throws(() => parseSocket(`/${'a'.repeat(107)}`), { message: /is 108 bytes long: 107 is the most/ })
  t.throws(() => parseSocket(`/${'é'.repeat(54)}`), { message: /109 bytes/ }, 'bytes are counted, not characters')
})

const REFUSED: Record<string, [word: string, says: RegExp]> = {
  'no path': ['', /a socket needs a path/],
  'no path but settings': [',mode=0600', /a socket needs a path/],
  'a newline in the path': ['/a\nb', /socket path \/a\\u000ab has a control character/],
  'an unknown setting': ['/a,group=1', /socket \/a: unknown setting group: use one of mode, uid/],
  'a setting named like a property of every object': ['/a,constructor=1', /unknown setting constructor/],
  'an empty setting': ['/a,', /unknown setting \(empty\)/],
  'a setting without a value': ['/a,mode', /mode has no value: write mode=0660/],
  'an empty value': ['/a,uid=', /uid has no value/],
  'a mode twice': ['/a,mode=0600,mode=0666', /mode is given twice/],
  'a mode that is not octal': ['/a,mode=0680', /mode 0680 is not three octal digits, each 0 to 7, such as 0660$/],
  'a mode that lets nobody connect': [
    '/a,mode=0444',
    /socket \/a: with mode 0444 nobody can connect, which needs the write bit: write such as mode=0600$/,
  ],
  'a group whose mode does not let it connect': [
    '/a,gid=7,mode=755',
    /with mode 0755 gid 7 cannot connect, which needs the write bit: write such as mode=0660$/,
  ],
  'an owner whose mode does not let it connect': [
    '/a,mode=0466,uid=7',
    /with mode 0466 uid 7 cannot connect, which needs the write bit: write such as mode=0600$/,
  ],
  'a mode with setuid': ['/a,mode=4755', /not three octal digits/],
  'a symbolic mode': ['/a,mode=u+w', /not three octal digits/],
  'a user name': ['/a,uid=www', /uid www is not a number: names are not looked up/],
  'a negative group': ['/a,gid=-1', /gid -1 is not a number/],
  'the uid that means none': ['/a,uid=4294967295', /uid 4294967295 is not a number/],
  'an unknown policy': ['/a,policy=root', /policy root is not one of self, token, all/],
  'an audience twice': ['/a,aud=x,aud=x', /audience x is given twice/],
  'an audience with an escape': ['/a,aud=\u001b[2J', /audience \\u001b\[2J is not plain text/],
  'a route without a method': ['/a,allow=/v1/apps', /allow \/v1\/apps is not METHOD \/path/],
  'a route that walks up': ['/a,allow=GET /v1/apps/../x', /is not METHOD/],
  'a route outside the API': ['/a,allow=GET /metrics', /is not METHOD/],
  'a route with an escape': ['/a,allow=GET /v1/%2e%2e', /is not METHOD/],
  'a method in lower case': ['/a,allow=get /v1/apps', /is not METHOD/],
}

for (const [what, [word, says]] of Object.entries(REFUSED)) {
  test(`${what} is refused, and named`, async (t) => {
    t.throws(() => parseSocket(word), { name: 'UsageError', message: says })
  })
}

test('one path twice is refused', async (t) => {
  t.throws(() => parseSockets(['/a', '/b', '/./a,mode=0600']), new UsageError('socket /a is given twice'))
})

test('a credential pasted in place of a setting is not repeated', async (t) => {
  try {
    parseSocket('/a,FlyV1 fm2_lJPECAAAAAAAAA')
    t.fail('must be refused')
  } catch (error) {
    t.notMatch(String(error), 'lJPEC')
  }
})
