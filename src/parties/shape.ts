// The edge where configuration comes in as JSON: each reader returns a typed value or names what is wrong with it.

/** What a party was configured with makes no sense. The message names the place in the file, such as `roles[0].arn`. */
export class ConfigError extends Error {
  override name = 'ConfigError'
}

/** A JSON object as a record that inherits nothing, or undefined. */
export function recordOf(value: unknown): Record<string, unknown> | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
  return Object.assign(Object.create(null), value)
}

export function needRecord(value: unknown, where: string): Record<string, unknown> {
  const given = recordOf(value)
  if (given === undefined) throw new ConfigError(`${where} is not an object`)
  return given
}

export function needText(value: unknown, where: string): string {
  if (typeof value !== 'string' || value === '') throw new ConfigError(`${where} is not a text`)
  return value
}

/** Absent is an empty list. */
export function needList(value: unknown, where: string): readonly unknown[] {
  if (value === undefined) return []
  if (!Array.isArray(value)) throw new ConfigError(`${where} is not a list`)
  return value
}

export const needTexts = (value: unknown, where: string): string[] =>
  needList(value, where).map((item, index) => needText(item, `${where}[${index}]`))

/** The keys that a file may have. A misspelt `atributeCondition` would otherwise open the door that it should close. */
export function allowOnly(given: Record<string, unknown>, known: readonly string[], where: string): void {
  for (const name of Object.keys(given)) {
    if (!known.includes(name))
      throw new ConfigError(`${where} has the unknown member ${name}: one of ${known.join(', ')}`)
  }
}
