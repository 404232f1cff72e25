// What a program may import: a client of the socket, that knows no credential. The mock is `dotfly/mock`.

export { IdentityError, requestToken } from './identity/client.ts'
export type { TokenRequest, Trouble } from './identity/client.ts'
