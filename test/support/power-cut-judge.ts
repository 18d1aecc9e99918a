import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isLiveError } from '../../src/error.js'
import { type Kind, layOut, type Medium, turns } from './power-cut.js'

/** What is wrong, or undefined. */
export type Wrong = string | undefined

/** Lays the folders of a medium out, each at its path. */
export const placeAt = async (paths: readonly string[], medium: Medium): Promise<void> => {
  for (const [index, path] of paths.entries()) await layOut(path, medium.folders[index]!)
}

/** Media of which one is taken for each step and each set of names: the last of them if not told otherwise. */
export const oneOfEach = (
  media: Iterable<Medium>,
  stepIn: (medium: Medium) => string | undefined,
  choose: (alike: readonly Medium[]) => Medium = alike => alike.at(-1)!,
): Medium[] => {
  const kinds = new Map<string, Medium[]>()
  for (const medium of media) {
    const names = medium.folders.map(({ files, shared }) => [[...files.keys()], shared])
    const key = JSON.stringify([stepIn(medium), names])
    kinds.set(key, [...(kinds.get(key) ?? []), medium])
  }
  return [...kinds.values()].map(choose)
}

/** A verb that is run again on a medium. */
export interface Again {
  readonly kind: Kind
  /** where the medium's folders lie */
  readonly paths: readonly string[]
  readonly run: () => Promise<unknown>
  /** what is wrong after it should have ended */
  readonly check: () => Promise<Wrong>
  /** an error that says that nothing was left to do */
  readonly isDone?: (error: unknown) => boolean
}

/** Runs a verb on a medium that lies there, to its end: on FAT two names on one chain are refused first, and it ends after either repair. */
export const endOn = async (
  medium: Medium,
  { kind, paths, run, check, isDone = () => false }: Again,
): Promise<Wrong> => {
  const ended = async (): Promise<Wrong> => {
    try {
      await run()
    } catch (error) {
      if (!isDone(error)) return String(error)
    }
    return check()
  }
  // a file of no bytes has no chain to share
  const chains = medium.folders.flatMap(({ files, shared }, index) =>
    kind === 'fat'
      ? shared.filter(names => files.get(names[0]!)!.length > 0).map(names => ({ names, path: paths[index]! }))
      : [],
  )
  if (chains.length === 0) {
    const wrong = await ended()
    return wrong && `second run: ${wrong}`
  }
  const refused = await run().then(
    () => undefined,
    (error: unknown) => error,
  )
  if (!isLiveError(refused) || refused.code !== 'REFUSED' || !refused.message.includes('fsck.vfat'))
    return `two names on one chain, and not told: ${String(refused)}`
  for (const { names, path } of chains)
    for (const emptied of names) {
      await placeAt(paths, medium)
      // what fsck.vfat makes of one of the two
      await rm(join(path, emptied))
      await writeFile(join(path, emptied), '')
      const wrong = await ended()
      if (wrong) return `${emptied} emptied: ${wrong}`
    }
  return undefined
}

/** How media are judged. */
export interface Judging {
  readonly seed: number
  readonly stepIn: (medium: Medium) => string | undefined
  /** what is wrong with a medium as such; asked of each */
  readonly look?: (medium: Medium) => Wrong
  /** what is wrong with it where it lies, and after a second run; asked of those whose turn it is */
  readonly tryOut: (medium: Medium) => Promise<Wrong>
  /** ends after so many that are wrong; 3 */
  readonly most?: number
  /** one in so many is tried out; 3 */
  readonly share?: number
  /** keys of media that were judged before */
  readonly known?: Set<string>
}

/** Everything that is wrong with some media, at most a few; how many there are, and how many were tried out. */
export const judgeMedia = async (
  media: Iterable<Medium>,
  { seed, stepIn, look = () => undefined, tryOut, most = 3, share = 3, known = new Set() }: Judging,
): Promise<{ wrong: string[]; states: number; tried: number }> => {
  const wrong: string[] = []
  const isTried = turns(share, seed)
  let [states, tried] = [0, 0]
  for (const medium of media) {
    if (known.has(medium.key)) continue
    known.add(medium.key)
    states++
    let found = look(medium)
    if (!found && isTried()) {
      tried++
      found = await tryOut(medium)
    }
    if (found) wrong.push(`cut after ${medium.cut} steps (${stepIn(medium)}): ${found}`)
    if (wrong.length >= most) break
  }
  return { wrong, states, tried }
}
