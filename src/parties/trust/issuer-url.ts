// What an issuer may be called where it is registered. Clouds compare `iss` with it byte by byte, so what is odd about
// it is refused at once instead of never matching.

import { ConfigError } from '../shape.ts'
import { isLoopback } from './reach.ts'

/**
 * https, a path if need be, and neither port, query, fragment nor trailing slash: docs.amazonaws.cn identity-providers-oidc.
 * Plain http and a port pass for loopback only: that is where a mock issuer lives, and no real cloud would take it.
 */
export function needIssuerUrl(text: string, where: string): string {
  if (!URL.canParse(text)) throw new ConfigError(`${where} is not a URL`)
  const url = new URL(text)
  if (url.search !== '' || url.hash !== '' || /[?#]/.test(text))
    throw new ConfigError(`${where} has a query or a fragment`)
  if (url.username !== '' || url.password !== '') throw new ConfigError(`${where} has a user`)
  if (text.endsWith('/')) throw new ConfigError(`${where} ends in a slash`)
  if (isLoopback(url)) {
    if (url.protocol !== 'http:' && url.protocol !== 'https:')
      throw new ConfigError(`${where} is neither http nor https`)
    return text
  }
  if (url.protocol !== 'https:') throw new ConfigError(`${where} is not https`)
  if (/^https:\/\/[^/]*:\d/.test(text)) throw new ConfigError(`${where} has a port`)
  return text
}
