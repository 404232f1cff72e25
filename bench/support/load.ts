// Keep-alive load on a Unix socket from one process: node load.ts SOCKET CONCURRENCY SECONDS. Prints one JSON line:
// requests, errors, and latencies in µs. The clients of all peers are this one, so that only the peers differ.

import { connect } from 'node:net'

const [, , path = '', concurrency = '1', seconds = '1'] = process.argv
const BODY = '{"aud":"sts.amazonaws.com"}'
const REQUEST = Buffer.from(
  `POST /v1/tokens/oidc HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\nContent-Length: ${BODY.length}\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n${BODY}`,
)
const end = performance.now() + Number(seconds) * 1000
const latencies: number[] = []
let errors = 0
let open = Number(concurrency)

function guest(): void {
  const socket = connect(path)
  let began = 0
  let need = -1
  let got = 0
  const ask = (): void => {
    began = performance.now()
    socket.write(REQUEST)
  }
  socket.on('connect', ask)
  socket.on('error', () => errors++)
  socket.on('close', () => {
    if (--open === 0) tell()
  })
  socket.on('data', (bytes) => {
    if (need < 0) {
      const head = bytes.indexOf('\r\n\r\n')
      const text = bytes.toString('latin1', 0, head)
      if (head < 0 || !text.startsWith('HTTP/1.1 200')) {
        errors++
        socket.destroy()
        return
      }
      // nginx with sub_filter answers in chunks.
      const length = /content-length: ([0-9]+)/i.exec(text)?.[1]
      need = length === undefined ? Number.POSITIVE_INFINITY : head + 4 + Number(length)
      got = 0
    }
    got += bytes.length
    const last =
      need === Number.POSITIVE_INFINITY &&
      bytes.length >= 5 &&
      bytes.toString('latin1', bytes.length - 5) === '0\r\n\r\n'
    if (got < need && !last) return
    need = -1
    const now = performance.now()
    latencies.push((now - began) * 1000)
    if (now < end) ask()
    else socket.destroy()
  })
}

function tell(): void {
  latencies.sort((a, b) => a - b)
  const at = (q: number): number =>
    Math.round(latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * q))] ?? 0)
  console.log(JSON.stringify({ requests: latencies.length, errors, p50: at(0.5), p99: at(0.99), p999: at(0.999) }))
}

for (let i = 0; i < Number(concurrency); i++) guest()
