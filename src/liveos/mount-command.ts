import type { Device } from '../block/device.js'
import { openFile } from '../block/file.js'
import type { Partition } from '../block/partitions/partition.js'
import { readPartitions } from '../block/partitions/reader.js'
import { isLiveError } from '../error.js'
import { detectFs } from '../fs/detect.js'
import type { FileFacts } from '../host/folder.js'
import { nodeOf } from '../host/partition-node.js'
import { pathWord } from './advice.js'

/** The first partition of what holds no filesystem itself; undefined where it can't be looked into. */
const firstPartition = async (path: string): Promise<Partition | undefined> => {
  let device: Device | undefined
  try {
    device = await openFile(path)
    if ((await detectFs(device)) !== undefined) return undefined
    return (await readPartitions(device))?.partitions.find(({ role }) => role !== 'extended')
  } catch (error) {
    if (isLiveError(error)) return undefined
    throw error
  } finally {
    await device?.close()
  }
}

/** The command that mounts an image or a disk at `DIR`, of one with partitions the first of them. */
export const mountCommand = async (path: string, { kind }: Pick<FileFacts, 'kind'>): Promise<string> => {
  const first = await firstPartition(path)
  if (kind === 'file') return `sudo mount -o loop${first ? `,offset=${first.start}` : ''} ${pathWord(path)} DIR`
  return `sudo mount ${pathWord((first && (await nodeOf({ disk: path, number: first.number }))) ?? path)} DIR`
}
