import { realpath } from 'node:fs/promises'
import { isHostFolder } from '../host/folder.js'
import { stored } from '../liveos/boot/text.js'
import { expectedOverlay } from '../liveos/live-directory.js'
import type { Target } from '../liveos/target.js'

/** What a filesystem is called; null where that is not known. */
export interface MediumName {
  readonly label: string | null
  readonly uuid: string | null
}

/** What a target's medium is called. Of a copy in some folder nothing is known: the filesystem around it is another one. */
export const mediumNameOf = async ({ stick, medium, base }: Target): Promise<MediumName> => {
  const isCopy = isHostFolder(base.folder) && (!stick || (await realpath(stick.root)) !== medium.mountPoint)
  return isCopy ? { label: null, uuid: null } : { label: medium.label ?? null, uuid: medium.uuid ?? null }
}

/** True where a name means the same medium, as far as both are known. */
export const isSameMedium = (a: MediumName, b: MediumName): boolean =>
  a.label === b.label && a.uuid?.toLowerCase() === b.uuid?.toLowerCase()

const literal = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')

/** A label as dracut and udev want it in an argument. @see systemd, udev_node_escape_path */
const escaped = (label: string): string =>
  stored(label).replace(
    /[^0-9A-Za-z#+\-.:=@_\u0080-\u00ff]/g,
    char => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`,
  )

/** What no name goes on with. */
const END = '(?![0-9A-Za-z_.\\\\-])'
const BEGIN = '(?<![0-9A-Za-z_.-])'

/**
 * A boot configuration that looks for one medium, made to look for another: the UUID wherever it stands as a word of its own,
 * the label in `LABEL=`, `CDLABEL=`, `by-label/` and GRUB's `search`, and the overlay's name, which is made of both. Nothing
 * else changes. What can't be said of the new medium stays as it is.
 *
 * @param text  one character a byte
 * @returns the text, and how many places were changed
 */
export const rewriteIdentity = (text: string, from: MediumName, to: MediumName): { text: string; places: number } => {
  let places = 0
  const replaced = (within: string, pattern: RegExp, value: (...groups: string[]) => string): string =>
    within.replace(pattern, (...found: unknown[]) => {
      places++
      return value(...(found as string[]))
    })
  let out = text
  const oldOverlay = expectedOverlay({ label: from.label ?? undefined, uuid: from.uuid ?? undefined })
  const newOverlay = expectedOverlay({ label: to.label ?? undefined, uuid: to.uuid ?? undefined })
  if (oldOverlay !== undefined && newOverlay !== undefined && oldOverlay !== newOverlay)
    out = replaced(out, new RegExp(`${BEGIN}${literal(stored(oldOverlay))}${END}`, 'g'), () => stored(newOverlay))
  const { uuid } = to
  if (from.uuid !== null && uuid !== null && from.uuid.toLowerCase() !== uuid.toLowerCase())
    out = replaced(out, new RegExp(`${BEGIN}${literal(from.uuid)}${END}`, 'gi'), () => uuid)
  const { label } = to
  if (from.label !== null && label !== null && from.label !== label) {
    const spellings = [...new Set([escaped(from.label), stored(from.label)])].map(literal).join('|')
    const named = new RegExp(`((?:\\bCD|\\b|:|=)LABEL=|by-label\\/)(?:${spellings})${END}`, 'g')
    out = replaced(out, named, (_, before) => `${before}${escaped(label)}`)
    const word = new RegExp(`(?<=\\s)(['"]?)(?:${spellings})\\1(?=\\s|$)`, 'g')
    out = out.replace(/^[ \t]*search(?:\.\w+)?[ \t].*$/gm, line =>
      /\s(-l|--label|--fs-label|-\w*l)(\s|=|$)/.test(line) || /^\s*search\.fs_label/.test(line)
        ? replaced(line, word, () => `'${stored(label).replaceAll("'", '')}'`)
        : line,
    )
  }
  return { text: out, places }
}
