import { isLiveError } from '../error.js'
import type { FileSystem } from '../fs/filesystem.js'
import type { Argument } from '../liveos/boot/arguments.js'
import type { BootEntry } from '../liveos/boot/config.js'
import { follow } from '../liveos/boot/follow.js'
import { MAX_CONFIG_SIZE } from '../liveos/boot/reader.js'
import { stored, textOf } from '../liveos/boot/text.js'

/** A line of a file on the medium, from 1. */
export interface BootPlace {
  readonly path: string
  readonly line: number
  /** the file lies in the initrd */
  readonly inInitrd?: boolean
}

/** The line that a character stands in, from 1. */
export const lineAt = (text: string, offset: number): number => {
  let line = 1
  for (let at = text.indexOf('\n'); at >= 0 && at < offset; at = text.indexOf('\n', at + 1)) line++
  return line
}

/** The text of a boot configuration; undefined where it can't be read. */
export const configText = async (fs: FileSystem, path: string): Promise<string | undefined> => {
  try {
    const found = await follow(fs, path)
    if (found?.stat.kind !== 'file' || found.stat.size > MAX_CONFIG_SIZE) return undefined
    const device = await fs.open(found.path)
    try {
      return textOf(await device.read(0, device.size))
    } finally {
      await device.close()
    }
  } catch (error) {
    if (!isLiveError(error) || error.code === 'CANCELLED') throw error
    return undefined
  }
}

/**
 * Tells where an entry's arguments stand: in its lines, as they are spelled there. One that comes from a variable or from what
 * the menu inherits is told by the entry's first line.
 *
 * @param entries  all of the menu: where the next one begins, this one ends
 * @returns of undefined the entry's own line
 */
export const argumentPlaces = async (
  fs: FileSystem,
  { place }: BootEntry,
  entries: readonly BootEntry[],
): Promise<(argument: Argument | undefined) => BootPlace> => {
  const text = await configText(fs, place.path)
  const own: BootPlace = { path: place.path, line: text === undefined ? 1 : lineAt(text, place.offset) }
  const behind = entries.filter(other => other.place.path === place.path && other.place.offset > place.offset)
  const end = Math.min(text?.length ?? 0, ...behind.map(other => other.place.offset))
  return argument => {
    if (!argument || text === undefined) return own
    const raw = stored(argument.raw)
    for (let at = text.indexOf(raw, place.offset); at >= 0 && at < end; at = text.indexOf(raw, at + 1)) {
      const before = text[at - 1] ?? ' '
      const after = text[at + raw.length] ?? ' '
      if (/[\s'"]/.test(before) && /[\s'"]/.test(after)) return { path: place.path, line: lineAt(text, at) }
    }
    return own
  }
}
