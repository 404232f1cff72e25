// Elements as nested pairs, written out. Nothing here reads XML: the query protocol only answers in it.

export type Xml = string | number | readonly (readonly [name: string, content: Xml])[]

export const element = (name: string, content: Xml, attributes = ''): string =>
  `<${name}${attributes}>${inside(content)}</${name}>`

const inside = (content: Xml): string =>
  typeof content === 'object'
    ? content.map(([name, within]) => element(name, within)).join('')
    : escape(String(content))

// A `sub` is whatever an issuer signs. XML 1.0 has no way to write most control characters, so they become U+FFFD.
const escape = (text: string): string =>
  text
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '\ufffd')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll('\r', '&#13;')
