import { assert } from '../../error.js'
import type { Device, SparseDevice, WritableDevice } from '../device.js'
import type { Store } from './store.js'

/** The merged view of an origin and its store, whose writes go to the store. */
export interface WritableSnapshot extends WritableDevice, SparseDevice {
  /** the counts now, with every write that was accepted; after a flush the store on the medium says the same */
  readonly store: Store
}

/** How a snapshot is opened to be written. */
export interface WritableSnapshotOptions {
  /** chunk size of a store that is new, in sectors; 8 if left out */
  readonly chunkSectors?: number | undefined
}

/**
 * Writes an empty store over whatever `cow` holds.
 *
 * @param chunkSectors  a power of two, 1 to 2048; 8 if left out
 */
export const createStore = async (
  cow: WritableDevice,
  { chunkSectors = 8 }: { chunkSectors?: number | undefined } = {},
): Promise<void> => {
  assert(false, `no store of ${cow.name} with chunks of ${chunkSectors} sectors yet`)
}

/** Opens the view of an origin and its store to be written. Never closes either. */
export const openWritableSnapshot = async (
  origin: Device,
  cow: WritableDevice,
  options: WritableSnapshotOptions = {},
): Promise<WritableSnapshot> => {
  assert(false, `no writing of ${origin.name} to ${cow.name} yet ${JSON.stringify(options)}`)
}
