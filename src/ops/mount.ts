import { isLiveError, LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { checkEmpty, endProcess, mountByFuse2fs, mountByKernel, unmount } from '../host/mounting.js'
import { hasKernelNbd, hasNbdfuse, NBDFUSE_PACKAGE } from '../host/nbd-file.js'
import { findTool } from '../host/process.js'
import { marked, pathWord } from '../liveos/advice.js'
import type { TargetInput } from '../liveos/target.js'
import { mountPlaceOf, ownerOf, readMountState, removeMountState, statePaths, writeMountState } from './mount-state.js'
import { checkPlanned, descriptionOf, planView, type ViewChoice, type ViewPlan } from './serve-plan.js'
import { openExportFile, type RunningExport, startExport } from './serve-process.js'
import { outcomeFindings } from './unfinished.js'

/** What is mounted, and how. */
export interface MountOptions extends ViewChoice {
  /** the image as a file, and not the files in it */
  readonly file?: boolean | undefined
}

/** What mounting would do; plain JSON. */
export interface MountPlan extends ViewPlan {
  readonly mountPoint: string
  /** `kernel`: by the kernel's own filesystems, as root; `fuse2fs`: without root; `file`: the image as MOUNTPOINT/nbd */
  readonly how: 'kernel' | 'fuse2fs' | 'file'
  readonly readOnly: boolean
}

export interface MountOutcome {
  readonly verb: 'mount'
  readonly mountPoint: string
  /** the image; of `file` what was asked for */
  readonly image: string
  readonly how: MountPlan['how']
  readonly by: 'nbdfuse' | 'kernel nbd'
  readonly readOnly: boolean
  readonly server: number
  readonly findings: readonly Finding[]
}

const EXT = ['ext2', 'ext3', 'ext4']
const isRootUser = (): boolean => process.getuid?.() === 0

/** @throws NOT_FOUND  with what to install */
const howTo = async (
  { type, target }: ViewPlan,
  { file = false }: MountOptions,
): Promise<{ readonly how: MountPlan['how'] }> => {
  const cp = `or copy files out with ${marked(`liveos cp -r ${pathWord(`${target}:/home`)} ./rescued`)}, which needs none of this`
  const fuse = await hasNbdfuse()
  if (file && fuse) return { how: 'file' }
  if (!file && isRootUser() && (fuse || (await hasKernelNbd()))) return { how: 'kernel' }
  if (!fuse)
    throw new LiveError(
      'NOT_FOUND',
      (await findTool('nbdfuse')) && (await findTool('fusermount3'))
        ? `/dev/fuse can't be used here: run this on a computer where it can, as root, ${cp}`
        : `mounting needs nbdfuse and fusermount3: install ${NBDFUSE_PACKAGE} and fuse3, ${cp}`,
      { tool: 'nbdfuse', package: 'nbdfuse fuse3' },
    )
  if (type !== null && EXT.includes(type) && (await findTool('fuse2fs'))) return { how: 'fuse2fs' }
  throw new LiveError(
    'NOT_FOUND',
    type !== null && EXT.includes(type)
      ? `mounting files without root needs fuse2fs: install the package fuse2fs, run it as root, take --file for the image alone, ${cp}`
      : `a ${type ?? 'filesystem that is not known'} can be mounted by root only: run it as root, take --file for the image alone, ${cp}`,
    { tool: 'fuse2fs', package: 'fuse2fs' },
  )
}

/**
 * Looks at what is to be mounted, and how it can be. Nothing is changed.
 *
 * @throws NOT_FOUND  also a missing program, with what to install; REFUSED  the mount point is taken; others as `planView`
 */
export const planMount = async (input: TargetInput, mountPoint: string, options: MountOptions): Promise<MountPlan> => {
  const place = await mountPlaceOf(mountPoint)
  if (await readMountState(place))
    throw new LiveError(
      'REFUSED',
      `a mount of liveos is at ${place}: ${marked(`liveos umount ${pathWord(place)}`)} first`,
      { path: place },
    )
  await checkEmpty(place)
  const plan = await planView('mount', input, options)
  const { how } = await howTo(plan, options)
  return { ...plan, mountPoint: place, how, readOnly: plan.writesTo === 'none' }
}

/** Shows the image at the mount point. @throws IO */
const show = async (plan: MountPlan, image: string): Promise<{ how: MountPlan['how']; fuse2fsPid: number | null }> => {
  const { how, mountPoint, readOnly, type } = plan
  if (how === 'file') return { how, fuse2fsPid: null }
  if (how === 'kernel')
    try {
      await mountByKernel(image, mountPoint, readOnly)
      return { how, fuse2fsPid: null }
    } catch (error) {
      // in many containers root has no loop devices
      const another = type !== null && EXT.includes(type) && !image.startsWith('/dev/') && (await findTool('fuse2fs'))
      if (!isLiveError(error) || !another) throw error
    }
  return { how: 'fuse2fs', fuse2fsPid: await mountByFuse2fs(image, mountPoint, readOnly) }
}

/**
 * Mounts a view. A process of its own serves it and goes on until `umountView`; nothing of this process looks into the mount.
 *
 * @throws REFUSED  the overlay has changed since it was planned; IO, NOT_FOUND
 */
export const mountView = async (input: TargetInput, plan: MountPlan): Promise<MountOutcome> => {
  const { mountPoint } = plan
  await checkPlanned(input, plan)
  const description = descriptionOf(input, plan)
  // A filesystem that was not unmounted cleanly is replayed when it is mounted, also read-only: into what is thrown away.
  const needsRoom = plan.how !== 'file' && plan.writesTo === 'none'
  let running: RunningExport | undefined
  let shown = false
  try {
    running = await startExport(needsRoom ? { ...description, throwAway: true } : description, { once: true })
    const image = await openExportFile(running, {
      mountPoint: plan.how === 'file' ? mountPoint : undefined,
      readOnly: plan.readOnly && !needsRoom,
    })
    if (!image) throw new LiveError('NOT_FOUND', 'neither nbdfuse nor the nbd devices of the kernel can be used here')
    const { how, fuse2fsPid } = await show(plan, image.path)
    shown = true
    await writeMountState({
      version: 1,
      mountPoint,
      target: plan.target,
      part: plan.part,
      writesTo: plan.writesTo,
      scratch: plan.scratch,
      how,
      server: await ownerOf(running.pid),
      image: { path: image.path, by: image.by, pid: image.pid ?? null, mountPoint: image.mountPoint ?? null },
      fuse2fsPid,
    })
    await running.release((await statePaths(mountPoint)).result)
    return {
      verb: 'mount',
      mountPoint,
      image: image.path,
      how,
      by: image.by,
      readOnly: plan.readOnly,
      server: running.pid,
      findings: outcomeFindings(plan.findings),
    }
  } catch (error) {
    if (shown) await unmount(mountPoint).catch(() => undefined)
    await running?.stop().catch(() => running && endProcess(running.pid, 1000))
    await removeMountState(mountPoint)
    throw error
  }
}
