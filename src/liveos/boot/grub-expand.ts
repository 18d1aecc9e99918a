import type { GrubWord } from './grub.js'
import { shown } from './text.js'

/**
 * Variables of a GRUB script: the values that each may have. One value is known; several are possible, the likeliest first;
 * none means that only the running loader knows.
 */
export type GrubEnvironment = ReadonlyMap<string, readonly string[]>

/** A word after expansion. */
export interface GrubField {
  /** what is not known stands there as `${name}` */
  readonly text: string
  /** true where it can have no other text */
  readonly certain: boolean
}

/** The script grows past what a menu can be. */
export class GrubLimit extends Error {}

/** A command after expansion has at most this many characters, as far as variables made it longer. */
const MAX_EXPANSION = 65_536

const SET_BY_THE_LOADER =
  /^(grub_platform|grub_cpu|root|boot|cmdpath|fw_path|lockdown|shim_lock|secureboot|check_signatures|[?]|(net|pxe|efinet|smbios|efi)_.*)$/

/** The values a variable may have. */
export const valuesOf = (environment: GrubEnvironment, name: string): readonly string[] => {
  const values = environment.get(name)
  if (values) return values
  if (name.startsWith('feature_')) return ['y']
  return SET_BY_THE_LOADER.test(name) ? [] : ['']
}

/**
 * Words as the commands get them: variables put in, and those outside quotes cut at spaces, so that a word may become
 * several or none.
 *
 * @throws GrubLimit  they become too long
 */
export const expandWords = (words: readonly GrubWord[], environment: GrubEnvironment): GrubField[] => {
  const fields: GrubField[] = []
  let spent = 0
  const spend = (length: number): void => {
    spent += length
    if (spent > MAX_EXPANSION) throw new GrubLimit('variables make a command too long')
  }
  for (const { parts } of words) {
    let text: string | undefined
    let certain = true
    const end = (): void => {
      if (text !== undefined) fields.push({ text, certain })
      text = undefined
      certain = true
    }
    for (const part of parts) {
      if (part.kind === 'text') {
        text = (text ?? '') + shown(part.text)
        continue
      }
      const values = valuesOf(environment, part.text)
      const value = values[0] ?? `\${${part.text}}`
      spend(value.length)
      if (values.length !== 1) certain = false
      if (part.quoted) {
        text = (text ?? '') + value
        continue
      }
      const [first = '', ...rest] = value.split(/[ \t\n]+/)
      if (first !== '') text = (text ?? '') + first
      for (const piece of rest) {
        end()
        if (values.length !== 1) certain = false
        if (piece !== '') text = piece
      }
    }
    // An empty variable outside quotes leaves no word; empty quotes leave an empty one.
    if (text === undefined && parts.some(part => part.quoted)) text = ''
    end()
  }
  return fields
}

/** The path of a word, without the device that GRUB writes before it, such as `($root)` or `(hd0,msdos1)`. */
export const withoutDevice = (text: string): string => text.replace(/^\([^)]*\)/, '')

/**
 * The command line that GRUB hands to the kernel: words with a space are put in double quotes, and quotes and backslashes get
 * a backslash.
 *
 * @see grub grub-core/lib/cmdline.c
 */
export const grubCommandLine = (words: readonly string[]): string =>
  words
    .map(word => {
      const escaped = word.replace(/\\x[0-9A-Fa-f]{2}|[\\'"]/g, found => (found.length > 1 ? found : `\\${found}`))
      return word.includes(' ') ? `"${escaped}"` : escaped
    })
    .join(' ')

/** Two sets of variables, one of which holds: what differs may be either. */
export const mergeEnvironments = (all: readonly GrubEnvironment[]): Map<string, readonly string[]> => {
  const merged = new Map<string, readonly string[]>()
  for (const name of new Set(all.flatMap(environment => [...environment.keys()]))) {
    const lists = all.map(environment => valuesOf(environment, name))
    const values = [...new Set(lists.flat())]
    merged.set(name, lists.some(list => list.length === 0) || values.length > 8 ? [] : values)
  }
  return merged
}
