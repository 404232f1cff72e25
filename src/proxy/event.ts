// All that the proxy may ever say. Numbers, codes of closed unions, and strings that this process made itself
// (route patterns) or has judged (an audience): never a byte of the wire. The trusted part reports; others log.

/** Why the proxy made an answer itself, and the status it then has. Wire text never enters a code, so it is safe to
 * show to anybody. */
export const STATUS = {
  // the guest's request
  REQUEST_MALFORMED: 400,
  REQUEST_TIMEOUT: 408,
  REQUEST_LINE_TOO_LONG: 414,
  REQUEST_HEAD_TOO_LARGE: 431,
  REQUEST_BODY_TOO_LARGE: 413,
  VERSION_NOT_SUPPORTED: 505,
  EXPECTATION_FAILED: 417,
  FORWARDED_REQUEST: 403,
  // policy
  TARGET_MALFORMED: 400,
  ROUTE_NOT_SERVED: 404,
  ROUTE_NOT_ALLOWED: 403,
  METHOD_NOT_ALLOWED: 405,
  NOT_THIS_MACHINE: 403,
  QUERY_NOT_SERVED: 400,
  BODY_MALFORMED: 400,
  AUDIENCE_NOT_ALLOWED: 403,
  CALLER_NOT_ALLOWED: 403,
  TOO_MANY_CONNECTIONS: 503,
  TOO_MUCH_UNFINISHED: 503,
  // flyd's answer
  FLYD_UNREACHABLE: 502,
  FLYD_TIMEOUT: 504,
  FLYD_CLOSED: 502,
  FLYD_MALFORMED: 502,
  FLYD_ENCODED: 502,
  FLYD_REDIRECTED: 502,
  FLYD_UPGRADED: 502,
  FLYD_TOO_LARGE: 502,
  FLYD_NOT_A_TOKEN: 502,
} as const
export type Code = keyof typeof STATUS

/** One exchange, one of these; `status` 0 means that the guest went away before an answer began. */
export interface Exchange {
  kind: 'exchange'
  /** Unix time at which the request was complete, ms; of several in one turn of the loop, the first one's. */
  time: number
  /** Index of the listening socket on the launch line. */
  socket: number
  /** Who called connect(2), from SO_PEERCRED; -1 where the kernel does not say. */
  pid: number
  uid: number
  gid: number
  method: string
  /** The route's pattern, never the path that was asked for; '' where none matched. */
  route: string
  /** The audience asked for, after policy allowed it. */
  audience?: string
  status: number
  code?: Code
  /** Runs of the credential that strip blanked in this answer. */
  hits: number
  /** Body bytes sent to the guest. */
  bytes: number
  /** From complete request to last answer byte handed to the kernel, ms. */
  ms: number
}

export type Event =
  | { kind: 'listening'; socket: number }
  | Exchange
  | { kind: 'fault'; code: 'UNCAUGHT' | 'SOCKET_LOST' | 'NO_SECRET_MEMORY' }
  | { kind: 'draining' }
  | { kind: 'stopped' }
