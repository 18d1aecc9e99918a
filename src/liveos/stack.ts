import type { Device } from '../block/device.js'
import { snapshot } from '../block/snapshot/snapshot.js'
import { type ReadStoreOptions, readStore, type Store } from '../block/snapshot/store.js'
import { type CodecPool, openPool } from '../bytes/pool.js'
import { isLiveError, LiveError, unsupported } from '../error.js'
import { detectFs, overlayFsType } from '../fs/detect.js'
import type { SquashFile } from '../fs/squashfs/file.js'
import { openSquashfs, type Squashfs, type SquashfsOptions } from '../fs/squashfs/reader.js'
import { closeAll, type OpenedFile, type ReadFolder } from '../host/folder.js'
import { advised, marked } from './advice.js'
import type { Target, TargetFile } from './target.js'
import { LEAST_OVERLAY, tooSmallAdvice } from './too-small.js'
import { wholeFiles } from './whole-files.js'

/** The base image of a target, opened: a squashfs that holds the root filesystem, or the root filesystem itself. */
export interface Base {
  readonly file: OpenedFile
  /** undefined for an uncompressed base */
  readonly squashfs: { readonly fs: Squashfs; readonly path: string; readonly file: SquashFile } | undefined
  /** the root filesystem's bytes */
  readonly origin: Device
}

/** Everything between a stick's files and the root filesystem as the booted system sees it. */
export interface Stack<F extends ReadFolder = ReadFolder> {
  readonly target: Target<F>
  readonly base: Base
  readonly overlay: { readonly file: OpenedFile; readonly store: Store } | undefined
  /** the root filesystem with the overlay's changes; the origin where there is no overlay */
  readonly root: Device
  readonly pool: CodecPool
  close(): Promise<void>
}

/** The last is that of Fedora 7, whose squashfs.img lies at the root of the ISO. */
const ROOTS = ['/LiveOS/rootfs.img', '/LiveOS/ext3fs.img', '/os.img']

/** The root filesystem's image in a squashed base; undefined in a flat one, which is the root filesystem itself. */
export const rootImageIn = async (fs: Squashfs): Promise<{ path: string; file: SquashFile } | undefined> => {
  for (const path of ROOTS) {
    try {
      return { path, file: await fs.open(path) }
    } catch (error) {
      if (!(error instanceof LiveError) || error.code !== 'NOT_FOUND') throw error
    }
  }
  return undefined
}

/** True where a squashfs has the directories of a root filesystem. */
export const isRoot = (names: readonly string[]): boolean => names.includes('usr') || names.includes('ostree')

/** How a pool's workers expand the blocks of a squashfs. */
export const decoderOf = (pool: CodecPool): NonNullable<SquashfsOptions['decoder']> => ({
  decode: pool.decode,
  decodeInto: pool.decodeInto,
  depth: Math.max(2, pool.threads * 3),
})

/**
 * Opens a base image by what it is, whatever its name.
 *
 * @throws UNSUPPORTED  a flat squashfs, EROFS; CORRUPT, IO
 */
export const openBase = async (file: OpenedFile, pool?: CodecPool): Promise<Base> => {
  if (file.size === 0)
    throw new LiveError('CORRUPT', `${file.path} is empty: copy it again from where it came, or from a backup`, {
      device: file.path,
      offset: 0,
      field: 'size',
      expected: 'a filesystem',
      found: 0,
    })
  const type = await detectFs(file)
  if (type === 'erofs') throw unsupported('EROFS', file.path)
  if (type !== 'squashfs') return { file, squashfs: undefined, origin: file }
  pool?.start()
  const fs = await openSquashfs(file, pool ? { decoder: decoderOf(pool) } : {})
  const root = await rootImageIn(fs)
  if (root) return { file, squashfs: { fs, ...root }, origin: root.file }
  if (isRoot((await fs.list('/')).map(entry => entry.name))) throw unsupported('flat squashfs', file.path)
  throw new LiveError('NOT_FOUND', `${file.path} holds neither ${ROOTS.join(' nor ')}`, { path: file.path })
}

/** What an overlay needs that the kernel has given up, for the sentence that refuses it. */
const overlayRefusal = (target: Target, path: string): LiveError =>
  new LiveError(
    'CORRUPT',
    `${path} is marked invalid (byte 4 is 0), so it can't be used as it is; ${advised(
      target,
      address =>
        `run ${marked(`liveos recover ${address}`)}, which takes what it holds back into use (${marked(`liveos reset ${address}`)} would empty it and lose its changes)`,
    )}`,
    { device: path, offset: 4, field: 'valid', expected: 1, found: 0 },
  )

/** True for the error of an exception past the base's end, which no recovery of the overlay mends. */
export const isOfOtherBase = ({ data }: LiveError): boolean =>
  data.field === 'old_chunk' && /another base/.test(String(data.expected))

/**
 * The store of a target's overlay. One that can't be read is told with what to run.
 *
 * @throws CORRUPT, UNSUPPORTED, IO  as `readStore`
 */
export const readTargetStore = async (
  target: Target,
  file: OpenedFile,
  options: ReadStoreOptions = {},
): Promise<Store> => {
  try {
    return await readStore(file, options)
  } catch (error) {
    if (!isLiveError(error) || error.code !== 'CORRUPT' || isOfOtherBase(error)) throw error
    if (error.data.field === 'size' && file.size < LEAST_OVERLAY)
      throw new LiveError(
        'CORRUPT',
        `the overlay ${file.path} has ${file.size} bytes, and holds nothing: ${await tooSmallAdvice(target, file.path, file)}`,
        error.data,
        error,
      )
    const what = advised(
      target,
      address => `run ${marked(`liveos recover ${address}`)}, which keeps what of it can be read`,
    )
    throw new LiveError('CORRUPT', `the overlay ${file.path} is damaged: ${what}`, error.data, error)
  }
}

export interface StackOptions {
  readonly threads?: number
  /** show what an overlay still holds that the kernel has given up, or that was cut off */
  readonly ignoreInvalid?: boolean
}

/**
 * Opens the root filesystem of a target as a boot would put it together.
 *
 * @throws CORRUPT  base or overlay damaged, or the overlay belongs to another base; UNSUPPORTED, NOT_FOUND, IO
 */
export const openStack = async <F extends ReadFolder>(
  target: Target<F>,
  { threads, ignoreInvalid = false }: StackOptions = {},
): Promise<Stack<F>> => {
  const pool = openPool(threads === undefined ? {} : { threads })
  const open: Device[] = []
  const close = async (): Promise<void> => {
    await pool.close()
    await closeAll(open)
  }
  const opened = async (file: TargetFile): Promise<OpenedFile> => {
    const device = await file.folder.open(file.name)
    open.push(device)
    return device
  }
  try {
    if (target.overlayDirectory) throw unsupported('OverlayFS directory', target.overlayDirectory, wholeFiles(target))
    const base = await openBase(await opened(target.base), pool)
    if (!target.overlay) return { target, base, overlay: undefined, root: base.origin, pool, close }
    const file = await opened(target.overlay)
    const type = await overlayFsType(file).catch(() => undefined)
    if (type) throw unsupported(`overlay that is a ${type} filesystem`, file.path, wholeFiles(target, type))
    const store = await readTargetStore(target, file, { originSize: base.origin.size, ignoreInvalid })
    if (store.state === 'invalid' && !ignoreInvalid) throw overlayRefusal(target, file.path)
    const root = await snapshot(base.origin, file, { store, ignoreInvalid })
    return { target, base, overlay: { file, store }, root, pool, close }
  } catch (error) {
    await close()
    throw error
  }
}
