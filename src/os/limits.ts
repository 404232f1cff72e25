// Resource limits of this process, which its children inherit.

import { failed } from './errno.ts'
import { bind } from './libc.ts'

const RESOURCE = { core: 4, nofile: 7, memlock: 8 } as const
export type Resource = keyof typeof RESOURCE
export interface Limit {
  soft: bigint
  hard: bigint
}

const libc = bind({
  getrlimit: { arguments: ['i32', 'buffer'], return: 'i32' },
  setrlimit: { arguments: ['i32', 'buffer'], return: 'i32' },
})

export function getLimit(resource: Resource): Limit {
  const pair = Buffer.alloc(16)
  if (libc.getrlimit(RESOURCE[resource], pair) !== 0) throw failed(`read the ${resource} limit`)
  return { soft: pair.readBigUInt64LE(0), hard: pair.readBigUInt64LE(8) }
}

export function setLimit(resource: Resource, { soft, hard }: Limit): void {
  const pair = Buffer.alloc(16)
  pair.writeBigUInt64LE(soft, 0)
  pair.writeBigUInt64LE(hard, 8)
  if (libc.setrlimit(RESOURCE[resource], pair) !== 0) throw failed(`set the ${resource} limit`)
}
