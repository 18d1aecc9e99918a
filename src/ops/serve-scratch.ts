import type { Device, WritableDevice } from '../block/device.js'
import { createFile, openFile, openWritableFile } from '../block/file.js'
import { isStore } from '../block/snapshot/store.js'
import { LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { lockFile } from '../host/file-lock.js'
import { type FileFacts, factsOf, isHostFolder } from '../host/folder.js'
import type { TargetFile } from '../liveos/target.js'
import { checkMark } from './scratch-mark.js'

/** sectors of a chunk of a scratch store */
export const SCRATCH_SECTORS = 8
const SCRATCH_CHUNK = SCRATCH_SECTORS * 512
const PER_AREA = SCRATCH_CHUNK / 16

/** Bytes of a store with room for every chunk of a view; a file of that size is all hole at first. */
export const scratchSize = (viewSize: number): number => {
  const chunks = Math.ceil(viewSize / SCRATCH_CHUNK)
  return (chunks + Math.ceil(chunks / PER_AREA) + 4) * SCRATCH_CHUNK
}

/**
 * Looks at a file that is to take the writes of a view: one that is there must be a store, as a scratch run over that view leaves
 * it. An image that begins with zeros would pass for a store that is new.
 *
 * @param parts  files of the target, none of which it may be: this is looked at first, as what is told else speaks of removing it
 * @returns  undefined where there is no such file
 * @throws REFUSED  it is a part of the target, something else, or holds writes over another view; USAGE  a directory
 */
export const checkScratch = async (
  path: string,
  view: Device,
  parts: readonly TargetFile[],
): Promise<{ readonly facts: FileFacts; readonly findings: readonly Finding[] } | undefined> => {
  const facts = await factsOf(path)
  if (!facts) return undefined
  const same = parts.find(
    ({ folder, facts: part }) => isHostFolder(folder) && part.device === facts.device && part.inode === facts.inode,
  )
  if (same)
    throw new LiveError(
      'REFUSED',
      `${path} is ${same.path}, a part of what is opened: name another file, or say --persist to write into the overlay`,
      { path },
    )
  const file = await openFile(path)
  try {
    if (await isStore(file)) return { facts, findings: await checkMark(path, file, view) }
  } finally {
    await file.close()
  }
  throw new LiveError(
    'REFUSED',
    `${path} is there and is no scratch store: name another file, which is made then, or remove it if nothing in it is wanted`,
    { path },
  )
}

const makeScratch = async (path: string, viewSize: number): Promise<WritableDevice> => {
  const file = await createFile(path, { mode: 0o600, exclusive: true })
  await file.truncate(scratchSize(viewSize))
  return file
}

/** A store that takes the writes of a view. */
export interface Scratch extends WritableDevice {
  readonly findings: readonly Finding[]
}

/**
 * Opens the store that takes the writes of a view, or makes it. It is locked until it is closed.
 *
 * @param parts  files of the target, none of which it may be
 * @throws REFUSED  it is a part of the target, no store, or in use; NOT_FOUND, USAGE, READ_ONLY, IO
 */
export const openScratch = async (path: string, view: Device, parts: readonly TargetFile[]): Promise<Scratch> => {
  const there = await checkScratch(path, view, parts)
  const file = there ? await openWritableFile(path) : await makeScratch(path, view.size)
  const lock = await lockFile(path).catch(async (error: unknown) => {
    await file.close()
    throw error
  })
  return {
    findings: there?.findings ?? [],
    name: file.name,
    get size() {
      return file.size
    },
    read: (offset, length) => file.read(offset, length),
    write: (offset, bytes) => file.write(offset, bytes),
    flush: () => file.flush(),
    async close() {
      await file.close()
      await lock.release()
    },
  }
}
