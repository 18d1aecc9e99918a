import { join, resolve } from 'node:path'
import { shownName } from '../block/http/shown.js'
import { isHttpUrl } from '../block/http.js'
import { isHostFolder } from '../host/folder.js'
import { shellWord } from '../host/shell-word.js'
import type { Target, TargetInput } from './target.js'

export { marked } from '../host/shell-word.js'

/** Stands in advice for the directory where a stick is to be mounted first. */
const PLACE = 'DIR'
/** Stands for a base that has to be taken out of where it is. */
const BASE = 'BASE'

/** A path as a word of a shell that no program takes for an option; an address without what is secret in it. */
export const pathWord = (path: string): string => shellWord(path.startsWith('-') ? `./${path}` : shownName(path))

/** What was typed to name a target, to be typed again: words for a shell, '' where nothing was. */
export const typedAs = ({ target, image, partition, overlay, base }: TargetInput): string =>
  [
    ...(target === undefined ? [] : [pathWord(target)]),
    ...(image === undefined ? [] : [`--image ${pathWord(image)}`]),
    ...(partition === undefined ? [] : [`--partition ${partition}`]),
    ...(base === undefined ? [] : [`--base ${pathWord(base)}`]),
    ...(overlay === undefined ? [] : [`--overlay ${pathWord(overlay)}`]),
  ].join(' ')

/** True where verbs that write can be given the target as it was named. */
export const canBeChanged = ({ base }: Target): boolean => isHostFolder(base.folder)

/** True for an image or disk whose overlay lies elsewhere, so that verbs which change the overlay alone take it as it was named. */
export const isOverlayApart = (target: Target): boolean =>
  !canBeChanged(target) && target.overlay !== undefined && isHostFolder(target.overlay.folder)

/** A target by this word, with the options that say what on it is meant. */
const namedAs = (target: Target, word: string): string => {
  const { name, stick, overlay, overlayFoundBy } = target
  const isLiveDir = stick && canBeChanged(target) && resolve(name) === join(stick.root, stick.liveDir)
  const isUsual = !stick || stick.liveDir === '' || stick.liveDir === 'LiveOS' || isLiveDir
  return [
    word,
    ...(isUsual ? [] : [`--image ${pathWord(stick.liveDir)}`]),
    ...(overlay && overlayFoundBy === 'named' ? [`--overlay ${pathWord(overlay.path)}`] : []),
  ].join(' ')
}

/**
 * The words by which a command line names a target to a verb that writes, quoted for a shell. Such verbs take a directory or
 * a pair of files: for one that is neither, `DIR` and `BASE` stand where its user has to put something, see `advised`.
 */
export const calledAs = (target: Target): string => {
  const { name, stick, base, overlay } = target
  if (!stick) {
    // an overlay that was named alone stands for its base too
    const path = canBeChanged(target) && base.path !== overlay?.path ? base.path : undefined
    return [
      `--base ${path === undefined ? BASE : pathWord(path)}`,
      ...(overlay ? [`--overlay ${pathWord(overlay.path)}`] : []),
    ].join(' ')
  }
  return namedAs(target, canBeChanged(target) || isOverlayApart(target) ? pathWord(name) : PLACE)
}

/** The words by which a command line names a target to a verb that only reads it, quoted for a shell. */
export const readAs = (target: Target): string =>
  target.stick || !canBeChanged(target) ? namedAs(target, pathWord(target.name)) : calledAs(target)

/** As `calledAs`, to a verb that can do without the base: an overlay that was named alone stands for itself. */
export const overlayAs = (target: Target): string => {
  const { stick, base, overlay } = target
  return !stick && overlay && base.path === overlay.path ? pathWord(overlay.path) : calledAs(target)
}

/** The words by which a command line names a path in a target to verbs such as `cp`, quoted for a shell. */
const pathAs = (target: Target, path: string): string =>
  target.stick || !canBeChanged(target)
    ? namedAs(target, pathWord(`${target.name}:${path}`))
    : `${calledAs(target)} ${pathWord(path)}`

/** The command that copies what people mostly want out of a target, quoted for a shell. */
export const rescueCommand = (target: Target): string => `liveos cp -r ${pathAs(target, '/home')} ./rescued`

/**
 * Advice to run something on a target; where the verb could not be given the target as it is, with what to do before.
 *
 * @param words  gives the advice, for a target of this address
 */
export const advised = (target: Target, words: (address: string) => string): string => {
  const { name, stick, medium, base, overlay } = target
  const said = words(calledAs(target))
  if (!stick && base.path === overlay?.path) return `with its base image for ${BASE}: ${said}`
  if (canBeChanged(target) || (stick && isOverlayApart(target))) return said
  if (!stick) return `with that base image in a file ${BASE} of its own: ${said}`
  return isHttpUrl(name)
    ? `on a stick with a copy of it, mounted at ${PLACE}: ${said}`
    : `with ${medium.mountPoint} mounted at ${PLACE}: ${said}`
}
