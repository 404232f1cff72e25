// All that the proxy may ever say. Numbers, codes of closed unions, and strings that this process made itself
// (route patterns) or has judged (an audience): never a byte of the wire. The trusted part reports; others log.

/** Why the proxy made an answer itself. Wire text never enters one, so a code is safe to show to anybody. */
export type Code =
  // the guest's request
  | 'REQUEST_MALFORMED'
  | 'REQUEST_TIMEOUT'
  | 'REQUEST_LINE_TOO_LONG'
  | 'REQUEST_HEAD_TOO_LARGE'
  | 'REQUEST_BODY_TOO_LARGE'
  | 'VERSION_NOT_SUPPORTED'
  | 'EXPECTATION_FAILED'
  | 'FORWARDED_REQUEST'
  // policy
  | 'TARGET_MALFORMED'
  | 'ROUTE_NOT_SERVED'
  | 'ROUTE_NOT_ALLOWED'
  | 'METHOD_NOT_ALLOWED'
  | 'NOT_THIS_MACHINE'
  | 'QUERY_NOT_SERVED'
  | 'BODY_MALFORMED'
  | 'AUDIENCE_NOT_ALLOWED'
  | 'CALLER_NOT_ALLOWED'
  | 'TOO_MANY_CONNECTIONS'
  // flyd's answer
  | 'FLYD_UNREACHABLE'
  | 'FLYD_TIMEOUT'
  | 'FLYD_CLOSED'
  | 'FLYD_MALFORMED'
  | 'FLYD_ENCODED'
  | 'FLYD_REDIRECTED'
  | 'FLYD_UPGRADED'
  | 'FLYD_TOO_LARGE'
  | 'FLYD_NOT_A_TOKEN'

/** One exchange, one of these; `status` 0 means that the guest went away before an answer began. */
export interface Exchange {
  kind: 'exchange'
  /** Unix time at which the request was complete, ms. */
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
