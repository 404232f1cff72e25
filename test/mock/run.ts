// A mock in a process of its own, for tests that look at it from outside. Ends when stdin does.

import { startMock } from '../../src/mock/start.ts'

const [, , dir] = process.argv
// Without a directory it is a test runner that took this for a test.
if (dir === undefined) process.exit(0)
const mock = await startMock({ dir })
process.stdout.write(`${JSON.stringify({ issuerPid: mock.issuerPid })}\n`)
process.stdin.resume().on('end', () => void mock.stop())
