// An entrypoint, root, whose flyd is at a vsock: it is that flyd itself, by the kernel's own loopback of vsock(7); asks the
// proxy for a token; and looks at every packet meanwhile. Prints `vsock WHAT RESULT`.
import ffi from 'node:ffi'
import { request } from 'node:http'
import { connect, createServer } from 'node:net'

const AF_PACKET = 17
const AF_VSOCK = 40
const STREAM = 1
const RAW = 3
const NONBLOCK = 0x800
const ALL_PROTOCOLS = 0x0300 // htons(ETH_P_ALL)
const MARKER = 'a-marker-that-goes-by-tcp'
const { functions: libc } = ffi.dlopen(null, {
  socket: { arguments: ['i32', 'i32', 'i32'], return: 'i32' },
  bind: { arguments: ['i32', 'buffer', 'u32'], return: 'i32' },
  listen: { arguments: ['i32', 'i32'], return: 'i32' },
  accept4: { arguments: ['i32', 'pointer', 'pointer', 'i32'], return: 'i32' },
  recv: { arguments: ['i32', 'buffer', 'u64', 'i32'], return: 'i64' },
  send: { arguments: ['i32', 'buffer', 'u64', 'i32'], return: 'i64' },
})
const says = (what, result) => console.log(`vsock ${what} ${result}`)
const pause = () => new Promise((resolve) => setTimeout(resolve, 20))

/** All that is there to be received. */
async function read(fd, enough) {
  let text = ''
  const bytes = Buffer.alloc(65_536)
  for (;;) {
    const length = Number(libc.recv(fd, bytes, BigInt(bytes.length), 0))
    if (length > 0) text += bytes.toString('latin1', 0, length)
    else if (enough(text)) return text
    else await pause()
  }
}

const sniffer = libc.socket(AF_PACKET, RAW | NONBLOCK, ALL_PROTOCOLS)
says('sniffer', sniffer >= 0)
const listener = libc.socket(AF_VSOCK, STREAM | NONBLOCK, 0)
const address = Buffer.alloc(16)
address.writeUInt16LE(AF_VSOCK)
address.writeUInt32LE(4280, 4)
address.writeUInt32LE(0xffff_ffff, 8) // VMADDR_CID_ANY
says('listens', libc.bind(listener, address, 16) === 0 && libc.listen(listener, 8) === 0)

async function flyd() {
  let fd = -1
  while ((fd = libc.accept4(listener, 0n, 0n, NONBLOCK)) < 0) await pause()
  const asked = await read(fd, (text) => text.endsWith('}'))
  says('asked', `${asked.startsWith('POST /v1/tokens/oidc ')} macaroon ${/^Authorization: FlyV1 \S/m.test(asked)}`)
  const answer = Buffer.from('HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nby-vsock.a.b')
  libc.send(fd, answer, BigInt(answer.length), 0)
}

const guest = () =>
  new Promise((resolve) => {
    const asks = request(
      { socketPath: '/.fly/api', path: '/v1/tokens/oidc', method: 'POST', agent: false },
      (answer) => {
        let body = ''
        answer.on('data', (bytes) => (body += bytes)).on('end', () => resolve(`${answer.statusCode} ${body}`))
      },
    )
    asks.on('error', () => setTimeout(() => resolve(guest()), 500)).end('{"aud":"a"}')
  })

const [answer] = await Promise.all([guest(), flyd()])
says('answered', answer)
// The control: what goes by TCP, on loopback too, it does see.
const server = createServer((socket) => socket.on('error', () => undefined).resume()).listen(0, '127.0.0.1', () => {
  connect(server.address().port, '127.0.0.1').end(MARKER)
})
const seen = await read(sniffer, (text) => text.includes(MARKER))
says('sniffed', `marker ${seen.includes(MARKER)} credential ${/FlyV1 /.test(seen)}`)
process.exit(0)
