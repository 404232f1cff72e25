// The hostile flyd of the canary: one way for each place of an answer in which the credential could stand.

import type { Dice } from './credentials.ts'

/** How an answer carries a text: the pieces are written one by one, so that the proxy reads them apart. */
export interface Position {
  name: string
  /** True: only a sample of the spellings is tried here, since this place is dropped whatever it holds. */
  sampled: boolean
  method: 'GET' | 'POST'
  answer(text: Buffer, dice: Dice): Buffer[]
}

const OK = 'HTTP/1.1 200 OK\r\n'
const TYPE = 'content-type: application/json; charset=utf-8\r\n'
const EMPTY = 'content-length: 0\r\n\r\n'

const join = (...parts: (string | Buffer)[]): Buffer =>
  Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part)))

/** Cut once anywhere, or in many pieces, or not at all. */
function cut(bytes: Buffer, dice: Dice): Buffer[] {
  const pieces = dice.pick([1, 2, 2, 5])
  const marks = Array.from({ length: pieces - 1 }, () => dice.below(bytes.length)).sort((a, b) => a - b)
  return [0, ...marks].map((mark, i) => bytes.subarray(mark, marks[i])).filter((piece) => piece.length > 0)
}

const body =
  (status: string): Position['answer'] =>
  (text, dice) => {
    const whole = join('{"error":"', text, '"}')
    return cut(join(`HTTP/1.1 ${status}\r\n${TYPE}content-length: ${whole.length}\r\n\r\n`, whole), dice)
  }

const header =
  (line: (text: Buffer) => Buffer): Position['answer'] =>
  (text, dice) =>
    cut(join(OK, line(text), '\r\n', EMPTY), dice)

const position = (
  name: string,
  answer: Position['answer'],
  sampled = true,
  method: Position['method'] = 'GET',
): Position => ({ name, sampled, method, answer })

export const POSITIONS: readonly Position[] = [
  position('body', body('200 OK'), false),
  position(
    'body, in chunks',
    (text, dice) => {
      const chunks: Buffer[] = [join(`${OK}${TYPE}transfer-encoding: chunked\r\n\r\n`)]
      for (const piece of cut(text, dice)) chunks.push(join(`${piece.length.toString(16)}\r\n`, piece, '\r\n'))
      return [...chunks, join('0\r\n\r\n')]
    },
    false,
  ),
  position('body of an error', body('500 Internal Server Error')),
  position('body of a 401', body('401 Unauthorized')),
  position(
    'token answer',
    (text, dice) => cut(join(OK, `content-length: ${text.length + 4}\r\n\r\na.b.`, text), dice),
    true,
    'POST',
  ),
  position('status line', (text, dice) => cut(join('HTTP/1.1 200 ', text, '\r\n', EMPTY), dice)),
  position(
    'content-type',
    header((text) => join('content-type: ', text)),
  ),
  position(
    'fly-request-id',
    header((text) => join('fly-request-id: ', text)),
  ),
  position(
    'fly-request-id, by 64',
    header((text) => join('fly-request-id: ', text.subarray(0, 64))),
  ),
  position(
    'retry-after',
    header((text) => join('retry-after: ', text)),
  ),
  position(
    'unlisted header',
    header((text) => join('x-debug: ', text)),
  ),
  position(
    'header name',
    header((text) => join(text, ': 1')),
  ),
  position(
    'set-cookie, twice',
    header((text) => join('set-cookie: a=', text, '\r\nset-cookie: b=', text)),
  ),
  position('location', (text, dice) => cut(join('HTTP/1.1 302 Found\r\nlocation: /', text, '\r\n', EMPTY), dice)),
  position('interim answer', (text, dice) =>
    cut(join('HTTP/1.1 103 Early Hints\r\nlink: ', text, `\r\n\r\n${OK}`, EMPTY), dice),
  ),
  position('upgrade', (text, dice) =>
    cut(join('HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n', text), dice),
  ),
  position('chunk extension', (text, dice) =>
    cut(join(`${OK}transfer-encoding: chunked\r\n\r\n2;x=`, text, '\r\n{}\r\n0\r\n\r\n'), dice),
  ),
  position('trailer', (text, dice) =>
    cut(join(`${OK}transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx-end: `, text, '\r\n\r\n'), dice),
  ),
  position('before the status line', (text, dice) => cut(join(text, OK, EMPTY), dice)),
  position('behind the end', (text, dice) => cut(join(OK, EMPTY, text), dice)),
  position('no length', (text, dice) => cut(join(OK, '\r\n', text), dice)),
  position('content-encoding', (text, dice) =>
    cut(join(OK, `content-encoding: x-own\r\ncontent-length: ${text.length}\r\n\r\n`, text), dice),
  ),
]
