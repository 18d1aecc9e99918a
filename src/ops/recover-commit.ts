import type { Device, WritableDevice } from '../block/device.js'
import {
  areaChunk,
  EXCEPTION_SIZE,
  encodeHeader,
  exceptionsPerArea,
  HEADER_SIZE,
  SNAP_MAGIC,
  SNAPSHOT_DISK_VERSION,
} from '../block/snapshot/layout.js'
import { salvageStore } from '../block/snapshot/salvage.js'
import { snapshot } from '../block/snapshot/snapshot.js'
import type { Store } from '../block/snapshot/store.js'
import { openWritableSnapshot } from '../block/snapshot/writable.js'
import type { ByteRange, Hold } from '../block/undo/layout.js'
import type { UndoRecorder } from '../block/undo/recorder.js'
import { LiveError } from '../error.js'
import type { CheckedRoot } from './recover-fsck.js'
import type { SalvagedView } from './recover-view.js'

/** Headers that say an overlay is given up, while it is worked on, and good again. */
export const holdOf = ({ chunkSectors }: Store): Hold => {
  const header = (valid: number) =>
    encodeHeader({ magic: SNAP_MAGIC, valid, version: SNAPSHOT_DISK_VERSION, chunk_size: chunkSectors }).subarray(
      0,
      HEADER_SIZE,
    )
  return { offset: 0, during: header(0), after: header(1) }
}

const listOffset = (area: number, { chunkSize }: Store): number =>
  areaChunk(area, exceptionsPerArea(chunkSize)) * chunkSize

/** Clears the list behind its consistent beginning, in the area where that ends; the kernel clears all others before it gets there. */
export const clearTear = async (file: UndoRecorder, store: Store): Promise<void> => {
  const { chunkSize, exceptions } = store
  const perArea = exceptionsPerArea(chunkSize)
  const area = Math.floor(exceptions.count / perArea)
  const from = listOffset(area, store) + (exceptions.count % perArea) * EXCEPTION_SIZE
  const end = listOffset(area, store) + chunkSize
  await file.write(from, new Uint8Array(end - from))
  await file.flush()
}

/** A held overlay as the writer of stores wants it: good. It stays held whatever is written. */
const asGood = (file: UndoRecorder, { during, after }: Hold): WritableDevice => {
  const laid = (offset: number, bytes: Uint8Array, header: Uint8Array): Uint8Array => {
    if (offset >= HEADER_SIZE) return bytes
    const copy = bytes.slice()
    copy.set(header.subarray(offset, offset + copy.length))
    return copy
  }
  return {
    name: file.name,
    get size() {
      return file.size
    },
    read: async (offset, length) => laid(offset, await file.read(offset, length), after),
    write: (offset, bytes) => file.write(offset, laid(offset, bytes, during)),
    flush: () => file.flush(),
    close: async () => {},
  }
}

/** Runs of chunks that follow each other, at most 1 MiB each. */
function* runsOf(chunks: Float64Array, chunkSize: number): Iterable<{ chunk: number; count: number }> {
  const most = Math.max(1, (1 << 20) / chunkSize)
  for (let index = 0; index < chunks.length; ) {
    let count = 1
    while (count < most && chunks[index + count] === chunks[index]! + count) count++
    yield { chunk: chunks[index]!, count }
    index += count
  }
}

/**
 * Writes what a check has repaired into an overlay: chunks that it has in their places, others as new ones.
 *
 * @throws NO_SPACE  they don't fit
 */
export const commitRepairs = async (
  file: UndoRecorder,
  { base, store }: SalvagedView,
  { after, changed }: CheckedRoot,
  onProgress: (doneBytes: number, totalBytes: number) => void,
): Promise<void> => {
  const { chunkSize, exceptions } = store
  const held = changed
    .reduce<number[]>((found, chunk) => {
      const newChunk = exceptions.find(chunk)
      if (newChunk !== undefined) found.push(newChunk)
      return found
    }, [])
    .sort((a, b) => a - b)
  // One flush of the journal is then enough for all of them.
  await file.protect(held.map(chunk => ({ offset: chunk * chunkSize, length: chunkSize })))
  await file.protect([
    { offset: listOffset(Math.floor(exceptions.count / exceptionsPerArea(chunkSize)), store), length: chunkSize },
  ])
  const view = await openWritableSnapshot(base.origin, asGood(file, holdOf(store)))
  let done = 0
  for (const { chunk, count } of runsOf(changed, chunkSize)) {
    const offset = chunk * chunkSize
    await view.write(offset, await after.read(offset, Math.min(count * chunkSize, after.size - offset)))
    done += count
    onProgress(done * chunkSize, changed.length * chunkSize)
  }
  await view.flush()
  await view.close()
}

const wrong = (name: string, what: string): LiveError =>
  new LiveError('IO', `${name} was written, but read back ${what}: the stick does not keep what is written to it`, {
    name,
  })

/**
 * Reads an overlay back that was repaired and holds it against what it should be: its list begins with what was kept, and it
 * shows each repaired chunk.
 *
 * @throws IO  it does not
 */
export const checkWritten = async (
  written: Device,
  { base, store }: SalvagedView,
  checked: CheckedRoot | undefined,
): Promise<Store> => {
  const found = await salvageStore(written, { originSize: base.origin.size })
  if (!found.store || found.tear || found.header !== 'invalid' || found.store.truncated)
    throw wrong(written.name, 'its list is another one')
  const list = found.store.exceptions.stored()
  for (const kept of store.exceptions.stored()) {
    const { value } = list.next()
    if (!value || value.oldChunk !== kept.oldChunk || value.newChunk !== kept.newChunk)
      throw wrong(written.name, 'its list is another one')
  }
  if (!checked) return found.store
  const root = await snapshot(base.origin, written, { store: found.store })
  for (const { chunk, count } of runsOf(checked.changed, store.chunkSize)) {
    const offset = chunk * store.chunkSize
    const length = Math.min(count * store.chunkSize, root.size - offset)
    const [is, should] = await Promise.all([root.read(offset, length), checked.after.read(offset, length)])
    if (Buffer.compare(is, should) !== 0) throw wrong(written.name, `its chunk ${chunk} holds something else`)
  }
  return found.store
}

/** Superblocks of ext2 to ext4 and XFS lie in here, and every mount writes to an ext4's. */
const SUPERBLOCKS = 2048

/**
 * Ranges of an overlay by which it is told later whether it was written since: header, lists, and what a mount always changes.
 * Of a root other than ext4 that is not known, so they are all that is allocated.
 */
export const watchedRanges = (store: Store, isExt4: boolean): ByteRange[] => {
  const { chunkSize, exceptions, areaCount, nextFreeChunk } = store
  if (!isExt4) return [{ offset: 0, length: nextFreeChunk * chunkSize }]
  const ranges = [{ offset: 0, length: chunkSize }]
  for (let area = 0; area < areaCount; area++) ranges.push({ offset: listOffset(area, store), length: chunkSize })
  for (let chunk = 0; chunk * chunkSize < SUPERBLOCKS; chunk++) {
    const newChunk = exceptions.find(chunk)
    if (newChunk !== undefined) ranges.push({ offset: newChunk * chunkSize, length: chunkSize })
  }
  return ranges
}
