// flyd: a door for each Machine, a Unix socket as a VM has its own vsock, and a TCP door which knows no Machine.

import { randomBytes } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import type { Signer } from '../issuer/client.ts'
import { listenAt } from '../mock/listen.ts'
import { Limiter } from './bucket.ts'
import { door } from './door.ts'
import type { Fleet } from './fleet.ts'
import { Machine } from './machine.ts'
import type { Described, Time } from './machine.ts'
import { mint } from './mint.ts'

export interface FlydOptions {
  readonly machines: readonly Described[]
  /** Where a Machine's door is. */
  readonly socketOf: (machine: Described) => string
  readonly signer: Pick<Signer, 'sign'>
  /** The documented limits; off unless asked for. */
  readonly rateLimits?: boolean
  /** Milliseconds that starting, stopping and suspending take. */
  readonly settle?: number
  /** Seconds that a macaroon is good for. */
  readonly macaroonLifetime?: number
  /** `discharged`: permission token and discharge, as Fly's third-party tokens come. */
  readonly macaroonForm?: 'single' | 'discharged'
  /** TCP port of the door that knows no Machine; 0, the default, is any. */
  readonly port?: number
  /** Milliseconds, as Date.now. */
  readonly now?: () => number
}

export interface Flyd {
  /** The TCP door. */
  readonly url: string
  readonly machines: readonly Machine[]
  /** A fresh macaroon for a Machine: the value of its Authorization header. HAZARD: this is the credential. */
  macaroonFor(machine: Machine): string
  stop(): Promise<void>
}

const MONTH = 30 * 24 * 3600

export async function startFlyd(options: FlydOptions): Promise<Flyd> {
  const timers = new Set<NodeJS.Timeout>()
  const time: Time = {
    now: options.now ?? Date.now,
    later(milliseconds, run) {
      const timer = setTimeout(() => {
        timers.delete(timer)
        run()
      }, milliseconds)
      timers.add(timer)
    },
  }
  const machines = options.machines.map((about) => new Machine(about, time, options.settle ?? 20))
  const key = randomBytes(32).toString('base64url')
  const limiter = options.rateLimits === true ? new Limiter() : undefined
  const fleet: Fleet = { machines, key, signer: options.signer, limiter, time }

  const doors: FastifyInstance[] = []
  const stop = async (): Promise<void> => {
    for (const timer of timers) clearTimeout(timer)
    await Promise.all(doors.map((app) => app.close()))
  }
  try {
    for (const machine of machines) {
      const app = door(fleet, machine)
      doors.push(app)
      await app.ready()
      // Anyone may knock, as any proxy in the guest may; the macaroon is what is asked for.
      await listenAt(app.server, options.socketOf(machine.about), 0o666)
    }
    const tcp = door(fleet, undefined)
    doors.push(tcp)
    const url = await tcp.listen({ host: '127.0.0.1', port: options.port ?? 0 })
    return {
      url,
      machines,
      macaroonFor: ({ about }) =>
        mint(
          key,
          {
            org: about.org.name,
            app: about.app.name,
            machine: about.name,
            expires: Math.floor(time.now() / 1000) + (options.macaroonLifetime ?? MONTH),
          },
          options.macaroonForm,
        ),
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}
