// An issuer of the tests' own, as good or as hostile as a test wants it: each test says what discovery and keys answer.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { exportJWK, generateKeyPair } from 'jose'
import type { CryptoKey, JWK, JWTPayload } from 'jose'
import { CACHE } from '../support/cache.ts'

export interface Key {
  readonly jwk: JWK
  readonly privateKey: CryptoKey
}

/** One key for all tests of a process: making one takes a while. */
export const KEY = await makeKey('key-1')

export async function makeKey(kid: string, alg = 'RS256'): Promise<Key> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true })
  return { privateKey, jwk: { ...(await exportJWK(publicKey)), use: 'sig', alg, kid } }
}

type Answer = object | ((request: IncomingMessage, response: ServerResponse) => void)

export interface TestIssuer {
  /** Where it really listens. */
  readonly url: string
  /** `<base>/example`, the `iss` of its tokens. */
  readonly iss: string
  /** What is at `/<org>/.well-known/openid-configuration` and `/<org>/.well-known/jwks`; a test may replace either. */
  discovery: Answer
  keys: Answer
  readonly asked: string[]
  /** Claims and header may be as wrong as they like: no library stands between. */
  readonly sign: (claims?: object, header?: object, key?: CryptoKey) => Promise<string>
  close(): Promise<void>
}

/** `base` is what the world calls it, such as https://oidc.fly.io; without one, its own loopback address. */
export async function startTestIssuer(base?: string): Promise<TestIssuer> {
  const asked: string[] = []
  const server = createServer((request, response) => {
    asked.push(request.url ?? '')
    const answer = request.url?.endsWith('/openid-configuration') === true ? issuer.discovery : issuer.keys
    if (typeof answer === 'function') answer(request, response)
    else response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new TypeError('no port')
  const url = `http://127.0.0.1:${address.port}`
  const iss = `${base ?? url}/example`
  const issuer: TestIssuer = {
    url,
    iss,
    asked,
    discovery: {
      issuer: iss,
      jwks_uri: `${iss}/.well-known/jwks`,
      response_types_supported: ['id_token'],
      subject_types_supported: ['public'],
      id_token_signing_alg_values_supported: ['RS256'],
      // openid-client insists on one; Fly has none, as tokens are not asked for through the browser.
      authorization_endpoint: `${iss}/authorize`,
    },
    keys: { keys: [KEY.jwk] },
    sign: async (claims = {}, header = {}, key = KEY.privateKey) => {
      const text = forge({ alg: 'RS256', typ: 'JWT', kid: 'key-1', ...header }, { ...flyClaims(iss), ...claims }).slice(
        0,
        -1,
      )
      const how = { name: key.algorithm.name, hash: 'SHA-256' }
      return `${text}.${Buffer.from(await crypto.subtle.sign(how, key, Buffer.from(text))).toString('base64url')}`
    },
    close: async () => {
      server.close()
      server.closeAllConnections()
      if (server.listening) await once(server, 'close')
    },
  }
  return issuer
}

export const seconds = (): number => Math.floor(Date.now() / 1000)

export const flyClaims = (iss: string): JWTPayload => ({
  iss,
  aud: 'sts.amazonaws.com',
  sub: 'example:weather-cat:ancient-snow-4824',
  jti: '8f3c2f0e-6a43-4b5e-9d56-0d8a3f2d7a11',
  iat: seconds(),
  nbf: seconds(),
  exp: seconds() + 600,
  org_id: '29873298',
  org_name: 'example',
  app_id: '3671581',
  app_name: 'weather-cat',
  machine_id: '3d8d377ce9e398',
  machine_name: 'ancient-snow-4824',
  machine_version: '01HZJXGTQ084DX0G0V92QH3XW4',
  image: 'image:latest',
  image_digest: `sha256:${'a'.repeat(64)}`,
  region: 'yyz',
})

/** A JWS put together by hand, for headers and signatures that no library makes. */
export const forge = (header: object, claims: object, signature = ''): string =>
  [header, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.') + `.${signature}`

/** A port where nobody listens. */
export async function closedPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new TypeError('no port')
  return address.port
}

/** Tells botocore, and so AWS's command line, where STS is: by rules of endpoints below HOME, which it knew before it
 * knew AWS_ENDPOINT_URL_STS (1.31, of the command line 1.29 and 2.13; Debian's is older). */
export function stsAt(home: string, url: string): void {
  const directory = join(home, '.aws/models/sts/2011-06-15')
  mkdirSync(directory, { recursive: true })
  const parameter = (builtIn: string, type: string): object => ({ builtIn, type, required: false, documentation: '' })
  const authSchemes = [{ name: 'sigv4', signingName: 'sts', signingRegion: 'us-east-1' }]
  writeFileSync(
    join(directory, 'endpoint-rule-set-1.json'),
    JSON.stringify({
      version: '1.0',
      parameters: {
        Region: parameter('AWS::Region', 'String'),
        UseDualStack: parameter('AWS::UseDualStack', 'Boolean'),
        UseFIPS: parameter('AWS::UseFIPS', 'Boolean'),
        Endpoint: parameter('SDK::Endpoint', 'String'),
        UseGlobalEndpoint: parameter('AWS::STS::UseGlobalEndpoint', 'Boolean'),
      },
      rules: [{ conditions: [], type: 'endpoint', endpoint: { url, properties: { authSchemes }, headers: {} } }],
    }),
  )
}

export interface Ran {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

/** A program in an environment of its own: nothing of ours, above all no proxy and no credential, gets into it. */
export async function run(program: string, args: readonly string[], env: Record<string, string>): Promise<Ran> {
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'] ?? '', ...CACHE, ...env },
    timeout: 30_000,
  })
  let out = ''
  let err = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text))
  await once(child, 'close')
  return { code: child.exitCode, out, err }
}

/** A program beside the tests, run by this very Node. */
export const runGuest = (program: URL, task: string, env: Record<string, string>): Promise<Ran> =>
  run(process.execPath, ['--disable-warning=ExperimentalWarning', fileURLToPath(program), task], env)
