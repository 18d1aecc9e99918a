import { isAddress, shownName } from '../block/http/shown.js'
import { LiveError } from '../error.js'

/** What was named is no file of this computer. @param what  that it was to be */
export const noFile = (path: string, what: string): LiveError => {
  const shown = shownName(path)
  const why = isAddress(path) ? ': what is on a server is taken as TARGET only' : ''
  return new LiveError('NOT_FOUND', `there is no ${what} ${shown}${why}`, { path: shown })
}
