import { resolve } from 'node:path'
import type { DirectoryFileSystem } from '../host/directory.js'
import type { Source, Volume } from '../liveos/source.js'

const isDirectory = (fs: Volume['fs']): fs is DirectoryFileSystem => fs !== undefined && 'medium' in fs

/**
 * The volumes of a source as a boot would see them. A directory that is no mount point is a copy: label and UUID of what it lies
 * on are not those of the stick that it is of.
 */
export const bootVolumes = ({ volumes }: Pick<Source, 'volumes'>): readonly Volume[] =>
  volumes.map(volume => {
    const { fs } = volume
    if (!isDirectory(fs) || resolve(fs.medium.mountPoint) === fs.path) return volume
    return { ...volume, fs: { ...fs, label: undefined, uuid: undefined, type: 'directory' } }
  })

/** True where the volumes of a source have names that a boot goes by. */
export const hasNames = ({ volumes }: Source): boolean =>
  volumes.every(({ fs }) => !isDirectory(fs) || resolve(fs.medium.mountPoint) === fs.path)
