// What counts as a leak, judged on the bytes that a guest received and on nothing that the proxy knows.

import type { Known } from './credentials.ts'

const WINDOW = 16 // the guarantee: a run of so many bytes
const SECRET = 4 // of which so many are secret

/** True when a run of the spelling that carries secret bytes is in `received`. */
export function leaks({ bytes, secret }: Known, received: Buffer): boolean {
  const judged = new Set<string>()
  for (let i = 0; i + WINDOW <= received.length; i++) {
    const window = received.subarray(i, i + WINDOW)
    const text = window.toString('latin1')
    if (judged.has(text)) continue
    judged.add(text)
    // Where the same text stands in a public place too, that is what passed.
    const places = placesOf(window, bytes)
    const carries = (at: number): boolean => secret.slice(at, at + WINDOW).filter(Boolean).length >= SECRET
    if (places.length > 0 && places.every(carries)) return true
  }
  return false
}

function placesOf(part: Buffer, whole: Buffer): number[] {
  const places: number[] = []
  for (let at = whole.indexOf(part); at >= 0; at = whole.indexOf(part, at + 1)) places.push(at)
  return places
}
