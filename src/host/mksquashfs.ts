import { join } from 'node:path'
import type { Device } from '../block/device.js'
import { openFile } from '../block/file.js'
import type { CompressorName } from '../bytes/codec.js'
import { findTool, runTool, startFed } from './process.js'
import { openTemporary, temporaryRoom } from './temporary.js'

/** The mksquashfs of this computer. */
export interface Mksquashfs {
  readonly version: string
  readonly compressors: readonly string[]
  /**
   * Starts it with a tar as input and a temporary image as output; `finish` gives that image, `dispose` removes it.
   *
   * @throws IO  it failed
   */
  start(
    args: readonly string[],
    signal?: AbortSignal,
  ): Promise<{
    write(bytes: Uint8Array): Promise<void>
    finish(): Promise<Device>
    dispose(): Promise<void>
  }>
}

/** What the batches on their way take in the temporary folder, at most. */
const ROOM = 256 << 20

/** The mksquashfs that is installed, if it is one that reads a tar (4.5 and later) and there is room for what it writes. */
export const findMksquashfs = async (): Promise<Mksquashfs | undefined> => {
  if (!(await findTool('mksquashfs')) || (await temporaryRoom()) < ROOM) return undefined
  const version = /mksquashfs version ([\d.]+)/.exec((await runTool('mksquashfs', ['-version'])).stdout)?.[1] ?? '0'
  const [major = 0, minor = 0] = version.split('.').map(Number)
  if (major < 4 || (major === 4 && minor < 5)) return undefined
  const help = await runTool('mksquashfs', ['-help'])
  const listed = /Compressors available[^\n]*\n([\s\S]*)/.exec(help.stdout + help.stderr)?.[1] ?? ''
  const compressors = ['gzip', 'lzo', 'lz4', 'xz', 'zstd', 'lzma'].filter(name =>
    new RegExp(`^\\s+${name}\\b`, 'm').test(listed),
  )
  return { version, compressors, start: startMksquashfs }
}

/** True where this mksquashfs has the compressor. */
export const hasCompressor = (tool: Mksquashfs, name: CompressorName): boolean => tool.compressors.includes(name)

/** glibc gives large blocks back to the kernel at every free, and mksquashfs has one for each block: half of its page faults. */
const KEEP_MEMORY = { MALLOC_MMAP_THRESHOLD_: '16777216', MALLOC_TRIM_THRESHOLD_: '33554432' }

const startMksquashfs: Mksquashfs['start'] = async (args, signal) => {
  const { path: folder, remove } = await openTemporary('encode')
  const path = join(folder, 'blocks.squashfs')
  let image: Device | undefined
  try {
    const child = await startFed('mksquashfs', ['-', path, ...args], signal, KEEP_MEMORY)
    return {
      write: child.write,
      async finish() {
        await child.finish()
        image = await openFile(path, { name: 'mksquashfs output' })
        return image
      },
      async dispose() {
        // Its folder is removed below: it may write no more then.
        await child.kill()
        await image?.close()
        await remove()
      },
    }
  } catch (error) {
    await remove()
    throw error
  }
}
