import { test } from 'tap'
import { logLevel, proxyOptions } from '../../src/cli/settings.ts'
import { socketWords } from '../../src/cli/sockets.ts'

const FILE = { macaroonFile: '/m' }

test('without words, the defaults are those of a Machine', async (t) => {
  t.strictSame(
    proxyOptions(
      {},
      { CREDENTIALS_DIRECTORY: '/run/credentials/dotfly', FLY_APP_NAME: 'weather-cat', FLY_MACHINE_ID: '4d89' },
    ),
    {
      sockets: [{ path: '/.fly/api', policy: 'self', allow: [], audiences: [] }],
      flyd: 'http://_api.internal:4280',
      macaroon: { file: '/run/credentials/dotfly/macaroon' },
      app: 'weather-cat',
      machine: '4d89',
    },
  )
})

test('the command line wins over DOTFLY_*, and that over what a Machine has', async (t) => {
  const env = {
    DOTFLY_APP: 'b',
    FLY_APP_NAME: 'c',
    DOTFLY_MACHINE: '',
    FLY_MACHINE_ID: 'm',
    DOTFLY_FLYD: 'http://other',
    DOTFLY_MACAROON_FD: '4',
  }
  const options = proxyOptions({ ...FILE, app: 'a', flyd: 'unix:/flyd' }, env)
  t.equal(options.app, 'a')
  t.equal(options.machine, 'm', 'an empty variable is not set')
  t.equal(options.flyd, 'unix:/flyd')
  t.strictSame(options.macaroon, { file: '/m' })
  t.equal(proxyOptions(FILE, env).app, 'b')
  t.strictSame(proxyOptions({}, env).macaroon, { fd: 4 })
})

test('DOTFLY_SOCKET holds several sockets, set apart by a semicolon', async (t) => {
  t.strictSame(socketWords({ DOTFLY_SOCKET: '/a,mode=0600; /b,allow=GET /v1/apps ;' }), [
    '/a,mode=0600',
    '/b,allow=GET /v1/apps',
  ])
  t.strictSame(socketWords({ DOTFLY_SOCKET: '' }), ['/.fly/api'])
})

test('the port of flyd is always written out', async (t) => {
  for (const [word, is] of [
    ['http://_api.internal:4280', 'http://_api.internal:4280'],
    ['http://flyd', 'http://flyd:80'],
    ['https://flyd/', 'https://flyd:443'],
    ['http://[fdaa::3]:4280', 'http://[fdaa::3]:4280'],
    ['vsock:2:4280', 'vsock:2:4280'],
    ['vsock:4294967294:0', 'vsock:4294967294:0'],
  ] as const) {
    t.equal(proxyOptions({ ...FILE, flyd: word }, {}).flyd, is)
  }
})

const REFUSED: Record<string, [words: Parameters<typeof proxyOptions>[0], says: RegExp]> = {
  'no macaroon': [{}, /no macaroon: name its file with --macaroon-file/],
  'two macaroons': [{ macaroonFile: '/m', macaroonFd: '3' }, /exclude each other/],
  'the macaroon in place of its file': [{ macaroonFile: 'FlyV1 fm2_secret' }, /never given on the command line$/],
  'standard output as macaroon': [{ macaroonFd: '1' }, /descriptor 1 is not/],
  'flyd without a scheme': [{ ...FILE, flyd: 'localhost:4280' }, /flyd is not http/],
  'flyd with a path': [{ ...FILE, flyd: 'http://flyd/v1' }, /more than a host and a port/],
  'flyd with a password': [{ ...FILE, flyd: 'http://me:hunter2@flyd' }, /has a user or password in its URL/],
  'flyd at a relative path': [{ ...FILE, flyd: 'unix:flyd' }, /is not unix:\/path/],
  'flyd at a vsock without a port': [{ ...FILE, flyd: 'vsock:2' }, /is not vsock:CID:PORT, such as vsock:2:4280/],
  'flyd at any vsock': [{ ...FILE, flyd: 'vsock:4294967295:1' }, /is not vsock:CID:PORT/],
  'flyd at a vsock of hexadecimal': [{ ...FILE, flyd: 'vsock:0x2:1' }, /is not vsock:CID:PORT/],
  'an app that is a path': [{ ...FILE, app: '../other' }, /app \.\.\/other is not a name/],
}

for (const [what, [words, says]] of Object.entries(REFUSED)) {
  test(`${what} is refused`, async (t) => {
    t.throws(() => proxyOptions(words, {}), { name: 'UsageError', message: says })
    t.notMatch(
      thrown(() => proxyOptions(words, {})),
      /hunter2|fm2_secret/,
    )
  })
}

test('log level is one of the listed', async (t) => {
  t.equal(logLevel({}, {}), 'info')
  t.equal(logLevel({ logLevel: 'error' }, { DOTFLY_LOG_LEVEL: 'warn' }), 'error')
  t.equal(logLevel({}, { DOTFLY_LOG_LEVEL: 'warn' }), 'warn')
  t.throws(() => logLevel({ logLevel: 'loud' }, {}), { message: /log level loud is not one of debug, info/ })
})

function thrown(act: () => unknown): string {
  try {
    act()
    return ''
  } catch (error) {
    return String(error)
  }
}
