/** The credential of the benchmarks, of a format that nobody knows: all of it is secret. */
export const CREDENTIAL = `FlyV1 ${'bench-credential-that-is-no-secret_'.repeat(20)}`

/** What one peer is told: where to listen, where to send, what to inject and to take out. */
export interface Task {
  /** Of its own. */
  directory: string
  socket: string
  /** Of the upstream, on 127.0.0.1. */
  port: number
  credential: string
  /** What it looks for in answers, where it can look for more than the two that all look for. */
  needles: readonly string[]
}

export interface Launch {
  command: string
  args: readonly string[]
  env: NodeJS.ProcessEnv
}

/** A proxy that a user could pick. */
export interface Peer {
  /** One word, for --peers. */
  name: string
  title: string
  /** What it takes the credential out of, with the configuration in its file. `value`: every place of all headers. */
  strips: { headers: boolean; body: boolean }
  /** Undefined, or why it cannot be measured here and how to change that. */
  missing(): string | undefined
  version(): string
  /** Writes its configuration, and says how it is started. */
  launch(task: Task): Launch
}
