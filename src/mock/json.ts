/** A JSON object as a record that inherits nothing, or undefined. */
export function record(json: unknown): Record<string, unknown> | undefined {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) return undefined
  return Object.assign(Object.create(null), json)
}
