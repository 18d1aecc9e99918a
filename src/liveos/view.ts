import type { Device } from '../block/device.js'
import { openPool } from '../bytes/pool.js'
import { isLiveError, LiveError, unsupported } from '../error.js'
import type { Finding } from '../finding.js'
import { detectFs } from '../fs/detect.js'
import type { FileSystem } from '../fs/filesystem.js'
import { openFs } from '../fs/open.js'
import type { OverlayFs } from '../fs/overlayfs/reader.js'
import { openSquashfs } from '../fs/squashfs/reader.js'
import { closeAll, isHostFolder } from '../host/folder.js'
import { holderOf } from '../host/place-folder.js'
import { rescueCommand } from './advice.js'
import { liveVolumes, openTarget, volumesOf } from './open-target.js'
import { openSource, type Source } from './source.js'
import { decoderOf, isRoot, openStack, rootImageIn } from './stack.js'
import { findRunning, findTarget, type Target, type TargetInput } from './target.js'
import { mergeUpper, openUpperLayer, type UpperLayer } from './upper-layer.js'

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
  /** of a root: the home image that a booted system mounts over its /home */
  readonly homeImage: string | undefined
  /** files and devices of this computer that it is read from: nothing may be written over them meanwhile */
  readonly files: readonly string[]
  close(): Promise<void>
}

/** A view before it is said what it is read from. */
type Opened = Omit<View, 'files'>

/**
 * Opens one of the filesystems that a TARGET has. An overlay that the kernel has given up is read as far as it goes, with a
 * finding: reading takes nothing away, and what is shown may be all that is left of somebody's work.
 *
 * @throws NOT_FOUND, USAGE  as `openTarget`; NOT_FOUND  there is no home image
 * @throws UNSUPPORTED  also an overlay of a kind that can't be read: the base alone would be taken for the whole
 * @throws CORRUPT, IO
 */
export const openView = async (input: TargetInput, layer: Layer): Promise<View> => {
  if (layer === 'medium') return openMedium(input)
  const { target, close } = await openTarget({ ...input, baseOnly: input.baseOnly || layer !== 'root' })
  try {
    const files = filesOf(target)
    if (layer === 'home') return { ...(await homeView(target, close)), files }
    const overlaid = layer === 'root' ? await openOverlaid(target) : undefined
    if (overlaid) return { ...overlaidView(target, overlaid, close), files }
    return { ...((await flatView(target, layer, close)) ?? (await rootView(target, layer, close))), files }
  } catch (error) {
    await close()
    throw error
  }
}

/** Files of this computer that a target is read from: the image, disk or partition that was named, base, overlay and home. */
export const filesOf = ({ name, base, overlay, home }: Target): readonly string[] => [
  ...new Set([
    name,
    ...[base, overlay, home].flatMap(file => (file && isHostFolder(file.folder) ? holderOf(file) : [])),
  ]),
]

/** A base with what an OverlayFS laid over it. */
export interface Overlaid {
  readonly base: FileSystem
  readonly upper: UpperLayer
  readonly fs: OverlayFs
  close(): Promise<void>
}

/**
 * Opens the root of a target whose changes are kept by an OverlayFS.
 *
 * @returns  undefined where there is no overlay, or one of another kind
 * @throws NOT_FOUND, UNSUPPORTED, READ_ONLY, CORRUPT, IO  as `openUpperLayer`, and the base
 */
export const openOverlaid = async (target: Target): Promise<Overlaid | undefined> => {
  const upper = await openUpperLayer(target).catch((error: unknown) => {
    throw withoutOverlay(error, target)
  })
  if (!upper) return undefined
  try {
    const alone: Target = { ...target, overlay: undefined, overlayDirectory: undefined }
    const leave = async (): Promise<void> => {}
    const base = (await flatView(alone, 'base', leave)) ?? (await rootView(alone, 'base', leave))
    try {
      const fs = await mergeUpper(target, base.fs, upper)
      const close = async (): Promise<void> => {
        await base.close()
        await upper.close()
      }
      return { base: base.fs, upper, fs, close }
    } catch (error) {
      await base.close()
      throw error
    }
  } catch (error) {
    await upper.close()
    throw error
  }
}

const overlaidView = (target: Target, overlaid: Overlaid, close: () => Promise<void>): Opened => ({
  layer: 'root',
  fs: overlaid.fs,
  findings: overlaid.upper.findings,
  homeImage: target.home?.path,
  close: async () => {
    await overlaid.close()
    await close()
  },
})

