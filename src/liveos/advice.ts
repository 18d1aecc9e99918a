import { join, resolve } from 'node:path'
import { isHttpUrl } from '../block/http.js'
import { isHostFolder } from '../host/folder.js'
import { shellWord } from '../host/shell-word.js'
import type { Target, TargetInput } from './target.js'

/** Stands in advice for the directory where a stick is to be mounted first. */
const PLACE = 'DIR'
/** Stands for a base that has to be taken out of where it is. */
const BASE = 'BASE'

/** A path as a word that no program takes for an option. */
const pathWord = (path: string): string => shellWord(path.startsWith('-') ? `./${path}` : path)

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

/**
 * The words by which a command line names a target to a verb that writes, quoted for a shell. Such verbs take a directory or
 * a pair of files: for one that is neither, `DIR` and `BASE` stand where its user has to put something, see `advised`.
 */
export const calledAs = (target: Target): string => {
  const { name, stick, base, overlay, overlayFoundBy } = target
  if (!stick) {
    // an overlay that was named alone stands for its base too
    const path = canBeChanged(target) && base.path !== overlay?.path ? base.path : undefined
    return [
      `--base ${path === undefined ? BASE : pathWord(path)}`,
      ...(overlay ? [`--overlay ${pathWord(overlay.path)}`] : []),
    ].join(' ')
  }
  const isLiveDir = canBeChanged(target) && resolve(name) === join(stick.root, stick.liveDir)
  const isUsual = stick.liveDir === '' || stick.liveDir === 'LiveOS' || isLiveDir
  return [
    canBeChanged(target) ? pathWord(name) : PLACE,
    ...(isUsual ? [] : [`--image ${pathWord(stick.liveDir)}`]),
    ...(overlay && overlayFoundBy === 'named' ? [`--overlay ${pathWord(overlay.path)}`] : []),
  ].join(' ')
}

/**
 * Advice to run something on a target; where the verb could not be given the target as it is, with what to do before.
 *
 * @param words  gives the advice, for a target of this address
 */
export const advised = (target: Target, words: (address: string) => string): string => {
  const { name, stick, medium, base, overlay } = target
  const said = words(calledAs(target))
  if (!stick && base.path === overlay?.path) return `with its base image for ${BASE}: ${said}`
  if (canBeChanged(target)) return said
  if (!stick) return `with that base image in a file ${BASE} of its own: ${said}`
  return isHttpUrl(name)
    ? `on a stick with a copy of it, mounted at ${PLACE}: ${said}`
    : `with ${medium.mountPoint} mounted at ${PLACE}: ${said}`
}
