// All that one run has found.

import type { ColdRow } from './cold.ts'
import type { Growth } from './growth.ts'
import type { Flatness, MemoryRow } from './memory.ts'
import type { RequestRow } from './requests.ts'
import type { StreamRow } from './stream.ts'
import type { Figure } from './support/statistics.ts'

export interface Results {
  at: string
  machine: { cpu: string; cores: number; memory: number; kernel: string; node: string }
  mode: string
  rounds: number
  seconds: number
  peers: { name: string; title: string; version: string; strips: { headers: boolean; body: boolean } }[]
  requests?: RequestRow[]
  /** Each on a connection of its own. */
  calls?: RequestRow[]
  stream?: StreamRow[]
  cold?: { node: Figure; rows: ColdRow[] }
  memory?: MemoryRow[]
  flatness?: Flatness[]
  growth?: Growth
}
