import { corrupt } from '../../error.js'
import type { Device, PlacingDevice, SparseDevice } from '../device.js'
import { exceptionOffset, exceptionsPerArea } from './layout.js'
import { pastOrigin, readStore, type Store } from './store.js'
import { viewOf } from './view.js'

/** The merged view of an origin and its store, for reading. */
export interface SnapshotDevice extends SparseDevice, PlacingDevice {
  readonly store: Store
}

/** How a snapshot is opened. */
export interface SnapshotOptions {
  /** the store of `cow`, where it was read before */
  readonly store?: Store | undefined
  /** show what an invalid or truncated store still holds */
  readonly ignoreInvalid?: boolean | undefined
}

/**
 * Checks that a store shows a whole view over this origin.
 *
 * @param ignoreInvalid  an invalid or truncated store passes
 * @throws CORRUPT
 */
export const checkUsable = (origin: Device, cow: Device, store: Store, ignoreInvalid = false): void => {
  const { state, exceptions, chunkSize } = store
  const device = cow.name
  if (state === 'invalid' && !ignoreInvalid)
    throw corrupt({ device, offset: 4, field: 'valid', expected: 1, found: 0 }, store.listError)
  if (store.listError) throw store.listError
  // A view of the first part of the list would look right and be wrong.
  if (store.truncated && !ignoreInvalid)
    throw corrupt({
      device,
      offset: cow.size,
      field: 'size',
      expected: `metadata area ${exceptions.count / exceptionsPerArea(chunkSize)} before the end`,
      found: cow.size,
    })
  const last = exceptions.count - 1
  const originChunks = Math.ceil(origin.size / chunkSize)
  // A store read without the origin's size was not checked against it.
  if (last >= 0 && exceptions.oldChunkAt(last) >= originChunks)
    throw pastOrigin(
      device,
      exceptionOffset(exceptions.storedAt(last), chunkSize),
      exceptions.oldChunkAt(last),
      originChunks,
    )
}

/**
 * The view that the kernel's snapshot target gives: the store's chunks over the origin's. A new store shows the origin as
 * it is. Closing it leaves both open.
 *
 * @param origin  the base; its size is the view's and need not be a multiple of the chunk
 * @param cow     the store
 * @throws CORRUPT  as `readStore`; field `valid` where the kernel gave the store up, field `size` where it was cut in the
 *                  middle of its list (both unless `ignoreInvalid`)
 * @throws UNSUPPORTED, IO  as `readStore`
 * @see linux drivers/md/dm-snap.c, snapshot_map
 */
export const snapshot = async (
  origin: Device,
  cow: Device,
  { store, ignoreInvalid = false }: SnapshotOptions = {},
): Promise<SnapshotDevice> => {
  const known = store ?? (await readStore(cow, { originSize: origin.size, ignoreInvalid }))
  checkUsable(origin, cow, known, ignoreInvalid)
  const { chunkSize, exceptions } = known
  return { ...viewOf({ origin, cow, chunkSize, exceptions }), store: known }
}
