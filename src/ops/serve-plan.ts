import { resolve } from 'node:path'
import { readStore, type Store } from '../block/snapshot/store.js'
import { LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { detectFs, type FsType } from '../fs/detect.js'
import { findTarget, type HostFile, type TargetInput } from '../liveos/target.js'
import { checkUnchanged, type FileIdentity, identityOf } from './identity.js'
import { overlayOf } from './reset.js'
import { checkScratch } from './serve-scratch.js'
import {
  type ExportDescription,
  type ExportLayer,
  type ExportView,
  findPersistent,
  openExportView,
} from './serve-view.js'
import { undoEnds } from './unfinished.js'

/**
 * Where writes go. `none`: there are none. `scratch`: a store that is thrown away at the end, or kept where it was named.
 * `overlay`: the stick itself.
 */
export type WritesTo = 'none' | 'scratch' | 'overlay'

/** Which view is wanted, and whether it can be written. */
export interface ViewChoice {
  readonly part: ExportLayer
  readonly writesTo: WritesTo
  /** path of a scratch store that stays, absolute or from the working directory */
  readonly scratch?: string | undefined
}

/** What serving or mounting a view would do; plain JSON. */
export interface ViewPlan {
  readonly verb: 'serve' | 'mount'
  readonly target: string
  readonly part: ExportLayer
  /** bytes */
  readonly size: number
  /** of the filesystem in it; null where it is none that is known */
  readonly type: FsType | null
  readonly writesTo: WritesTo
  readonly scratch: string | null
  /** the overlay that takes the writes, and how many bytes of new chunks fit about */
  readonly overlay: { readonly file: FileIdentity; readonly roomBytes: number } | null
  readonly findings: readonly Finding[]
}

/** The view of a plan, for whoever opens it. */
export const descriptionOf = (input: TargetInput, { part, writesTo, scratch }: ViewPlan): ExportDescription => ({
  input,
  layer: part,
  ignoreInvalid: writesTo !== 'overlay',
  persist: writesTo === 'overlay',
  throwAway: writesTo === 'scratch' && scratch === null,
  scratch: scratch ?? undefined,
})

const storeOf = async (overlay: HostFile, originSize: number): Promise<Store> => {
  const file = await overlay.folder.open(overlay.name)
  try {
    return await readStore(file, { originSize })
  } finally {
    await file.close()
  }
}

/**
 * Looks at the view that is to be served or mounted. Nothing is changed.
 *
 * @throws NOT_FOUND, USAGE, CORRUPT, UNSUPPORTED, IO  as opening the view; REFUSED, READ_ONLY  where the overlay is to be written
 */
export const planView = async (verb: ViewPlan['verb'], input: TargetInput, choice: ViewChoice): Promise<ViewPlan> => {
  const { part, writesTo, scratch } = choice
  if (scratch !== undefined && writesTo !== 'scratch')
    throw new LiveError('USAGE', 'a scratch file takes the place of the overlay: not both', { scratch })
  if (part !== 'root' && writesTo === 'overlay')
    throw new LiveError('USAGE', `the overlay takes writes of the root, not of the ${part}`, { part })
  const persistent = writesTo === 'overlay' ? await findPersistent(input) : undefined
  const overlay = persistent?.overlay
  // Read-only, whatever it will be: a store is made or gets its header when it is needed, not to look.
  const view = await openExportView({ input, layer: part, ignoreInvalid: writesTo !== 'overlay' })
  try {
    const there = scratch === undefined ? undefined : await checkScratch(scratch, view.device, view.parts)
    const store = overlay && (await storeOf(overlay, view.device.size))
    return {
      verb,
      target: view.name,
      part,
      size: view.device.size,
      type: (await detectFs(view.device)) ?? null,
      writesTo,
      scratch: scratch === undefined ? null : resolve(scratch),
      overlay:
        overlay && store
          ? {
              file: identityOf(overlay),
              roomBytes: Math.max(0, store.totalSectors - store.allocatedSectors) * 512,
            }
          : null,
      findings: [
        ...view.findings,
        ...(there?.findings ?? []),
        ...(persistent ? await undoEnds(persistent.target) : []),
      ],
    }
  } finally {
    await view.close()
  }
}

/** @throws REFUSED  the overlay is not the one that was planned for */
export const checkPlanned = async (input: TargetInput, { overlay }: ViewPlan): Promise<void> => {
  if (overlay) await checkUnchanged([{ file: overlayOf(await findTarget(input)), planned: overlay.file }])
}

/** Opens a view as it was planned. @throws  as `planView`; REFUSED  the overlay has changed since */
export const openPlanned = async (input: TargetInput, plan: ViewPlan): Promise<ExportView> => {
  await checkPlanned(input, plan)
  return openExportView(descriptionOf(input, plan))
}
