// The cache of compiled sources that `npm test` keeps, for processes that are started with an environment of their own.
// Half of a start is compiling. What is in it is found by the content of the source, so no other code runs; the trusted
// process, which has no environment, never sees it.

const directory = process.env['NODE_COMPILE_CACHE']

export const CACHE: Readonly<Record<string, string>> = directory === undefined ? {} : { NODE_COMPILE_CACHE: directory }
