// The long-running mode of test/proxy/differential.test.ts: node test/fuzz/run.ts --minutes N [--seed S]. Prints
// throughput and counts; on a disagreement it prints the smallest input that shows it, and exits 1.

import * as fc from 'fast-check'
import { parseArgs } from 'node:util'
import { readCases } from '../support/corpus.ts'
import { answersDiffer, mutated, randomAnswers, randomRequests, requestsDiffer } from '../support/differential.ts'

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '1' }, seed: { type: 'string' } } })
const start = performance.now()
const until = start + Number(values.minutes) * 60_000
let seed = Number(values.seed ?? Date.now() % 2 ** 31)
console.log(`seed ${seed}, ${values.minutes} minutes`)

const small = (kind: 'request' | 'response'): Buffer[] =>
  readCases(kind)
    .map(({ bytes }) => bytes)
    .filter(({ length }) => length < 2000)
const count = { requests: { inputs: 0, accepted: 0, refused: 0 }, answers: { inputs: 0, accepted: 0, refused: 0 } }

async function request(bytes: Buffer): Promise<void> {
  const { why, accepted, refused } = await requestsDiffer(bytes)
  count.requests.inputs++
  count.requests.accepted += accepted
  if (refused) count.requests.refused++
  if (why !== undefined) throw new Error(why)
}

async function answer(bytes: Buffer): Promise<void> {
  const { why, accepted } = await answersDiffer(bytes)
  count.answers.inputs++
  if (accepted) count.answers.accepted++
  else count.answers.refused++
  if (why !== undefined) throw new Error(why)
}

const properties = [
  ['random requests', fc.asyncProperty(randomRequests, request)],
  ['mutated requests', fc.asyncProperty(mutated(small('request')), request)],
  ['random answers', fc.asyncProperty(randomAnswers, answer)],
  ['mutated answers', fc.asyncProperty(mutated(small('response')), answer)],
] as const

let told = start
let failed = false
while (performance.now() < until && !failed) {
  for (const [name, property] of properties) {
    const run = await fc.check(property, { seed, numRuns: 2000 })
    if (!run.failed) continue
    failed = true
    const [bytes] = run.counterexample ?? []
    console.log(`${name}, seed ${seed}: ${run.errorInstance instanceof Error ? run.errorInstance.message : 'failed'}`)
    console.log(`smallest input: ${JSON.stringify(bytes?.toString('latin1'))}`)
    break
  }
  seed = (seed + 1) % 2 ** 31
  if (performance.now() - told > 10_000 || performance.now() >= until || failed) {
    told = performance.now()
    const seconds = (told - start) / 1000
    for (const [name, { inputs, accepted, refused }] of Object.entries(count)) {
      console.log(
        `${seconds.toFixed(0)} s  ${name}: ${inputs} inputs (${(inputs / seconds).toFixed(0)}/s), ${accepted} accepted, ${refused} refused`,
      )
    }
  }
}
process.exit(failed ? 1 : 0)
