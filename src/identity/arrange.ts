// All that is asked for, found out without touching anything and without an HTTP client: init itself does this, to know
// what to add to its program's environment.

import { anthropic } from './anthropic.ts'
import { aws } from './aws.ts'
import { azure } from './azure.ts'
import { type Arrangement, type Cloud, NOTHING, type TokenFile, type Variables } from './cloud.ts'
import type { Notice, Problem } from './event.ts'
import { gcp } from './gcp.ts'
import type { IdentityOptions } from './options.ts'

const CLOUDS: readonly Cloud[] = [aws, gcp, azure, anthropic]

/** All clouds together with the files that were asked for by hand. */
export function arrange(env: Variables, options: IdentityOptions): Arrangement {
  const { directory, awsPrincipalTags, owner } = options
  const ground = { directory, awsPrincipalTags, ...(owner === undefined ? {} : { owner }) }
  const parts = CLOUDS.map((cloud) => cloud(env, ground))
  // Who names a file without its owner means the program that is started.
  const custom = options.files.map((file) =>
    file.uid === undefined && file.gid === undefined ? { ...file, ...owner } : file,
  )
  const files: TokenFile[] = []
  const problems: Problem[] = parts.flatMap((part) => part.problems)
  const settings = parts.flatMap((part) => part.settings)
  const taken = new Set(settings.map(({ path }) => path))
  for (const file of [...parts.flatMap((part) => part.files), ...custom]) {
    if (taken.has(file.path)) problems.push({ code: 'PATH_TWICE', cloud: file.cloud, variable: file.path })
    else files.push(file)
    taken.add(file.path)
  }
  const notices: Notice[] = parts.flatMap((part) => part.notices)
  return { ...NOTHING, env: Object.assign({}, ...parts.map((part) => part.env)), files, settings, problems, notices }
}
