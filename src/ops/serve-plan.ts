import { join } from 'node:path'
import { readStore, type Store } from '../block/snapshot/store.js'
import { LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { openTemporary, type TemporaryFolder } from '../host/temporary.js'
import { findTarget, type HostFile, type TargetInput } from '../liveos/target.js'
import { checkUnchanged, type FileIdentity, identityOf } from './identity.js'
import { overlayOf } from './reset.js'
import {
  type ExportDescription,
  type ExportLayer,
  type ExportView,
  findPersistent,
  openExportView,
} from './serve-view.js'

/**
 * Where writes go. `none`: there are none. `scratch`: a store that is thrown away at the end, or kept where it was named.
 * `overlay`: the stick itself.
 */
export type WritesTo = 'none' | 'scratch' | 'overlay'

/** Which view is wanted, and whether it can be written. */
export interface ViewChoice {
  readonly part: ExportLayer
  readonly writesTo: WritesTo
  /** path of a scratch store that stays */
  readonly scratch?: string | undefined
}

/** What serving or mounting a view would do; plain JSON. */
export interface ViewPlan {
  readonly verb: 'serve' | 'mount'
  readonly target: string
  readonly part: ExportLayer
  /** bytes */
  readonly size: number
  readonly writesTo: WritesTo
  readonly scratch: string | null
  /** the overlay that takes the writes, and how many bytes of new chunks fit about */
  readonly overlay: { readonly file: FileIdentity; readonly roomBytes: number } | null
  readonly findings: readonly Finding[]
}

const describe = (input: TargetInput, { part, writesTo, scratch }: ViewChoice): ExportDescription => ({
  input,
  layer: part,
  ignoreInvalid: writesTo !== 'overlay',
  ...(writesTo === 'overlay' ? { persist: true } : {}),
  ...(scratch === undefined ? {} : { scratch }),
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
  const overlay = writesTo === 'overlay' ? (await findPersistent(input)).overlay : undefined
  // Read-only, whatever it will be: a store is made or gets its header when it is needed, not to look.
  const view = await openExportView({ input, layer: part, ignoreInvalid: writesTo !== 'overlay' })
  try {
    const store = overlay && (await storeOf(overlay, view.device.size))
    return {
      verb,
      target: view.name,
      part,
      size: view.device.size,
      writesTo,
      scratch: scratch ?? null,
      overlay:
        overlay && store
          ? {
              file: identityOf(overlay),
              roomBytes: Math.max(0, store.totalSectors - store.allocatedSectors) * 512,
            }
          : null,
      findings: view.findings,
    }
  } finally {
    await view.close()
  }
}

/** @throws REFUSED  the overlay is not the one that was planned for */
export const checkPlanned = async (input: TargetInput, { overlay }: ViewPlan): Promise<void> => {
  if (overlay) await checkUnchanged([{ file: overlayOf(await findTarget(input)), planned: overlay.file }])
}

/** A description with a place for its writes. `remove` takes that away again where it was a temporary one. */
export const describeView = async (
  input: TargetInput,
  choice: ViewChoice,
): Promise<{ readonly description: ExportDescription; readonly folder: TemporaryFolder | undefined }> => {
  if (choice.writesTo !== 'scratch' || choice.scratch !== undefined)
    return { description: describe(input, choice), folder: undefined }
  const folder = await openTemporary('scratch')
  return { description: describe(input, { ...choice, scratch: join(folder.path, 'writes.cow') }), folder }
}

/** Opens a view as it was planned. A temporary scratch store is removed when the view is closed. @throws  as `planView` */
export const openPlanned = async (input: TargetInput, plan: ViewPlan): Promise<ExportView> => {
  await checkPlanned(input, plan)
  const choice = { part: plan.part, writesTo: plan.writesTo, scratch: plan.scratch ?? undefined }
  const { description, folder } = await describeView(input, choice)
  try {
    const view = await openExportView(description)
    return {
      ...view,
      async close() {
        try {
          await view.close()
        } finally {
          await folder?.remove()
        }
      },
    }
  } catch (error) {
    await folder?.remove()
    throw error
  }
}
