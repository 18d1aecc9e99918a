import { chmodSync, lstatSync } from 'node:fs'
import type { Device } from '../block/device.js'
import { isLiveError, type LiveError } from '../error.js'
import { modeFor } from './copy-attributes.js'
import { copyFile, readSmall } from './copy-file.js'
import { hostName } from './copy-names.js'
import { shownPath } from './copy-place.js'
import {
  giveName,
  handOver,
  type Into,
  landed,
  type Made,
  NOTHING,
  type Putting,
  pathIn,
  put,
  taskFor,
  tell,
  xattrsFor,
} from './copy-put.js'
import type { CopyItem } from './copy-source.js'
import { isFatal, type WriteTask } from './copy-write.js'
import { MOST_BYTES } from './copy-writer.js'

/**
 * Copies a regular file. What is small is handed over when this returns, and gets its name later.
 *
 * @param done  called once, unless this throws: it has its name now, or gets none
 */
export const putFile = async (
  putting: Putting,
  into: Into,
  item: CopyItem,
  name: Uint8Array,
  done: (made: Made) => void,
): Promise<void> => {
  const { from, keeping, keepPartial, counts } = putting
  const { path, stat } = item
  const { place } = into
  const xattrs = await xattrsFor(putting, item)
  // who may not write may not set attributes either
  const isLate = xattrs.length > 0 && (stat.mode & 0o200) === 0 && process.getuid?.() !== 0
  const extraMode = isLate ? 0o200 : 0
  let reported = 0
  const onBytes = (bytes: number): void => {
    putting.onBytes(bytes - reported)
    reported = bytes
  }
  const partialName = (): Uint8Array =>
    hostName(Buffer.concat([name, Buffer.from('.partial')]), putting.traits.kind).name
  const unreadable = ({ message }: LiveError, kept?: { readonly size: number; readonly as: Uint8Array }): void => {
    const left = kept ? `its first ${kept.size} bytes are kept as ${shownPath(kept.as)}` : 'nothing of it was kept'
    tell(putting, 'UNREADABLE', path, `${message}; ${left}`)
  }
  const end = (isPut: boolean, size: number, inode: bigint | undefined): void => {
    onBytes(stat.size)
    if (!isPut) {
      done(undefined)
      return
    }
    counts.files++
    counts.bytes += size
    landed(
      putting,
      into,
      item,
      name,
      xattrs,
      isLate ? () => chmodSync(place.at(name), modeFor(stat, keeping)) : undefined,
    )
    done(inode === undefined ? undefined : { path: pathIn(place, name), inode })
  }

  const putLarge = async (device: Device): Promise<void> => {
    let error: LiveError | undefined
    let size = 0
    let as: Uint8Array | undefined
    const isPut = await put(putting, into, item, name, async part => {
      const { signal, spare } = putting
      const to = place.at(part)
      const copied = await copyFile({ from: device, to, stat, keeping, extraMode, keepPartial, signal, spare, onBytes })
      error = copied.error
      size = copied.size
      if (error && keepPartial && size > 0) {
        const partial = partialName()
        if ((await giveName(putting, into, item, part, partial)) === 'done') as = partial
      }
      return !error
    })
    if (error) unreadable(error, as && { size, as })
    const isLinked = isPut && stat.linkCount > 1
    end(isPut, size, isLinked ? lstatSync(place.at(name), { bigint: true }).ino : undefined)
  }
  const handOverSmall = async (bytes: Uint8Array, error: LiveError | undefined): Promise<void> => {
    if (error && (!keepPartial || bytes.length === 0)) {
      unreadable(error)
      end(false, 0, undefined)
      return
    }
    const as = error ? partialName() : name
    const mode = keeping.modes ? modeFor(stat, keeping) | extraMode : undefined
    const task: WriteTask = {
      kind: 'file',
      ...taskFor(putting, into, item, as),
      mode,
      // a new owner takes bits away again
      hasMode: mode !== undefined && !keeping.owners && (mode & ~place.givesModes) === 0,
      tellInode: stat.linkCount > 1,
    }
    const size = bytes.length
    await handOver(putting, into, item, as, task, bytes, (isPut, inode) => {
      if (error) unreadable(error, isPut ? { size, as } : undefined)
      end(isPut && !error, size, inode)
    })
  }

  const memory = putting.spare.take(MOST_BYTES)
  try {
    let small: { readonly bytes: Uint8Array; readonly error?: LiveError }
    try {
      const device = await (from.openAt && stat.place !== undefined ? from.openAt(stat.place, path) : from.open(path))
      try {
        if (device.size > MOST_BYTES) {
          await putLarge(device)
          return
        }
        small = await readSmall(device, memory)
      } finally {
        // all of it was read: an error here takes nothing away
        await device.close().catch(() => undefined)
      }
    } catch (error) {
      if (!isLiveError(error) || isFatal(error)) throw error
      small = { bytes: NOTHING, error }
    }
    await handOverSmall(small.bytes, small.error)
  } finally {
    putting.spare.give(memory)
  }
}
