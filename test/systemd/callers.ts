// Guests that dial again and again, a hundred a second, each on a connection of its own, and count how it went.

import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

const PAUSE = 10 // ms
const PATIENCE = 30_000 // ms for one answer
const REQUEST = 'POST /v1/tokens/oidc HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}'

export interface Count {
  /** With a 200. */
  answered: number
  /** connect(2) failed. */
  refused: number
  /** Connected, and no whole answer. */
  broken: number
}

/** One exchange over the socket at `path`; its whole answer, '' where it broke off, or the error of connect. */
export function dial(path: string, request = REQUEST): Promise<string | { refused: string }> {
  return new Promise((resolve) => {
    let connected = false
    let answer = ''
    let error = ''
    const socket = connect({ path })
    const late = setTimeout(() => socket.destroy(), PATIENCE)
    socket.on('connect', () => (connected = true))
    socket.setEncoding('latin1').on('data', (text: string) => (answer += text))
    socket.on('error', (caught: NodeJS.ErrnoException) => (error = caught.code ?? 'unknown'))
    socket.on('close', () => {
      clearTimeout(late)
      resolve(connected ? answer : { refused: error })
    })
    socket.write(request)
  })
}

/** Dials while `during` runs, and until all that dialled have their answer. */
export async function whileCalling(path: string, during: () => Promise<void>): Promise<Count> {
  const count: Count = { answered: 0, refused: 0, broken: 0 }
  const open = new Set<Promise<void>>()
  const over = new AbortController()
  const call = async (): Promise<void> => {
    const answer = await dial(path)
    if (typeof answer === 'object') count.refused++
    else if (answer.startsWith('HTTP/1.1 200 ')) count.answered++
    else count.broken++
  }
  const loop = (async () => {
    while (!over.signal.aborted) {
      const one = call()
      open.add(one)
      void one.then(() => open.delete(one))
      await sleep(PAUSE)
    }
  })()
  try {
    await during()
  } finally {
    over.abort()
    await loop
    await Promise.all(open)
  }
  return count
}
