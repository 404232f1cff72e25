// Who called connect(2) on a Unix socket: SO_PEERCRED, right across user and PID namespaces.

import ffi from 'node:ffi'

const SOL_SOCKET = 1
const SO_PEERCRED = 17

const { functions: libc } = ffi.dlopen(null, {
  getsockopt: { arguments: ['i32', 'i32', 'i32', 'pointer', 'pointer'], return: 'i32' },
})

const credentials = new Int32Array(3)
const length = new Uint32Array(1)
const credentialsAt = ffi.getRawPointer(credentials)
const lengthAt = ffi.getRawPointer(length)

export interface Caller {
  pid: number
  uid: number
  gid: number
}

/** The connecting process as it was at connect(2); the pid may be gone by now, so decide nothing by it. */
export function callerOf(fd: number): Caller {
  length[0] = credentials.byteLength
  const failed = libc.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentialsAt, lengthAt) !== 0
  const [pid = -1, uid = -1, gid = -1] = failed ? [] : credentials
  return { pid, uid, gid }
}
