import { basename, dirname } from 'node:path'
import type { Device } from '../block/device.js'
import { checkRange, type WritableDevice } from '../block/device.js'
import { openReadBack } from '../block/direct.js'
import { type FileDevice, type GrowingFile, openFile, openWritableFile } from '../block/file.js'
import { slice } from '../block/linear.js'
import { assert, LiveError } from '../error.js'
import { type FileFacts, type Folder, factsOf, type ReadFolder, traitsOf } from './folder.js'

/** A part of a file or block device of this computer, such as a partition of a stick's image. Sizes are bytes. */
export interface DevicePart {
  /** absolute, of the image or block device */
  readonly path: string
  /** number of the partition; undefined where it is all of the device */
  readonly partition: number | undefined
  readonly start: number
  readonly length: number
}

/** A partition, or all of a disk, as the one file of a folder. What belongs beside it is kept in another folder. */
export interface PlaceFolder extends Folder {
  readonly part: DevicePart
  /** undefined where there is no place that lasts: nothing can be made beside it then */
  readonly beside: Folder | undefined
}

/** True for the folder of a partition or disk. */
export const isPlaceFolder = (folder: ReadFolder): folder is PlaceFolder => 'part' in folder

/** A part of a device that can be written. Closing it closes the device. */
const writableSlice = (device: WritableDevice, { start, length }: DevicePart, name: string): WritableDevice => {
  const { read } = slice(device, start, length, name)
  return {
    name,
    size: length,
    read,
    async write(offset, bytes) {
      checkRange({ name, size: length }, offset, bytes.length)
      await device.write(start + offset, bytes)
    },
    flush: () => device.flush(),
    close: () => device.close(),
  }
}

const opened = async <D extends Device, T>(device: D, use: (device: D) => T): Promise<T> => {
  try {
    return use(device)
  } catch (error) {
    await device.close()
    throw error
  }
}

/**
 * A partition or disk as the one file of a folder. Its name and all that begin with it are looked for there, nothing else: what
 * a verb leaves beside an overlay goes into `beside`.
 *
 * @param name    the file's name, which names beside it begin with
 * @param called  in words, such as `stick.img:3`
 * @throws NOT_FOUND  there is no such device
 */
export const placeFolder = async (
  part: DevicePart,
  { name, called, beside }: { readonly name: string; readonly called: string; readonly beside: Folder | undefined },
): Promise<PlaceFolder> => {
  const { path, start, length } = part
  const isOwn = (asked: string): boolean => asked === name
  const belongs = (asked: string): boolean => asked.startsWith(`${name}.`)
  const place = (asked: string): Folder => {
    assert(belongs(asked), `${asked} beside ${called}`)
    if (beside) return beside
    throw new LiveError('REFUSED', `there is no place beside ${called} for ${asked}`, { path: called })
  }
  const openOwn = async (): Promise<FileDevice> =>
    opened(await openFile(path), device => {
      const { read, extents } = slice(device, start, length, called)
      return {
        name: called,
        path: called,
        size: length,
        allocated: length,
        hasHoles: false,
        read,
        extents,
        close: device.close,
      }
    })
  const writeOwn = async (): Promise<WritableDevice> =>
    opened(await openWritableFile(path), device => writableSlice(device, part, called))
  return {
    part,
    beside,
    path: beside?.path ?? dirname(path),
    traits: beside?.traits ?? traitsOf(0),
    list: async () => [name, ...(beside ? (await beside.list()).filter(belongs) : [])],
    async facts(asked) {
      if (!isOwn(asked)) return belongs(asked) ? beside?.facts(asked) : undefined
      const found = await factsOf(path)
      const facts: FileFacts | undefined = found && { ...found, kind: 'other', size: length, allocated: length }
      return facts
    },
    open: asked => (isOwn(asked) ? openOwn() : place(asked).open(asked)),
    openWritable: asked => (isOwn(asked) ? writeOwn() : place(asked).openWritable(asked)),
    async openGrowing(asked) {
      if (!isOwn(asked)) return place(asked).openGrowing(asked)
      const device = await writeOwn()
      const file: GrowingFile = {
        ...device,
        path: called,
        async truncate(size) {
          assert(size === length, `${called} of ${length} bytes is to have ${size}`)
        },
      }
      return file
    },
    async openReadBack(asked) {
      if (!isOwn(asked)) return place(asked).openReadBack(asked)
      return opened(await openReadBack(path), device => {
        const { read } = slice(device, start, length, called)
        return { name: called, path: called, size: length, from: device.from, read, close: device.close }
      })
    },
    create: async asked => place(asked).create(asked),
    rename: async (from, to) => place(from).rename(from, to),
    link: async (from, to) => place(from).link(from, to),
    unlink: async asked => place(asked).unlink(asked),
    sync: async () => beside?.sync(),
    freeBytes: async () => (beside ? beside.freeBytes() : 0),
    copyAttributes: async (from, to) => place(to).copyAttributes(from, to),
    isWritable: async () => beside === undefined || beside.isWritable(),
  }
}

/** The file or device of this computer that a file's bytes lie on: for a partition of an image that image. */
export const holderOf = ({ folder, path }: { readonly folder: ReadFolder; readonly path: string }): string =>
  isPlaceFolder(folder) ? folder.part.path : path

/** What the files beside a partition are called by: `stick.img.partition3`. */
export const placeName = ({ path, partition }: Pick<DevicePart, 'path' | 'partition'>): string =>
  partition === undefined ? basename(path) : `${basename(path)}.partition${partition}`
