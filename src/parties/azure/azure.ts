// Microsoft Entra's token endpoint, and what msal reads before it will ask there. Always https: msal takes nothing else.

import { SignJWT, calculateJwkThumbprint, exportJWK, generateKeyPair } from 'jose'
import { json, mediaType, serve } from '../serve.ts'
import type { Call, Party, Reply } from '../serve.ts'
import type { Reach } from '../trust/reach.ts'
import type { Application } from './application.ts'
import { admit } from './assertion.ts'
import { selfSigned } from './certificate.ts'
import { EntraError, explain } from './error.ts'

export interface AzureOptions {
  readonly port?: number
  readonly applications: readonly Application[]
  readonly reach?: Reach
  /** Unix ms. */
  readonly now?: () => number
}

export interface Azure extends Party {
  /** PEM: what a client must trust to talk to `url`. */
  readonly ca: string
}

export async function startAzure({ port, applications, reach = {}, now = Date.now }: AzureOptions): Promise<Azure> {
  const tls = selfSigned(now())
  const signer = await newSigner()
  const place = { url: '' }
  const party = await serve({ port, tls }, async (call) => {
    try {
      return await route(call, { applications, reach, now, signer, host: place.url })
    } catch (caught) {
      if (!(caught instanceof EntraError)) throw caught
      return explain(caught, now(), place.url, call.headers.get('client-request-id'))
    }
  })
  place.url = party.url
  return { ...party, ca: tls.cert }
}

interface Entra {
  readonly applications: readonly Application[]
  readonly reach: Reach
  readonly now: () => number
  readonly signer: Signer
  readonly host: string
}

interface Signer {
  readonly jwk: object
  sign(claims: Record<string, unknown>): Promise<string>
}

async function newSigner(): Promise<Signer> {
  const { privateKey, publicKey } = await generateKeyPair('RS256', { modulusLength: 2048, extractable: false })
  const jwk = await exportJWK(publicKey)
  const kid = await calculateJwkThumbprint(jwk)
  return {
    jwk: { ...jwk, use: 'sig', kid },
    sign: (claims) => new SignJWT(claims).setProtectedHeader({ typ: 'JWT', alg: 'RS256', kid }).sign(privateKey),
  }
}

async function route(call: Call, entra: Entra): Promise<Reply> {
  const { host, applications } = entra
  if (call.path === '/common/discovery/instance') {
    const name = new URL(host).host
    return json(200, {
      tenant_discovery_endpoint: `${host}/common/v2.0/.well-known/openid-configuration`,
      'api-version': '1.1',
      metadata: [{ preferred_network: name, preferred_cache: name, aliases: [name] }],
    })
  }
  const [, tenant = '', rest = ''] = /^\/([^/]+)\/(.+)$/.exec(call.path) ?? []
  const known = applications.filter((one) => one.tenant === tenant.toLowerCase())
  if (known.length === 0) {
    throw new EntraError(
      90002,
      `Tenant '${tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.`,
    )
  }
  if (rest === 'oauth2/v2.0/token' && call.method === 'POST') return token(call, tenant.toLowerCase(), known, entra)
  if (rest === 'v2.0/.well-known/openid-configuration') {
    return json(200, {
      issuer: `${host}/${tenant}/v2.0`,
      authorization_endpoint: `${host}/${tenant}/oauth2/v2.0/authorize`,
      token_endpoint: `${host}/${tenant}/oauth2/v2.0/token`,
      jwks_uri: `${host}/${tenant}/discovery/v2.0/keys`,
      token_endpoint_auth_methods_supported: ['client_secret_post', 'private_key_jwt', 'client_secret_basic'],
      response_types_supported: ['code', 'id_token', 'code id_token', 'id_token token'],
      subject_types_supported: ['pairwise'],
      id_token_signing_alg_values_supported: ['RS256'],
      scopes_supported: ['openid', 'profile', 'email', 'offline_access'],
    })
  }
  if (rest === 'discovery/v2.0/keys') return json(200, { keys: [entra.signer.jwk] })
  return json(404, {})
}

async function token(
  call: Call,
  tenant: string,
  known: readonly Application[],
  { reach, now, signer, host }: Entra,
): Promise<Reply> {
  const form = new URLSearchParams(
    mediaType(call) === 'application/x-www-form-urlencoded' ? call.body.toString('utf8') : '',
  )
  const need = (name: string): string => {
    const value = form.get(name) ?? ''
    if (value === '') throw new EntraError(900144, `The request body must contain the following parameter: '${name}'.`)
    return value
  }
  const grant = need('grant_type')
  if (grant !== 'client_credentials')
    throw new EntraError(70003, `The app requested an unsupported grant type '${grant}'.`)
  const clientId = need('client_id')
  const scope = need('scope')
  const application = known.find((one) => one.clientId === clientId.toLowerCase())
  if (application === undefined) {
    throw new EntraError(
      700016,
      `Application with identifier '${clientId}' was not found in the directory '${tenant}'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant.`,
    )
  }
  const assertion = form.get('client_assertion') ?? ''
  if (
    form.get('client_assertion_type') !== 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer' ||
    assertion === ''
  ) {
    throw new EntraError(
      7000218,
      "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
    )
  }
  const [, resource] = /^(\S+)\/\.default$/.exec(scope.split(' ').find((one) => !OPENID.has(one)) ?? '') ?? []
  if (resource === undefined) {
    throw new EntraError(
      1002012,
      `The provided value for scope ${scope} is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).`,
    )
  }
  await admit(assertion, application, reach, now())
  const iat = Math.floor(now() / 1000)
  const access_token = await signer.sign({
    aud: resource,
    iss: `${host}/${tenant}/v2.0`,
    iat,
    nbf: iat,
    exp: iat + LIFETIME,
    azp: application.clientId,
    azpacr: '2', // authenticated by an assertion
    idtyp: 'app',
    sub: application.clientId,
    tid: tenant,
    ver: '2.0',
  })
  return json(200, { token_type: 'Bearer', expires_in: LIFETIME - 1, ext_expires_in: LIFETIME - 1, access_token })
}

/** msal adds these to what the program asked for. */
const OPENID = new Set(['openid', 'profile', 'offline_access'])

const LIFETIME = 3600
