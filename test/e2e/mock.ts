// What every guest of these tests dials: flyd, the issuer and the clouds, in a directory that any user may enter.

import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startMock } from '../../src/mock/start.ts'
import type { Mock } from '../../src/mock/start.ts'

/** Ends, and its directory with it, when the test does. */
export async function mockFor(t: { teardown(end: () => Promise<void>): void }): Promise<{ dir: string; mock: Mock }> {
  const dir = mkdtempSync(join(tmpdir(), 'dotfly-e2e-'))
  chmodSync(dir, 0o755)
  const mock = await startMock({ dir })
  t.teardown(async () => {
    await mock.stop()
    rmSync(dir, { recursive: true, force: true })
  })
  return { dir, mock }
}
