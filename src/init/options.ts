// What a platform may ask of the proxy, as typed values. The command line, the tests and init all build these.

/** `self`, the default, is this app's and this Machine's own routes; `token` only mints; `all` lets flyd decide. */
export type Preset = 'self' | 'token' | 'all'

/** One socket the guest may dial, and what it may ask for there. */
export interface SocketOptions {
  path: string
  /** A descriptor that listens there already, from the service manager: the file, its mode and its end are not ours. */
  fd?: number
  /** File mode, such as 0o600; without it 0o755, or where a group is meant, and no user, 0o660. Set by umask before bind,
   * never by chmod after. */
  mode?: number
  /** Owner of the socket file; a `uid` also refuses every other caller but root. */
  uid?: number
  gid?: number
  policy: Preset
  /** Extra routes, each `METHOD /path/pattern` with `*` for one segment. */
  allow: string[]
  /** Audiences that tokens may be asked for; empty: any. */
  audiences: string[]
}

export interface ProxyOptions {
  sockets: SocketOptions[]
  /** `http://host:port`, `https://host:port`, `unix:/path` or `vsock:cid:port`. */
  flyd: string
  /** A PEM file of the only certificates that vouch for an `https:` flyd; without it, those that Node brings. */
  flydCa?: string
  /** `unlink` removes the file once it has been read. */
  macaroon: { file: string; unlink?: boolean } | { fd: number }
  /** Names that `self` compares paths with. */
  app?: string
  machine?: string
  /** False where nobody logs or counts exchanges that went well: then only refusals, errors and hits are told of. To tell
   * of one costs a sixth of what it costs itself. */
  tellsAll?: boolean
}
