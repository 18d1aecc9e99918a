import { shownName } from '../block/http/shown.js'
import { isHttpUrl } from '../block/http.js'
import type { Store } from '../block/snapshot/store.js'
import type { NamedTable } from '../block/table.js'
import { type TableNode, tablesOf } from '../block/table-graph.js'
import { isLiveError, LiveError, unsupported } from '../error.js'
import type { Finding } from '../finding.js'
import { isHostFolder } from '../host/folder.js'
import { attachedLoop } from '../host/loops.js'
import { holderOf } from '../host/place-folder.js'
import { calledAs, marked } from '../liveos/advice.js'
import { openTarget } from '../liveos/open-target.js'
import { openStack } from '../liveos/stack.js'
import { type Target, type TargetInput, UNDO_SUFFIX } from '../liveos/target.js'
import { scratchSize } from './serve-scratch.js'
import { findPersistent } from './serve-view.js'
import { findPlaces, type Places } from './table-place.js'
import { type CreateStep, stepCommands, type TableStep, tableScript, undoAll } from './table-shell.js'

/** What kind of view is wanted. */
export interface TableOptions {
  /** `none`: a read-only device; `scratch`: writes go to a file that is thrown away; `overlay`: into the overlay of the stick */
  readonly writesTo?: 'none' | 'scratch' | 'overlay' | undefined
  /** of the device below /dev/mapper; `liveos` if left out */
  readonly name?: string | undefined
}

/** The tables of a view and the commands for it; plain JSON. */
export interface TablePlan {
  readonly verb: 'table'
  readonly target: string
  readonly view: 'root' | 'base'
  readonly writesTo: 'none' | 'scratch' | 'overlay'
  /** such as /dev/mapper/liveos */
  readonly device: string
  /** bytes */
  readonly size: number
  /** in the order in which they are made */
  readonly tables: readonly NamedTable[]
  readonly steps: readonly TableStep[]
  /** of all steps, each one line for bash */
  readonly commands: readonly string[]
  /** in their order; loop devices by the variables of their steps */
  readonly undo: readonly string[]
  /** all of it as a script for bash */
  readonly script: string
  readonly findings: readonly Finding[]
}

const SECTOR = 512

/** What is known of a view before a kernel has it. */
interface Layers {
  readonly target: Target
  /** path of the root's image in a squashed base */
  readonly rootPath: string | undefined
  /** bytes of the root without the overlay */
  readonly size: number
  readonly store: Store | undefined
}

/** @throws as `openStack` */
const look = async (target: Target): Promise<Layers> => {
  try {
    const stack = await openStack(target, { threads: 1 })
    try {
      const { base, overlay } = stack
      return { target, rootPath: base.squashfs?.path, size: base.origin.size, store: overlay?.store }
    } finally {
      await stack.close()
    }
  } catch (error) {
    // An image that is the root filesystem itself is a device as it stands.
    const isItself = isLiveError(error) && ['flat squashfs', 'EROFS'].includes(String(error.data.feature))
    if (!isItself || target.overlay) throw error
    const { size } = target.base.facts
    return { target, rootPath: undefined, size, store: undefined }
  }
}

const loopOf = async (places: Places, file: NonNullable<Target['overlay']>, variable: string, why: string) => ({
  kind: 'loop' as const,
  variable,
  ...(await places.of(file)),
  readOnly: true,
  why,
})

/** Loop devices of base and overlay. The origin is `$base`. */
const fileSteps = async (
  { target, rootPath, store }: Layers,
  places: Places,
  name: string,
  intoOverlay: boolean,
): Promise<readonly TableStep[]> => {
  const steps: TableStep[] = [...places.steps]
  if (rootPath === undefined)
    steps.push(await loopOf(places, target.base, 'base', 'the root filesystem without changes'))
  else {
    const path = `/run/${name}-squashfs`
    steps.push(
      await loopOf(places, target.base, 'squashfs', 'the base image'),
      { kind: 'mount', variable: 'squashfs', type: 'squashfs', options: 'ro', path, why: 'what is in it' },
      {
        kind: 'loop',
        variable: 'base',
        path: path + rootPath,
        readOnly: true,
        part: null,
        why: 'the root filesystem without changes',
      },
    )
  }
  if (target.overlay && store)
    steps.push({ ...(await loopOf(places, target.overlay, 'overlay', 'its changes')), readOnly: !intoOverlay })
  return steps
}

const WHY = {
  base: 'the base under a name of its own',
  merged: 'the changes laid over the base, chunk by chunk',
  scratch: 'a second overlay takes the writes',
} as const

/** Devices by device-mapper, the topmost first. */
const graph = (
  { size, store }: Layers,
  name: string,
  writesTo: TablePlan['writesTo'],
): readonly (TableNode & Pick<CreateStep, 'why' | 'readOnly'>)[] => {
  const span = { startSector: 0, sectorCount: Math.floor(size / SECTOR) }
  const overlay = { type: 'snapshot' as const, origin: '$base', cow: '$overlay', features: [] }
  const merged = (of: string): TableNode & Pick<CreateStep, 'why' | 'readOnly'> =>
    store
      ? {
          name: of,
          // The kernel that booted it has PO, so that an overlay that is full is not given up.
          lines: [
            { ...span, ...overlay, store: writesTo === 'overlay' ? 'PO' : 'P', chunkSectors: store.chunkSectors },
          ],
          why: WHY.merged,
          readOnly: writesTo !== 'overlay',
        }
      : {
          name: of,
          lines: [{ ...span, type: 'linear', device: '$base', deviceSector: 0 }],
          why: WHY.base,
          readOnly: true,
        }
  if (writesTo !== 'scratch') return [merged(name)]
  const below = merged(`${name}-ro`)
  const top = { ...overlay, origin: below, cow: '$scratch', store: 'PO' as const, chunkSectors: 8 }
  return [{ name, lines: [{ ...span, ...top }], why: WHY.scratch, readOnly: false }, below]
}

