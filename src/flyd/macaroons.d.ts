// macaroons.js 0.3.9 brings no types. Declared as wide as used: satisfyGeneral and TimestampCaveatVerifier are left
// out on purpose. The first takes a Promise for a yes, the second takes `notime < 99999` for a time.

declare module 'macaroons.js' {
  interface Packet {
    /** 3 cid, 4 vid, 5 cl */
    readonly type: number
    readonly rawValue: Buffer
    getValueAsText(): string
  }
  interface Macaroon {
    readonly location: string
    readonly identifier: string
    readonly signatureBuffer: Buffer
    readonly caveatPackets: readonly Packet[]
    serialize(): string
  }
  interface Builder {
    add_first_party_caveat(caveat: string): Builder
    add_third_party_caveat(location: string, secret: string, identifier: string): Builder
    prepare_for_request(discharge: Macaroon): Builder
    getMacaroon(): Macaroon
  }
  interface Verifier {
    satisfyExact(caveat: string): Verifier
    satisfy3rdParty(discharge: Macaroon): Verifier
    /** `unknown`, so that whoever asks must compare with `true`. */
    isValid(key: string): unknown
  }
  const macaroons: {
    readonly MacaroonsBuilder: {
      new (location: string, key: string, identifier: string): Builder
      modify(macaroon: Macaroon): Builder
      deserialize(text: string): Macaroon
    }
    readonly MacaroonsVerifier: new (macaroon: Macaroon) => Verifier
  }
  export type { Macaroon }
  export default macaroons
}
