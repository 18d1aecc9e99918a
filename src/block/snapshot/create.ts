import { assert, LiveError } from '../../error.js'
import type { WritableDevice } from '../device.js'
import { encodeHeader, MAX_CHUNK_SECTORS, SECTOR, SNAP_MAGIC, SNAPSHOT_DISK_VERSION } from './layout.js'

/**
 * Writes an empty store over whatever `cow` holds. Ordered steps and the state after each:
 *
 * 1. first sector cleared, flushed, where it is not clear: a new store, as nothing else is looked at when the magic is 0
 * 2. rest of the header's chunk and metadata area 0 cleared, flushed: still new
 * 3. header, flushed: an empty store
 *
 * @param chunkSectors  a power of two, 1 to 2048; 8 if left out
 * @throws NO_SPACE  the device holds no header and area of such chunks
 * @throws IO
 * @see linux drivers/md/dm-snap-persistent.c, persistent_read_metadata, which writes the header first
 */
export const createStore = async (
  cow: WritableDevice,
  { chunkSectors = 8 }: { readonly chunkSectors?: number | undefined } = {},
): Promise<void> => {
  assert(
    chunkSectors > 0 && chunkSectors <= MAX_CHUNK_SECTORS && Number.isInteger(Math.log2(chunkSectors)),
    `a store with chunks of ${chunkSectors} sectors`,
  )
  const chunkSize = chunkSectors * SECTOR
  if (cow.size < 2 * chunkSize)
    throw new LiveError(
      'NO_SPACE',
      `${cow.name} has ${cow.size} bytes, and an empty snapshot store takes ${2 * chunkSize}`,
      { neededBytes: 2 * chunkSize, freeBytes: cow.size },
    )
  const magic = await cow.read(0, 4)
  if (magic.some(byte => byte !== 0)) {
    await cow.write(0, new Uint8Array(SECTOR))
    await cow.flush()
  }
  await cow.write(0, new Uint8Array(2 * chunkSize))
  await cow.flush()
  const header = { magic: SNAP_MAGIC, valid: 1, version: SNAPSHOT_DISK_VERSION, chunk_size: chunkSectors }
  await cow.write(0, encodeHeader(header))
  await cow.flush()
}
