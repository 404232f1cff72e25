// The routes of the Machines API that are reached through the socket, with the shapes of the public documents.

import { isAudience } from '../issuer/claims.ts'
import { record } from '../mock/json.ts'
import type { Ask } from './door.ts'
import { appOf, itself, neighbour } from './fleet.ts'
import type { Fleet } from './fleet.ts'
import type { Act, Machine } from './machine.ts'
import { Refusal } from './refusal.ts'

export interface Route {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  readonly path: string
  /** What the rate limit counts. */
  readonly action: string
  /** A string is sent as text, an object as JSON, undefined as 204. */
  readonly answer: (fleet: Fleet, ask: Ask) => Promise<Answer> | Answer
}

type Answer = string | object | undefined

const MACHINE = '/v1/apps/:app/machines/:machine'
const OK = { ok: true }

/** A route on the caller's own Machine. */
const own = (
  method: Route['method'],
  path: string,
  action: string,
  answer: (machine: Machine, ask: Ask) => Answer,
): Route => ({
  method,
  path: `${MACHINE}${path}`,
  action,
  answer: (fleet, ask) => answer(itself(fleet, ask.machine, ask.params['app'], ask.params['machine']), ask),
})

/** A route that reads any Machine of the caller's app. */
const look = (
  path: string,
  action: string,
  answer: (machine: Machine, ask: Ask) => Promise<Answer> | Answer,
): Route => ({
  method: 'GET',
  path: `${MACHINE}${path}`,
  action,
  answer: (fleet, ask) => answer(neighbour(fleet, ask.machine, ask.params['app'], ask.params['machine']), ask),
})

const act = (verb: Act, answer: (previous: string) => object): Route =>
  own('POST', `/${verb}`, verb, (machine, ask) => {
    machine.requireLease(ask.leaseNonce)
    return answer(machine.act(verb))
  })

/** What a Machine's macaroon is never enough for. */
const closed = (method: Route['method'], path: string): Route => ({
  method,
  path,
  action: `${method} ${path}`,
  answer: () => {
    throw new Refusal(403, 'Authorize: action is not allowed for a machine token')
  },
})

export const ROUTES: readonly Route[] = [
  { method: 'POST', path: '/v1/tokens/oidc', action: 'oidc', answer: oidc },
  { method: 'GET', path: '/v1/tokens/current', action: 'current token', answer: (_fleet, ask) => currentToken(ask) },
  { method: 'GET', path: '/v1/apps/:app', action: 'get app', answer: showApp },
  { method: 'GET', path: '/v1/apps/:app/machines', action: 'list machines', answer: list },
  look('', 'get machine', (machine) => show(machine)),
  look('/wait', 'wait', wait),
  look('/events', 'events', (machine, { query }) =>
    machine.events.slice(0, whole(query['limit'] ?? '20', 1, 50, 'limit')),
  ),
  look('/versions', 'versions', (machine) => [{ version: machine.version, user_config: config(machine) }]),
  look('/ps', 'ps', () => [
    { pid: 1, command: '/fly/init', directory: '/', stime: 0, rtime: 0, cpu: 0, rss: 0, listen_sockets: [] },
  ]),
  look('/metadata', 'get metadata', (machine) => Object.fromEntries(machine.metadata)),
  look('/metadata/:key', 'get metadata', (machine, { params }) => {
    const value = machine.metadata.get(params['key'] ?? '')
    if (value === undefined) throw new Refusal(404, 'metadata key not found')
    return { value }
  }),
  own('POST', '/metadata/:key', 'set metadata', (machine, { params, body }) => {
    if (typeof body['value'] !== 'string') throw new Refusal(400, 'invalid request body')
    setMetadata(machine, [[params['key'] ?? '', body['value']]])
    return undefined
  }),
  own('PATCH', '/metadata', 'set metadata', (machine, { body }) => {
    const given = record(body['metadata'])
    if (given === undefined) throw new Refusal(400, 'invalid request body')
    setMetadata(machine, Object.entries(given))
    return undefined
  }),
  own('DELETE', '/metadata/:key', 'delete metadata', (machine, { params }) => {
    machine.metadata.delete(params['key'] ?? '')
    return undefined
  }),
  act('suspend', () => OK),
  act('stop', () => OK),
  act('restart', () => OK),
  act('start', (previous) => ({ previous_state: previous, migrated: false, new_host: '' })),
  own('POST', '/cordon', 'cordon', (machine, ask) => cordon(machine, ask, true)),
  own('POST', '/uncordon', 'uncordon', (machine, ask) => cordon(machine, ask, false)),
  own('POST', '/signal', 'signal', (machine, { body }) => {
    machine.signal(signalName(body['signal']))
    return OK
  }),
  own('GET', '/lease', 'get lease', ({ lease }) => {
    if (lease === undefined) throw new Refusal(404, 'lease not found')
    return { status: 'success', data: lease }
  }),
  own('POST', '/lease', 'take lease', takeLease),
  own('DELETE', '/lease', 'release lease', (machine, { leaseNonce }) => {
    machine.releaseLease(leaseNonce)
    return OK
  }),
  closed('GET', '/v1/apps'),
  closed('POST', '/v1/apps'),
  closed('DELETE', '/v1/apps/:app'),
  closed('POST', '/v1/apps/:app/machines'),
  closed('POST', MACHINE),
  closed('DELETE', MACHINE),
  closed('POST', `${MACHINE}/exec`),
]

