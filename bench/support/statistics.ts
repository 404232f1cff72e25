/** What is quoted of many rounds. */
export interface Figure {
  median: number
  min: number
  max: number
}

export function figure(numbers: readonly number[]): Figure {
  const sorted = numbers.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  const median = sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2
  return { median, min: sorted[0] ?? Number.NaN, max: sorted.at(-1) ?? Number.NaN }
}

/** Runs `once` for each of `subjects` in turn, `rounds` times: a slow second of the machine falls on all alike. */
export async function interleave<S, R>(
  rounds: number,
  subjects: readonly S[],
  once: (subject: S, round: number) => Promise<R>,
): Promise<Map<S, R[]>> {
  const found = new Map<S, R[]>(subjects.map((subject) => [subject, []]))
  for (let round = 0; round < rounds; round++) {
    // Every second round backwards, so that nobody always follows the same one.
    for (const subject of round % 2 === 0 ? subjects : subjects.toReversed())
      found.get(subject)?.push(await once(subject, round))
  }
  return found
}
