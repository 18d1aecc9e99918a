/** An address for people: no name and password, and no query, which may hold a signature or a token. */
export const shownUrl = (url: URL): string => `${url.protocol}//${url.host}${url.pathname}${url.search && '?…'}`

/** True for what begins as an address does, be it a whole one or not. */
export const isAddress = (name: string): boolean => /^https?:/i.test(name)

/** What somebody typed to name something, for people: of an address nothing that is secret, anything else as it is. */
export const shownName = (name: string): string => {
  if (!isAddress(name)) return name
  if (URL.canParse(name)) return shownUrl(new URL(name))
  return name.replace(/^(\w+:\/*).*@/s, '$1').replace(/[?#].*/s, '?…')
}