/** The route that it is all about: an ID token for the Machine whose door this is. */
async function oidc(fleet: Fleet, { machine, body }: Ask): Promise<string> {
  const { aud, aws_principal_tags: tags } = body
  // Empty is absent, as in any Go struct.
  if (aud !== undefined && aud !== '' && (typeof aud !== 'string' || !isAudience(aud)))
    throw new Refusal(400, 'invalid audience')
  if (tags !== undefined && typeof tags !== 'boolean') throw new Refusal(400, 'invalid request body')
  const { org, app, id, name, image, digest, region } = machine.about
  const subject = {
    org_id: org.id,
    org_name: org.name,
    app_id: app.id,
    app_name: app.name,
    machine_id: id,
    machine_name: name,
    machine_version: machine.version,
    image,
    image_digest: digest,
    region,
  }
  try {
    return await fleet.signer.sign({ subject, aud: aud === '' ? undefined : aud, awsPrincipalTags: tags === true })
  } catch (error) {
    throw new Refusal(503, 'the issuer is unavailable', {}, { cause: error })
  }
}

function currentToken({ machine, tokenId }: Ask): object {
  const { org, app, id } = machine.about
  return {
    tokens: [
      {
        apps: [app.name],
        org_slug: org.name,
        organization: org.id,
        restricted_to_machine: id,
        source_machine_id: id,
        token_id: tokenId,
        user: '',
      },
    ],
  }
}

function showApp(fleet: Fleet, { machine, params }: Ask): object {
  const machines = appOf(fleet, machine, params['app'])
  const { org, app } = machine.about
  const organization = { name: org.name, slug: org.name }
  return {
    id: app.id,
    name: app.name,
    status: 'deployed',
    organization,
    machine_count: machines.length,
    volume_count: 0,
  }
}

function list(fleet: Fleet, { machine, params, query }: Ask): object {
  const states = query['state']?.split(',')
  const wanted = Object.entries(query).filter(([name]) => name.startsWith('metadata.'))
  return appOf(fleet, machine, params['app'])
    .filter(({ about }) => query['region'] === undefined || about.region === query['region'])
    .filter(({ state }) => states?.includes(state) ?? true)
    .filter(({ metadata }) => wanted.every(([name, value]) => metadata.get(name.slice('metadata.'.length)) === value))
    .map(show)
}

