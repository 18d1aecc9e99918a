import { assert } from '../error.js'
import type { Folder, ReadFolder } from '../host/folder.js'
import { removeFile } from './replaced-file.js'

/*
 * The file by which a run that was cut short is gone on with. First sector: the step and what belongs to it, JSON filled up
 * with blanks, rewritten in place (one sector, so a cut leaves the old step or the new one). From byte 512 on: what stays the
 * same, JSON; written and flushed before anything else happens, so a step file that can't be read means that nothing had
 * happened yet.
 */

const SECTOR = 512
/** bytes of a step file at most */
const MOST = 1 << 20

/** JSON as it came, nothing of it checked. */
export interface StepFile {
  readonly step: Readonly<Record<string, unknown>>
  readonly begun: Readonly<Record<string, unknown>>
}

const sectorOf = (step: object): Uint8Array => {
  const text = JSON.stringify(step)
  assert(Buffer.byteLength(text) < SECTOR, 'a step fits into a sector')
  return Buffer.from(`${text}${' '.repeat(SECTOR - 1 - Buffer.byteLength(text))}\n`)
}

/** Makes the file. It and its name are on the medium when this returns. @throws REFUSED  there is one already; NO_SPACE, IO  and there is none then */
export const createStepFile = async (folder: Folder, name: string, step: object, begun: object): Promise<void> => {
  const file = await folder.create(name)
  try {
    try {
      await file.write(SECTOR, Buffer.from(`${JSON.stringify(begun)}\n`))
      await file.flush()
      await file.write(0, sectorOf(step))
      await file.flush()
    } finally {
      await file.close()
    }
    await folder.sync()
  } catch (error) {
    // this run made it, so this run may take it away
    await removeFile(folder, name).catch(() => undefined)
    throw error
  }
}

/** Records the next step; on the medium when this returns. */
export const rewriteStep = async (folder: Folder, name: string, step: object): Promise<void> => {
  const file = await folder.openWritable(name)
  try {
    await file.write(0, sectorOf(step))
    await file.flush()
  } finally {
    await file.close()
  }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Reads the file; undefined where there is none, 'unreadable' where a cut came before it was complete. */
export const readStepFile = async (folder: ReadFolder, name: string): Promise<StepFile | 'unreadable' | undefined> => {
  if (!(await folder.facts(name))) return undefined
  const file = await folder.open(name)
  let bytes: Buffer
  try {
    bytes = Buffer.from(await file.read(0, Math.min(file.size, MOST)))
  } finally {
    await file.close()
  }
  try {
    const step: unknown = JSON.parse(bytes.subarray(0, SECTOR).toString())
    const begun: unknown = JSON.parse(bytes.subarray(SECTOR).toString())
    return isObject(step) && isObject(begun) ? { step, begun } : 'unreadable'
  } catch {
    return 'unreadable'
  }
}
