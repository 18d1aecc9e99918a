import { type Device, isZero } from '../block/device.js'
import { SECTOR } from '../block/snapshot/layout.js'
import { advised, marked, pathWord } from './advice.js'
import type { Target } from './target.js'

/** Bytes below which nothing is an overlay: header and first list, with the chunks that the kernel gives a new one. */
export const LEAST_OVERLAY = 2 * 8 * SECTOR

/** True for a file that is too small for an overlay and holds nothing, such as one of no bytes: a new overlay without its size. */
export const isUnsized = async (file: Device): Promise<boolean> =>
  file.size < LEAST_OVERLAY && isZero(await file.read(0, file.size))

/** What makes an overlay of a file that is too small to be one; nothing that was in it can be had. */
export const tooSmallAdvice = async (target: Target, path: string, file: Device): Promise<string> => {
  const words = (address: string): string =>
    `${marked(`liveos grow ${address} --size 512M`)} makes a new overlay of it, of that size`
  // grow does without the base
  const makes = target.base.path === target.overlay?.path ? words(pathWord(path)) : advised(target, words)
  return (await isUnsized(file))
    ? makes
    : `${marked(`truncate --size 0 ${pathWord(path)}`)} empties it, and then ${makes}`
}