const findingsOf = async ({ target, size, store }: Layers, isNew: boolean): Promise<readonly Finding[]> => {
  const findings: Finding[] = []
  const { overlay } = target
  const note = (code: string, severity: Finding['severity'], where: string, message: string): void =>
    void findings.push({ code, severity, where, message })
  if (size % SECTOR !== 0)
    note(
      'TAIL_LEFT_OUT',
      'note',
      target.base.path,
      `the last ${size % SECTOR} bytes of the root are no whole sector, and no block device has them`,
    )
  if (isNew && overlay)
    note(
      'OVERLAY_NEW',
      'note',
      overlay.path,
      'the overlay is new and holds nothing; it is left out, as a kernel that activates it writes its header',
    )
  if (store && overlay && isHostFolder(overlay.folder)) {
    const loop = await attachedLoop(holderOf(overlay))
    if (loop)
      note(
        'OVERLAY_IN_USE',
        'warning',
        overlay.path,
        `the overlay is in use by ${loop.name}: a second view of it is right only as long as nobody writes to the first`,
      )
  }
  return findings
}

/** @throws USAGE */
const checkName = (name: string): void => {
  if (!/^[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}$/.test(name))
    throw new LiveError(
      'USAGE',
      `${JSON.stringify(name)} is no name for a device: up to 64 letters, digits and _ . + -, a letter or digit first`,
      { name },
    )
}

const targetFor = async (
  input: TargetInput,
  writesTo: TablePlan['writesTo'],
): Promise<{ readonly target: Target; close(): Promise<void> }> => {
  if (input.target !== undefined && isHttpUrl(input.target))
    throw unsupported(
      'device-mapper tables of an http(s) address',
      shownName(input.target),
      "the kernel reads no http(s) addresses: download it first, or attach what 'liveos serve' gives by nbd-client",
    )
  if (writesTo !== 'overlay') return openTarget(input)
  if (input.baseOnly) throw new LiveError('USAGE', 'writes go into the overlay, and that is to be left out: choose one')
  const { target, overlay } = await findPersistent(input)
  // What root writes by the script nobody here sees, and taking an earlier change back under it would tear it.
  if (await overlay.folder.facts(overlay.name + UNDO_SUFFIX))
    throw new LiveError(
      'REFUSED',
      `${overlay.name}${UNDO_SUFFIX} is there, by which what was done to this overlay can be taken back: run ${marked(`liveos undo ${calledAs(target)}`)}, or remove that file if the overlay is to stay as it is`,
      { path: overlay.path },
    )
  return { target, close: async () => undefined }
}

/**
 * Finds the tables, and the losetup, mount and dmsetup commands, by which a root shell gets the view of a target that is read
 * here: the root filesystem with its overlay, or the base. Nothing is changed, and no root is needed.
 *
 * @throws UNSUPPORTED  device-mapper can't show it: an http(s) address, an OverlayFS; CORRUPT  the kernel would not activate it
 * @throws REFUSED  the overlay is to take writes and is in use, or a journal on the way was not replayed
 * @throws NOT_FOUND, USAGE, READ_ONLY, IO  as `openTarget`
 */
export const planTable = async (input: TargetInput, options: TableOptions = {}): Promise<TablePlan> => {
  const { writesTo = 'none', name = 'liveos' } = options
  checkName(name)
  const { target, close } = await targetFor(input, writesTo)
  try {
    const found = await look(target)
    const isNew = found.store?.state === 'new' && writesTo !== 'overlay'
    const layers = isNew ? { ...found, store: undefined } : found
    const nodes = graph(layers, name, writesTo)
    const tables = tablesOf(nodes.slice(0, 1))
    const places = await findPlaces(target, input.partition, name)
    const scratch = {
      kind: 'scratch' as const,
      variable: 'scratch',
      path: `/var/tmp/${name}`,
      size: scratchSize(layers.size),
      why: 'room for writes that are thrown away',
    }
    const steps: TableStep[] = [
      ...(await fileSteps(layers, places, name, writesTo === 'overlay')),
      ...(writesTo === 'scratch' ? [scratch] : []),
      ...tables.map(table => {
        const { why, readOnly } = nodes.find(node => node.name === table.name)!
        return { kind: 'table' as const, ...table, readOnly, why }
      }),
    ]
    const view = target.overlay && !input.baseOnly ? 'root' : 'base'
    const what = view === 'root' ? 'the root filesystem with its changes' : 'the root filesystem without changes'
    const mode = { none: ', read-only', scratch: ', writable for a while', overlay: ', writable' }[writesTo]
    return {
      verb: 'table',
      target: target.name,
      view,
      writesTo,
      device: `/dev/mapper/${name}`,
      size: layers.size - (layers.size % SECTOR),
      tables,
      steps,
      commands: steps.flatMap(stepCommands),
      undo: undoAll(steps),
      script: tableScript(what + mode, target.name, name, steps),
      findings: await findingsOf(found, isNew),
    }
  } finally {
    await close()
  }
}
