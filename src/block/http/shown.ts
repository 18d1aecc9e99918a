/** An address for people: no name and password, and no query, which may hold a signature or a token. */
export const shownUrl = (url: URL): string => `${url.protocol}//${url.host}${url.pathname}${url.search && '?…'}`

/** What somebody typed to name something, for people: of an address nothing that is secret, anything else as it is. */
export const shownName = (name: string): string => {
  if (!/^https?:/i.test(name)) return name
  return URL.canParse(name) ? shownUrl(new URL(name)) : name.replace(/^(\w+:\/*)[^/]*@/, '$1')
}
