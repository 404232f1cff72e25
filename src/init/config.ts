// The file that a platform puts into a Machine's root before it boots it, in the form of the real init's run.json. Read
// once and removed: what is in it is nobody's business afterwards.

import { readFileSync, unlinkSync } from 'node:fs'
import { errnoOf } from '../os/errno.ts'
import { LaunchError } from './error.ts'

export interface Config {
  command?: string[]
  env: Record<string, string>
  user?: string
  cwd?: string
  hostname?: string
  nameservers: string[]
  hosts: { host: string; ip: string }[]
  mounts: { path: string; device: string }[]
}

/** Throws a LaunchError that names the field. Fields that are not ours are left alone. */
export function takeConfig(path: string): Config {
  let text
  try {
    text = readFileSync(path, 'utf8')
    unlinkSync(path)
  } catch (error) {
    throw new LaunchError(`config file ${path} cannot be read and removed (${errnoOf(error)})`)
  }
  return parseConfig(text, path)
}

export function parseConfig(text: string, path: string): Config {
  const wrong = (field: string): LaunchError =>
    new LaunchError(`config file ${path}: ${field} is not what it should be`)
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    throw new LaunchError(`config file ${path} is not JSON`)
  }
  const string = (value: unknown, field: string): string | undefined => {
    if (value === undefined || value === null || value === '') return undefined
    if (typeof value !== 'string' || value.includes('\0')) throw wrong(field)
    return value
  }
  const needed = (value: unknown, field: string): string => {
    const word = string(value, field)
    if (word === undefined) throw wrong(field)
    return word
  }
  const list = (value: unknown, field: string): unknown[] => {
    if (value === undefined || value === null) return []
    if (!Array.isArray(value)) throw wrong(field)
    return value
  }
  const words = (value: unknown, field: string): string[] =>
    list(value, field).map((word) => (word === '' ? '' : needed(word, field)))
  const object = (value: unknown, field: string): Record<string, unknown> => {
    if (value === undefined || value === null) return {}
    if (typeof value !== 'object' || Array.isArray(value)) throw wrong(field)
    return { ...value }
  }

  const run = object(json, 'the file')
  const image = object(run['ImageConfig'], 'ImageConfig')
  const override = words(run['ExecOverride'], 'ExecOverride')
  const cmd = string(run['CmdOverride'], 'CmdOverride')
  const command =
    override.length > 0
      ? override
      : [
          ...words(image['Entrypoint'], 'ImageConfig.Entrypoint'),
          ...(cmd === undefined ? words(image['Cmd'], 'ImageConfig.Cmd') : [cmd]),
        ]
  const env: Record<string, string> = {}
  for (const entry of words(image['Env'], 'ImageConfig.Env')) {
    const equals = entry.indexOf('=')
    if (equals < 1) throw wrong('ImageConfig.Env')
    env[entry.slice(0, equals)] = entry.slice(equals + 1)
  }
  for (const [name, value] of Object.entries(object(run['ExtraEnv'], 'ExtraEnv')))
    env[name] = string(value, `ExtraEnv.${name}`) ?? ''
  const user = string(run['UserOverride'], 'UserOverride') ?? string(image['User'], 'ImageConfig.User')
  const cwd = string(image['WorkingDir'], 'ImageConfig.WorkingDir')
  const hostname = string(run['Hostname'], 'Hostname')
  return {
    env,
    ...(command.length > 0 ? { command } : {}),
    ...(user === undefined ? {} : { user }),
    ...(cwd === undefined ? {} : { cwd }),
    ...(hostname === undefined ? {} : { hostname }),
    nameservers: words(object(run['EtcResolv'], 'EtcResolv')['Nameservers'], 'EtcResolv.Nameservers'),
    hosts: list(run['EtcHosts'], 'EtcHosts').map((entry) => {
      const { Host, IP } = object(entry, 'EtcHosts')
      return { host: needed(Host, 'EtcHosts.Host'), ip: needed(IP, 'EtcHosts.IP') }
    }),
    mounts: list(run['Mounts'], 'Mounts').map((entry) => {
      const { MountPath, DevicePath } = object(entry, 'Mounts')
      return { path: needed(MountPath, 'Mounts.MountPath'), device: needed(DevicePath, 'Mounts.DevicePath') }
    }),
  }
}