/** Says how to go on without an overlay that can't be read. */
const withoutOverlay = (error: unknown, target: Target): unknown => {
  if (!target.overlay || !isLiveError(error) || (error.code !== 'UNSUPPORTED' && error.code !== 'CORRUPT')) return error
  const { path } = target.overlay
  if (error.data.device !== path && error.data.where !== path) return error
  return new LiveError(error.code, `${error.message}; --base-only leaves the overlay out`, error.data, error.cause)
}

/** The same bytes under a name that tells a person where they are from. */
const named = (device: Device, name: string): Device => ({ ...device, name })

const rootView = async (target: Target, layer: Layer, close: () => Promise<void>): Promise<Opened> => {
  const stack = await openStack(target, { ignoreInvalid: true }).catch((error: unknown) => {
    throw withoutOverlay(error, target)
  })
  try {
    const findings: Finding[] = []
    const { store } = stack.overlay ?? {}
    if (stack.overlay && (store?.state === 'invalid' || store?.truncated))
      findings.push({
        code: 'OVERLAY_INVALID',
        severity: 'warning',
        where: stack.overlay.file.path,
        message:
          'the kernel reads this overlay no more; shown is what it still holds, and the last changes may be missing or half done',
        remedy: `copy out what you need before the overlay is reset: ${rescueCommand(target)}`,
      })
    const root = named(stack.root, `${layer === 'base' ? 'base' : 'root filesystem'} of ${target.name}`)
    const fs = await openFs(root, { decoder: decoderOf(stack.pool) })
    return {
      layer,
      fs,
      findings,
      homeImage: target.home?.path,
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
const flatView = async (target: Target, layer: Layer, close: () => Promise<void>): Promise<Opened | undefined> => {
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
        if (target.overlay)
          throw unsupported(
            'overlay over a flat squashfs',
            target.overlay.path,
            'a squashfs that is the root itself takes an OverlayFS only, and this overlay is none: --base-only shows the base without it',
          )
        return {
          layer,
          fs,
          findings: [],
          homeImage: target.home?.path,
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

const homeView = async (target: Target, close: () => Promise<void>): Promise<Opened> => {
  if (!target.home)
    throw new LiveError('NOT_FOUND', `${target.name} has no home image: /home is a part of its root`, {
      path: target.name,
    })
  const file = await target.home.folder.open(target.home.name)
  try {
    if ((await detectFs(file)) === 'luks')
      throw unsupported(
        'encrypted home image',
        target.home.path,
        'this home image is encrypted (LUKS), and nothing of it can be read here: open it with cryptsetup on a Linux computer',
      )
    const fs = await openFs(named(file, `home image of ${target.name}`))
    return {
      layer: 'home',
      fs,
      findings: [],
      homeImage: undefined,
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

/** Of a mounted stick the files of its live system, which are not to be lost: where there is one. */
const mediumFiles = async ({ kind, name }: Source, input: TargetInput): Promise<readonly string[]> =>
  kind === 'directory' ? findTarget({ ...input, target: name }).then(filesOf, () => []) : [name]

const openMedium = async (input: TargetInput): Promise<View> => {
  if (input.base !== undefined)
    throw new LiveError('USAGE', '--medium goes with a TARGET: a base image alone lies on no stick')
  const source = await openSource(input.target ?? (await findRunning()))
  try {
    const volumes = volumesOf(source, input.partition)
    const readable = volumes.filter(volume => volume.fs)
    // of several, the one that carries the live system is the stick's own
    const meant = readable.length > 1 ? await liveVolumes(source, readable) : readable
    const [volume] = meant
    if (volume?.fs && meant.length === 1)
      return {
        layer: 'medium',
        fs: volume.fs,
        findings: [],
        homeImage: undefined,
        files: await mediumFiles(source, input),
        close: () => source.close(),
      }
    if (readable.length > 1)
      throw new LiveError(
        'USAGE',
        `${source.name} has several filesystems (partitions ${readable.map(({ partition }) => partition?.number ?? 'none').join(', ')}): choose one with --partition`,
        { path: source.name },
      )
    const failure = source.tableFailure ?? volumes.find(({ failure }) => failure)?.failure
    throw (
      failure ?? new LiveError('NOT_FOUND', `${source.name} holds no filesystem that is known`, { path: source.name })
    )
  } catch (error) {
    await source.close()
    throw error
  }
}
