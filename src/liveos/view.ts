import { openPool } from '../bytes/pool.js'
import { isLiveError, LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { detectFs } from '../fs/detect.js'
import type { FileSystem } from '../fs/filesystem.js'
import { openFs } from '../fs/open.js'
import { openSquashfs } from '../fs/squashfs/reader.js'
import { closeAll } from '../host/folder.js'
import { openTarget } from './open-target.js'
import { openSource } from './source.js'
import { decoderOf, isRoot, openStack, rootImageIn } from './stack.js'
import { findRunning, type Target, type TargetInput } from './target.js'

/**
 * - `root` the root filesystem as the booted system sees it, overlay and replayed journal included
 * - `base` the same without the overlay · `home` the home image · `medium` the stick's own filesystem
 */
export type Layer = 'root' | 'base' | 'home' | 'medium'

/** A filesystem of a target, opened to read files from it. */
export interface View {
  readonly layer: Layer
  readonly fs: FileSystem
  /** what is shown otherwise than one might think */
  readonly findings: readonly Finding[]
  close(): Promise<void>
}

/**
 * Opens one of the filesystems that a TARGET has. An overlay that the kernel has given up is read as far as it goes, with a
 * finding: reading takes nothing away, and what is shown may be all that is left of somebody's work.
 *
 * @throws NOT_FOUND, USAGE  as `openTarget`; NOT_FOUND  there is no home image
 * @throws UNSUPPORTED, CORRUPT, IO
 */
export const openView = async (input: TargetInput, layer: Layer): Promise<View> => {
  if (layer === 'medium') return openMedium(input)
  const { target, close } = await openTarget({ ...input, baseOnly: input.baseOnly || layer !== 'root' })
  try {
    if (layer === 'home') return await homeView(target, close)
    return (await flatView(target, layer, close)) ?? (await rootView(target, layer, close))
  } catch (error) {
    await close()
    throw error
  }
}

const rootView = async (target: Target, layer: Layer, close: () => Promise<void>): Promise<View> => {
  const stack = await openStack(target, { ignoreInvalid: true })
  try {
    const findings: Finding[] = []
    const { store } = stack.overlay ?? {}
    if (stack.overlay && (store?.state === 'invalid' || store?.truncated))
      findings.push({
        code: 'OVERLAY_INVALID',
        severity: 'warning',
        where: stack.overlay.file.path,
        message: `the kernel reads this overlay no more; shown is what it still holds, and the last changes may be missing or half done`,
        remedy: 'copy out what you need first',
      })
    const fs = await openFs(stack.root, { decoder: decoderOf(stack.pool) })
    return {
      layer,
      fs,
      findings,
      close: async () => {
        await fs.close()
        await stack.close()
        await close()
      },
    }
  } catch (error) {
    await stack.close()
    throw error
  }
}

/** A squashfs that is the root filesystem itself; undefined where the base is anything else. */
const flatView = async (target: Target, layer: Layer, close: () => Promise<void>): Promise<View | undefined> => {
  const file = await target.base.folder.open(target.base.name)
  let pool: ReturnType<typeof openPool> | undefined
  const done = async (): Promise<void> => {
    await pool?.close()
    await closeAll([file])
  }
  try {
    if ((await detectFs(file)) === 'squashfs') {
      pool = openPool()
      const fs = await openSquashfs(file, { decoder: decoderOf(pool) })
      if (!(await rootImageIn(fs)) && isRoot((await fs.list('/')).map(({ name }) => name))) {
        const overlay = target.overlay?.path ?? target.overlayDirectory
        const findings: Finding[] =
          overlay === undefined || layer === 'base'
            ? []
            : [
                {
                  code: 'OVERLAY_UNSUPPORTED',
                  severity: 'warning',
                  where: overlay,
                  message: `${overlay} is not shown: over a flat squashfs it is an OverlayFS, and those can't be read yet`,
                },
              ]
        return {
          layer,
          fs,
          findings,
          close: async () => {
            await done()
            await close()
          },
        }
      }
    }
    await done()
    return undefined
  } catch (error) {
    await done()
    throw error
  }
}

const homeView = async (target: Target, close: () => Promise<void>): Promise<View> => {
  if (!target.home) throw new LiveError('NOT_FOUND', `${target.name} has no home image`, { path: target.name })
  const file = await target.home.folder.open(target.home.name)
  try {
    const fs = await openFs(file)
    return {
      layer: 'home',
      fs,
      findings: [],
      close: async () => {
        await fs.close()
        await file.close()
        await close()
      },
    }
  } catch (error) {
    await file.close()
    throw error
  }
}

const openMedium = async (input: TargetInput): Promise<View> => {
  const source = await openSource(input.target ?? (await findRunning()))
  const { partition } = input
  const found = source.volumes.filter(volume => partition === undefined || volume.partition?.number === partition)
  const readable = found.filter(volume => volume.fs)
  const [volume] = readable
  if (volume?.fs && readable.length === 1)
    return { layer: 'medium', fs: volume.fs, findings: [], close: () => source.close() }
  await source.close()
  const failure = found.map(({ failure }) => failure).find(isLiveError)
  if (readable.length > 1)
    throw new LiveError(
      'USAGE',
      `${source.name} has several filesystems (partitions ${readable.map(({ partition }) => partition?.number ?? 'none').join(', ')}): choose one with --partition`,
      { path: source.name },
    )
  throw failure ?? new LiveError('NOT_FOUND', `${source.name} holds no filesystem that is known`, { path: source.name })
}