function show(machine: Machine): object {
  const { id, name, region, image, digest } = machine.about
  const [, registry = '', repository = '', tag = 'latest'] = /^([^/]+)\/([^:]+)(?::(.+))?$/.exec(image) ?? []
  return {
    id,
    name,
    state: machine.state,
    region,
    image_ref: { registry, repository, tag, digest },
    instance_id: machine.version,
    private_ip: `fdaa:0:18:a7b:${[id.slice(0, 4), id.slice(4, 8), id.slice(8, 12)].join(':')}:2`,
    created_at: new Date(machine.created).toISOString(),
    updated_at: new Date(machine.updated).toISOString(),
    config: config(machine),
    events: machine.events,
    cordoned: machine.cordoned,
  }
}

const config = ({ about, metadata }: Machine): object => ({
  image: about.image,
  metadata: Object.fromEntries(metadata),
})

async function wait(machine: Machine, { query, gone }: Ask): Promise<Answer> {
  const { state = 'started', instance_id: version } = query
  if (!['started', 'stopped', 'suspended', 'destroyed'].includes(state))
    throw new Refusal(400, 'invalid_argument: unknown state')
  if (state === 'stopped' && version === undefined) {
    throw new Refusal(400, 'instance_id required when waiting for stopped machine')
  }
  if (version !== undefined && version !== machine.version) throw new Refusal(404, 'machine version not found')
  const seconds = whole((query['timeout'] ?? '60').replace(/s$/, ''), 1, 60, 'timeout')
  if (await machine.wait(state, seconds * 1000, gone)) return OK
  throw new Refusal(408, `machine failed to reach desired state, ${state}, currently ${machine.state}`)
}

function setMetadata(machine: Machine, entries: readonly (readonly [string, unknown])[]): void {
  // All are judged before one is written.
  const sound = entries.map(([key, value]): [string, string] => {
    if (value !== null && (typeof value !== 'string' || value.length > 4096))
      throw new Refusal(400, 'invalid metadata value')
    if (key === '' || key.length > 256) throw new Refusal(400, 'invalid metadata key')
    return [key, value ?? '']
  })
  for (const [key, value] of sound) {
    // As the real one: an empty value and null take the key away.
    if (value === '') machine.metadata.delete(key)
    else machine.metadata.set(key, value)
  }
}

function cordon(machine: Machine, { leaseNonce }: Ask, cordoned: boolean): Answer {
  machine.requireLease(leaseNonce)
  machine.cordon(cordoned)
  return OK
}

function takeLease(machine: Machine, { query, body, leaseNonce }: Ask): Answer {
  const { ttl = query['ttl'] ?? 60, description = '' } = body
  if (typeof description !== 'string' || description.length > 256) throw new Refusal(400, 'invalid request body')
  const seconds = whole(String(typeof ttl === 'number' || typeof ttl === 'string' ? ttl : ''), 1, 24 * 3600, 'ttl')
  const lease = machine.takeLease(leaseNonce, seconds, `${machine.about.name}@${machine.about.org.name}`, description)
  return { status: 'success', data: lease }
}

const SIGNALS = [
  'SIGHUP',
  'SIGINT',
  'SIGQUIT',
  'SIGKILL',
  'SIGUSR1',
  'SIGUSR2',
  'SIGTERM',
  'SIGSTOP',
  'SIGABRT',
  'SIGALRM',
  'SIGPIPE',
  'SIGTRAP',
]
const NUMBERED: Readonly<Record<number, string>> = {
  1: 'SIGHUP',
  2: 'SIGINT',
  3: 'SIGQUIT',
  9: 'SIGKILL',
  15: 'SIGTERM',
}

function signalName(signal: unknown): string {
  const name = typeof signal === 'number' ? NUMBERED[signal] : signal
  if (typeof name !== 'string' || !SIGNALS.includes(name)) throw new Refusal(400, 'invalid_argument: unknown signal')
  return name
}

function whole(text: string, least: number, most: number, what: string): number {
  const value = /^[0-9]{1,9}$/.test(text) ? Number(text) : Number.NaN
  if (value >= least && value <= most) return value
  throw new Refusal(400, `invalid_argument: ${what} must be in the range [${least}, ${most}]`)
}
