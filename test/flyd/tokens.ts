// Tokens taken apart into packets and put together again, as somebody would who means ill.

import macaroons from 'macaroons.js'

export const KEY = 'a root key of high entropy, for tests only 7f3a91'

export interface Packet {
  readonly key: string
  readonly value: Buffer
}

export const packet = (key: string, value: string | Buffer): Packet => ({ key, value: Buffer.from(value) })

export function packetsOf(token: string): Packet[] {
  const bytes = Buffer.from(token, 'base64url')
  const packets: Packet[] = []
  for (let at = 0; at < bytes.length;) {
    const size = Number.parseInt(bytes.toString('latin1', at, at + 4), 16)
    const body = bytes.subarray(at + 4, at + size - 1)
    const space = body.indexOf(' ')
    packets.push({ key: body.toString('latin1', 0, space), value: Buffer.from(body.subarray(space + 1)) })
    at += size
  }
  return packets
}

export const bytesOf = (packets: readonly Packet[]): Buffer =>
  Buffer.concat(
    packets.flatMap(({ key, value }) => {
      const size = 4 + key.length + 1 + value.length + 1
      return [Buffer.from(`${size.toString(16).padStart(4, '0')}${key} `), value, Buffer.from('\n')]
    }),
  )

export const tokenOf = (packets: readonly Packet[]): string => bytesOf(packets).toString('base64url')

/** The tokens of an Authorization header. */
export const tokensOf = (header: string): string[] => header.replace(/^FlyV1 /, '').split(',')

export const headerOf = (...tokens: string[]): string => `FlyV1 ${tokens.join(',')}`

/** Edits the packets of the first token of a header. */
export function edit(header: string, change: (packets: Packet[]) => Packet[]): string {
  const [first = '', ...rest] = tokensOf(header)
  return headerOf(tokenOf(change(packetsOf(first))), ...rest)
}

/** Adds a packet before the signature, signing nothing. */
export const insert =
  (...added: Packet[]) =>
  (packets: Packet[]): Packet[] => [...packets.slice(0, -1), ...added, ...packets.slice(-1)]

/** A token that is properly signed, with whatever caveats. */
export function sign(
  caveats: readonly string[],
  { key = KEY, location = 'https://api.fly.io/v1', identifier = 'ab'.repeat(16) } = {},
): string {
  const builder = new macaroons.MacaroonsBuilder(location, key, identifier)
  for (const caveat of caveats) builder.add_first_party_caveat(caveat)
  return builder.getMacaroon().serialize()
}

/** Attenuates a token as its holder may: a caveat more, properly signed. */
export const attenuate = (token: string, caveat: string): string =>
  macaroons.MacaroonsBuilder.modify(macaroons.MacaroonsBuilder.deserialize(token))
    .add_first_party_caveat(caveat)
    .getMacaroon()
    .serialize()
