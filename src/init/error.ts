/** A mistake in how the proxy was set up: the message says what is wrong and, where there is one, the next step. */
export class LaunchError extends Error {
  override readonly name = 'LaunchError'
}
