// The host's side of the whole thing on one computer: issuer (a process of its own), flyd with a door for each
// Machine, the macaroon files, and last of all `mock.json`, which says where everything is.

import { chmod, rename, rm, rmdir, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import type { Described, Machine } from '../flyd/machine.ts'
import { startFlyd } from '../flyd/start.ts'
import type { FlydOptions } from '../flyd/start.ts'
import { signerAt } from '../issuer/client.ts'
import { makeDirectories } from '../os/directory.ts'
import { errnoOf } from '../os/errno.ts'
import type { Parties } from '../parties/start.ts'
import { DEFAULT_MACHINES, describeMachine } from './described.ts'
import type { MachineNames } from './described.ts'
import { spawnIssuer } from './issuer-process.ts'
import { checkSocketPath, isServed } from './listen.ts'

export interface MockOptions extends Pick<FlydOptions, 'rateLimits' | 'settle' | 'macaroonLifetime' | 'macaroonForm'> {
  /** Everything that the mock writes is in here; made if it is not there. */
  readonly dir: string
  /** The first is the default one; without a list: two of `example:weather-cat` and one of `rival:storm-dog`. */
  readonly machines?: readonly MachineNames[]
  /** What `iss` begins with, such as `https://oidc.fly.io`; without it, where the issuer listens. */
  readonly issuerBase?: string
  /** TCP ports; any, unless given. */
  readonly ports?: { readonly flyd?: number; readonly issuer?: number }
  /** Relying parties too, seeded for the org `example`; `file` adds roles, providers and applications of your own. */
  readonly parties?: { readonly file?: string } | false
}

/** The text of `mock.json`. Without relying parties their members are left out. */
export interface MockFile extends Partial<Parties['json']> {
  readonly flyd: { readonly url: string }
  readonly issuer: { readonly url: string }
  /** PEM: what clients of `azure.url` must trust. */
  readonly azure_ca_file?: string
  readonly machines: readonly MockMachine[]
}

export interface MockMachine {
  readonly org: string
  readonly app: string
  readonly name: string
  readonly id: string
  readonly region: string
  readonly macaroon_file: string
  readonly flyd_url: string
}

export interface Mock {
  /** What `mock.json` holds. */
  readonly file: MockFile
  /** Path of `mock.json`. */
  readonly path: string
  /** flyd's own view of the Machines, for tests. */
  readonly machines: readonly Machine[]
  readonly issuerPid: number
  /** Changes the signing key of an org; the old one stays published until its tokens have expired. */
  rotate(org: string): Promise<void>
  stop(): Promise<void>
}

export async function startMock(options: MockOptions): Promise<Mock> {
  const dir = resolve(options.dir)
  const path = join(dir, 'mock.json')
  const signerDir = join(dir, 'issuer')
  const signerPath = join(signerDir, 'sign.sock')
  const socketOf = ({ id }: Described): string => join(dir, 'doors', `${id}.sock`)
  const macaroonOf = ({ id }: Described): string => join(dir, 'macaroons', id)
  const machines = (options.machines ?? DEFAULT_MACHINES).map(describeMachine)
  if (new Set(machines.map(({ id }) => id)).size !== machines.length)
    throw new TypeError('two Machines have the same name')

  for (const socket of [signerPath, ...machines.map(socketOf)]) checkSocketPath(socket)
  // Before anything of the other's is touched.
  if (await isServed(signerPath)) throw new Error(`another mock runs in ${dir}`)
  // In the order of starting; stopped from the end.
  const running: (() => Promise<unknown>)[] = []
  const stop = async (): Promise<void> => {
    for (let last = running.pop(); last !== undefined; last = running.pop()) await last()
  }
  const make = async (missing: string, mode: number): Promise<void> => {
    const made = await directory(missing, mode)
    running.push(() => removeEmpty(made))
  }
  try {
    await make(dir, 0o755)
    // Whoever waits for the file must not find an earlier run's.
    await rm(path, { force: true })
    await make(join(dir, 'doors'), 0o755)
    await make(join(dir, 'macaroons'), 0o755)
    await make(signerDir, 0o700)
    const orgs = [...new Set(machines.map(({ org }) => org.name))]
    const [first] = orgs
    if (first === undefined) throw new TypeError('a mock needs a Machine')
    const issuer = await spawnIssuer({
      orgs,
      aliases: orgs.includes('personal') ? {} : { personal: first },
      signer: signerPath,
      ...(options.issuerBase === undefined ? {} : { base: options.issuerBase }),
      ...(options.ports?.issuer === undefined ? {} : { port: options.ports.issuer }),
    })
    running.push(() => issuer.stop())
    const signer = signerAt(signerPath)
    running.push(() => signer.close())
    const flyd = await startFlyd(flydOptions(options, machines, socketOf, signer))
    running.push(() => flyd.stop())
    running.push(() => rm(join(dir, 'macaroons'), { recursive: true, force: true }))
    for (const machine of flyd.machines) await replace(macaroonOf(machine.about), flyd.macaroonFor(machine), 0o600)

    const parties = options.parties === false ? undefined : await startBeside(options, issuer)
    const azureCa = join(dir, 'azure-ca.pem')
    if (parties !== undefined) {
      running.push(() => parties.close())
      running.push(() => rm(azureCa, { force: true }))
      await replace(azureCa, parties.azureCa, 0o644)
    }

    const file: MockFile = {
      flyd: { url: flyd.url },
      issuer: { url: issuer.url },
      ...(parties === undefined ? {} : { ...parties.json, azure_ca_file: azureCa }),
      machines: machines.map((machine) => ({
        org: machine.org.name,
        app: machine.app.name,
        name: machine.name,
        id: machine.id,
        region: machine.region,
        macaroon_file: macaroonOf(machine),
        flyd_url: `unix:${socketOf(machine)}`,
      })),
    }
    running.push(() => rm(path, { force: true }))
    await replace(path, `${JSON.stringify(file, null, 2)}\n`, 0o644)
    return { file, path, machines: flyd.machines, issuerPid: issuer.pid, rotate: (org) => signer.rotate(org), stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** Loaded when wanted: the parties are as much code again as flyd and issuer. */
async function startBeside({ parties, issuerBase }: MockOptions, issuer: { readonly url: string }): Promise<Parties> {
  const { startParties } = await import('../parties/start.ts')
  const file = parties === false ? undefined : parties?.file
  return startParties({
    issuer: { base: issuerBase ?? issuer.url, url: issuer.url },
    ...(file === undefined ? {} : { file }),
  })
}

const flydOptions = (
  { rateLimits, settle, macaroonLifetime, macaroonForm, ports }: MockOptions,
  machines: readonly Described[],
  socketOf: (machine: Described) => string,
  signer: FlydOptions['signer'],
): FlydOptions => ({
  machines,
  socketOf,
  signer,
  ...(rateLimits === undefined ? {} : { rateLimits }),
  ...(settle === undefined ? {} : { settle }),
  ...(macaroonLifetime === undefined ? {} : { macaroonLifetime }),
  ...(macaroonForm === undefined ? {} : { macaroonForm }),
  ...(ports?.flyd === undefined ? {} : { port: ports.flyd }),
})

/** Those that it made, from `path` upwards. */
async function directory(path: string, mode: number): Promise<string[]> {
  let first
  try {
    first = makeDirectories(path, mode)
  } catch (error) {
    const code = errnoOf(error)
    if (code === 'EEXIST' && error instanceof Error && 'path' in error)
      throw new Error(`${String(error.path)} is not a directory: choose another`, { cause: error })
    throw new Error(`${path} cannot be made (${code}): choose another directory`, { cause: error })
  }
  // A directory that was there is somebody's, such as /tmp: its mode is theirs.
  if (first === undefined) return []
  await chmod(path, mode) // a umask may have had its say
  const made = [path]
  for (let at = path; at !== first;) made.push((at = dirname(at)))
  return made
}

/** Nobody's files: a directory that somebody has put something into stays, and those above it. */
async function removeEmpty(directories: readonly string[]): Promise<void> {
  for (const path of directories) {
    try {
      await rmdir(path)
    } catch {
      return // not empty, or gone: no reason to fail at the very end
    }
  }
}

/** Whole or not at all, and with its mode from the first byte. */
async function replace(path: string, text: string, mode: number): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`
  await rm(temporary, { force: true })
  await writeFile(temporary, text, { mode, flag: 'wx' })
  await rename(temporary, path)
}
