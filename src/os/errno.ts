/** The name of the system error in a caught value, such as `ENOENT`; `unknown` where it is none. */
export const errnoOf = (caught: unknown): string =>
  caught instanceof Error && 'code' in caught && typeof caught.code === 'string' ? caught.code : 'unknown'
