import { type Device, dataLength } from '../block/device.js'
import { orMissing } from '../error.js'
import { type FileSystem, isMapped, pathBelow, type Stat } from '../fs/filesystem.js'
import { resolvePath } from '../fs/resolve.js'
import type { FileFacts, OpenedFile, ReadFolder, ReadFrom } from '../host/folder.js'
import type { Tree } from './live-directory.js'

const kindOf = ({ kind }: Stat): FileFacts['kind'] => (kind === 'file' || kind === 'directory' ? kind : 'other')

const openedFile = async (device: Device, path: string): Promise<OpenedFile> => {
  const allocated = await dataLength(device)
  return { ...device, path, allocated, hasHoles: allocated < device.size }
}

/** Bytes that a filesystem has free; 0 where it can't be asked. */
const freeBytesOf = async (fs: FileSystem): Promise<number> => {
  let bytes = 0
  if (isMapped(fs)) for await (const { length } of fs.freeRuns()) bytes += length
  return bytes
}

/** A directory in an image as a folder. */
export interface ImageFolder extends ReadFolder {
  readonly fs: FileSystem
  /** absolute path of the directory in `fs` */
  readonly directory: string
}

/** True for a directory in an image. */
export const isImageFolder = (folder: ReadFolder): folder is ImageFolder => 'directory' in folder

/**
 * A directory in an image as a folder that is only read.
 *
 * @param where  the image, for words
 * @param path   absolute, of a directory that is there
 * @param from   what a read of its files says to come from
 */
export const imageFolder = (fs: FileSystem, where: string, path: string, from: ReadFrom): ImageFolder => {
  const at = (name: string): string => pathBelow(path, name)
  const open = async (name: string): Promise<OpenedFile> =>
    openedFile(await fs.open(await resolvePath(fs, at(name))), `${where}:${at(name)}`)
  return {
    fs,
    directory: path,
    path: `${where}:${path}`,
    list: async () => (await fs.list(path)).map(({ name }) => name),
    facts: async name => {
      const stat = await orMissing(resolvePath(fs, at(name)).then(found => fs.stat(found)))
      return (
        stat && {
          kind: kindOf(stat),
          size: stat.size,
          allocated: stat.size,
          device: 0,
          inode: stat.inode,
          modified: stat.mtime * 1000 + Math.trunc(stat.mtimeNanoseconds / 1e6),
        }
      )
    },
    open,
    openReadBack: async name => ({ ...(await open(name)), from }),
    freeBytes: () => freeBytesOf(fs),
  }
}

/** The directories of a filesystem in an image. @param where  the image, for words */
export const imageTree = (fs: FileSystem, where: string, from: ReadFrom): Tree => ({
  path: where,
  folder: async path => {
    const found = await orMissing(resolvePath(fs, `/${path}`))
    if (found === undefined || (await fs.stat(found)).kind !== 'directory') return undefined
    return imageFolder(fs, where, found, from)
  },
})

/** A folder with nothing in it but one device. */
export const soleFile = (device: Device, where: string, name: string, from: ReadFrom): ReadFolder => {
  const facts: FileFacts = {
    kind: 'file',
    size: device.size,
    allocated: device.size,
    device: 0,
    inode: 0,
    modified: 0,
  }
  // Who opened the device closes it.
  const open = async (): Promise<OpenedFile> => ({ ...(await openedFile(device, device.name)), close: async () => {} })
  return {
    path: where,
    list: async () => [name],
    facts: async asked => (asked === name ? facts : undefined),
    open,
    openReadBack: async () => ({ ...(await open()), from }),
    freeBytes: async () => 0,
  }
}
