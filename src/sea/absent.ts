// In the single executable, in the place of src/mock/start.ts: what only developers run is not shipped to Machines.

import { Failure } from '../errors.ts'

export function startMock(): Promise<never> {
  throw new Failure('the mocks are not in this executable: use the npm package, as in npx dotfly mock --help')
}
