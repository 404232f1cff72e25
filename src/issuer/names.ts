// What an org, an app, a Machine or a region may be called. `sub` is `<org>:<app>:<machine>`, and relying parties
// match it with patterns such as `acme:api:*`: a colon inside a name would let one app take another's place.

/** Org and app slugs, and regions: they stand in URLs and in caveats, so nothing there may need an escape. */
export const isSlug = (text: string): boolean => /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(text)

export const isMachineName = (text: string): boolean => /^[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?$/.test(text)
