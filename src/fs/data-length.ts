import { dataLength } from '../block/device.js'
import type { FileSystem } from './filesystem.js'

/** Bytes of a regular file that are no holes. @throws NOT_FOUND, CORRUPT, IO */
export const fileDataLength = async (fs: FileSystem, path: string): Promise<number> => {
  const file = await fs.open(path)
  try {
    return await dataLength(file)
  } finally {
    await file.close()
  }
}
