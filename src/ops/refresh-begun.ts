import { isAbsolute, join, resolve } from 'node:path'
import { LiveError } from '../error.js'
import type { Folder } from '../host/folder.js'
import type { HostFile, TargetInput } from '../liveos/target.js'
import type { RefreshState } from './refresh-state.js'

/** An overlay beside the base by its name, which stays when the stick is mounted elsewhere; another one by its path. */
export const overlayName = ({ folder, name, path }: HostFile, base: Folder): string =>
  folder.path === base.path ? name : path

/** The input of the run that is to be finished: with the overlay that it was begun with. @throws REFUSED  another one was named */
export const sameInput = async (input: TargetInput, { begun }: RefreshState, folder: Folder): Promise<TargetInput> => {
  if (!begun) return input
  if (begun.overlay === null) return { ...input, overlay: undefined, baseOnly: true }
  const overlay = isAbsolute(begun.overlay) ? begun.overlay : join(folder.path, begun.overlay)
  if (input.overlay !== undefined && resolve(input.overlay) !== overlay)
    throw new LiveError('REFUSED', `this refresh was begun with the overlay ${overlay}: finish it with that one`, {
      path: overlay,
    })
  return { ...input, overlay, baseOnly: false }
}
