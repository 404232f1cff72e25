// What a careful user of a Node proxy library would write: the credential blanked in header values, and in bodies by a
// stream that finds it across chunks too. Two spellings, by Buffer.indexOf; same length, so that framing stays true.

import { readFileSync } from 'node:fs'
import { Transform } from 'node:stream'

const [, , socket, port, file] = process.argv
const { credential, needles: texts } = JSON.parse(readFileSync(file, 'utf8'))
const needles = texts.map((text) => Buffer.from(text))
const longest = Math.max(...needles.map(({ length }) => length))

export { credential, socket }
export const upstream = `http://127.0.0.1:${port}`

/** Header values, in place. */
export function blankHeaders(headers) {
  for (const [name, value] of Object.entries(headers)) {
    if (typeof value === 'string') headers[name] = blankText(value)
    else if (Array.isArray(value)) headers[name] = value.map(blankText)
  }
  return headers
}

function blankText(text) {
  for (const needle of texts) if (text.includes(needle)) text = text.replaceAll(needle, '*'.repeat(needle.length))
  return text
}

/** The body: what could be the beginning of a needle waits for the next chunk. */
export class Blank extends Transform {
  #held = Buffer.alloc(0)

  _transform(chunk, _encoding, done) {
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk])
    blankBytes(bytes)
    const safe = Math.max(0, bytes.length - longest + 1)
    this.#held = bytes.subarray(safe)
    done(null, bytes.subarray(0, safe))
  }

  _flush(done) {
    done(null, this.#held)
  }
}

function blankBytes(bytes) {
  for (const needle of needles) {
    for (let at = bytes.indexOf(needle); at >= 0; at = bytes.indexOf(needle, at + needle.length))
      bytes.fill(0x2a, at, at + needle.length)
  }
}
