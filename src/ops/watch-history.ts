import { join } from 'node:path'
import { assert, isLiveError, LiveError } from '../error.js'
import { type Folder, linkTarget } from '../host/folder.js'

/*
 * A ring of samples: a file of 128 sectors of 512 bytes, in each one line of JSON filled up with blanks. A new line takes the
 * place of the oldest by rewriting one sector, so the file never grows past 64 KiB, a cut leaves a line or the one before it,
 * and on FAT neither the directory nor the chain of clusters changes. Lines are numbered by `n`; what is no such line is none.
 */

const SECTOR = 512
/** lines that a ring holds */
export const RING_LINES = 128

/** A line of a ring: numbers, short words and small objects. */
export interface Line {
  readonly n: number
  readonly [name: string]: unknown
}

/** A ring that was read. */
export interface Ring {
  /** in the order in which they were written */
  readonly lines: readonly Line[]
  /** Writes a line over the oldest; on the medium when this returns. @throws READ_ONLY, NO_SPACE, IO */
  append(line: Readonly<Record<string, unknown>>): Promise<void>
}

/** More lines than any watch writes: behind the last number that can be counted none would be found again. */
const MOST_LINES = 2 ** 40

const parseLine = (bytes: Uint8Array): Line | undefined => {
  try {
    const line: unknown = JSON.parse(Buffer.from(bytes).toString())
    const isLine = typeof line === 'object' && line !== null && 'n' in line && Number.isSafeInteger(line.n)
    return isLine && (line as Line).n > 0 && (line as Line).n < MOST_LINES ? (line as Line) : undefined
  } catch {
    return undefined
  }
}

/** byte offset of a line's sector; numbers count from 1 */
const placeOf = ({ n }: Line): number => ((n - 1) % RING_LINES) * SECTOR

/** A line as its sector. It must fit: what is written is bounded by whoever makes it. */
const encodeLine = (line: Line): Uint8Array => {
  const text = JSON.stringify(line)
  const length = Buffer.byteLength(text)
  assert(length < SECTOR, `a line of ${length} bytes fits into a sector`)
  return Buffer.from(`${text}${' '.repeat(SECTOR - 1 - length)}\n`)
}

/**
 * Opens a ring. One that is not there is made by the first line.
 *
 * @throws REFUSED  it is a link; READ_ONLY, IO
 */
export const openRing = async (folder: Folder, name: string): Promise<Ring> => {
  await checkPlain(folder, name)
  const lines = await readRing(folder, name)
  return {
    get lines() {
      return lines
    },
    async append(content) {
      const line = { n: (lines.at(-1)?.n ?? 0) + 1, ...content }
      await checkPlain(folder, name)
      const there = await folder.facts(name)
      const file = there ? await folder.openGrowing(name) : await folder.create(name)
      try {
        await file.write(placeOf(line), encodeLine(line))
        await file.flush()
      } finally {
        await file.close()
      }
      if (!there) await folder.sync()
      lines.push(line)
      if (lines.length > RING_LINES) lines.shift()
    },
  }
}

/** A stick may be somebody else's: root is not led to another file by a link on it. @throws REFUSED */
const checkPlain = async ({ path }: Folder, name: string): Promise<void> => {
  if ((await linkTarget(join(path, name))) !== undefined)
    throw new LiveError('REFUSED', `${join(path, name)} is a link, and is not written to`, { path: join(path, name) })
}

const readRing = async (folder: Folder, name: string): Promise<Line[]> => {
  const found: Line[] = []
  if ((await folder.facts(name))?.kind !== 'file') return found
  const file = await folder.open(name)
  try {
    const bytes = await file.read(0, Math.min(file.size, RING_LINES * SECTOR))
    for (let at = 0; at < bytes.length; at += SECTOR) {
      const line = parseLine(bytes.subarray(at, at + SECTOR))
      // a line in another's place is not ours: numbers give the place
      if (line && placeOf(line) === at) found.push(line)
    }
  } finally {
    await file.close()
  }
  found.sort((a, b) => a.n - b.n)
  // two lines with one number, or from a time before a gap as long as the ring, were not written by one watch
  const last = found.at(-1)?.n ?? 0
  return found.filter(({ n }) => n > last - RING_LINES)
}

/** Keeping a sample is worth less than taking it: what can't be written down is let go. Undefined where that failed. */
export const attempt = async <T>(work: () => Promise<T>): Promise<T | undefined> => {
  try {
    return await work()
  } catch (error) {
    if (!isLiveError(error)) throw error
    return undefined
  }
}
