import type { Finding } from '../../finding.js'
import type { Argument, ArgumentChange } from '../boot/arguments.js'
import type { LiveFacts } from '../dracut/facts.js'
import { isNone } from '../dracut/overlay-word.js'
import type { BootPlan, PlanFinding } from '../dracut/plan.js'
import type { LiveSettings } from '../dracut/settings.js'
import { SINCE } from '../dracut/version.js'
import { misspelled } from './spelling.js'

/** Why a boot by an entry does not keep changes, or does so otherwise than one would think. */
export interface Reason extends Omit<Finding, 'where'> {
  readonly argument: Argument | undefined
  /** what to change in the entry's arguments; empty where that does not help */
  readonly changes: readonly ArgumentChange[]
}

/** What is on the stick that an entry could use. */
export interface OnStick {
  /** overlays in the live directory, by name */
  readonly overlays: readonly { readonly name: string; readonly kind: 'file' | 'directory' }[]
  /** the filesystem with the live directory */
  readonly label: string | undefined
  readonly uuid: string | undefined
  readonly type: string | undefined
}

/** A boot entry as it was planned. */
export interface PlannedEntry {
  readonly list: readonly Argument[]
  readonly settings: LiveSettings
  readonly facts: LiveFacts
  readonly plan: BootPlan
}

const FAT_LABEL = 11
/** bytes; FAT ends at 4 GiB - 1 */
const NEARLY_FAT_LIMIT = 2 ** 32 - 2 ** 20

/** The overlay that belongs here: of the name that a boot makes, or the only one. */
const overlayHere = ({ overlays, label, uuid }: OnStick): OnStick['overlays'][number] | undefined =>
  overlays.find(({ name }) => name === `overlay-${label ?? ''}-${uuid ?? ''}`) ??
  (overlays.length === 1 ? overlays[0] : undefined)

/** True for a path with spaces where dracut takes none. */
const isSpaced = ({ name }: { readonly name: string }, liveDir: string, version: number): boolean =>
  version < SINCE.erofs && /\s/.test(`${liveDir}${name}`)

/**
 * The word for an overlay that every version from 059 on takes alike.
 *
 * WHY with its path: by it neither side effect of dracut 110 comes about, and a new label does not hide the overlay.
 *
 * @returns undefined where there is none, or a name with spaces for a dracut that can't take it
 */
const wordFor = (stick: OnStick, { liveDir: { value: liveDir }, version }: LiveSettings): string | undefined => {
  const overlay = overlayHere(stick)
  if (!overlay || (!stick.uuid && !stick.label)) return undefined
  if (isSpaced(overlay, liveDir, version)) return undefined
  const device = stick.uuid ? `UUID=${stick.uuid}` : `LABEL=${stick.label}`
  return `${device}:/${liveDir}/${overlay.name}`
}

/** Sets the overlay by its old name, which all versions know, and takes the new one out. */
const overlaySet = (list: readonly Argument[], value: string): ArgumentChange[] => [
  ...(list.some(({ name }) => name === 'rd.overlay') ? [{ remove: 'rd.overlay' }] : []),
  { set: 'rd.live.overlay', value },
]

/** WHY a label may be another one than the overlay was made for: FAT keeps eleven characters, in upper case. */
const labelWords = ({ overlays, label, uuid, type }: OnStick): string => {
  const named = overlays.map(({ name }) => name).join(', ')
  const cut = overlays.some(({ name }) => {
    const [, old] = /^overlay-(.*)-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}$/.exec(name) ?? []
    return old !== undefined && label !== undefined && old !== label && old.toUpperCase().slice(0, FAT_LABEL) === label
  })
  if (cut) return `; there is ${named}: FAT has cut its label to "${label}", ${FAT_LABEL} characters in upper case`
  if (overlays.length === 0) return ''
  const sameId = uuid !== undefined && overlays.some(({ name }) => name.endsWith(`-${uuid}`))
  return `; there is ${named}, made when the stick had another ${sameId ? 'label' : 'label or UUID'}${type === 'vfat' && sameId ? ' (FAT keeps 11 characters)' : ''}`
}

const notUsed = ({ list, settings, plan, facts }: PlannedEntry, stick: OnStick, found: PlanFinding): Reason => {
  const match = facts.overlay?.match
  const here = overlayHere(stick)
  const missing = !match?.device || facts.overlay?.found.kind === 'nothing'
  const byName = missing && plan.overlay.path !== undefined && match?.device !== undefined
  const word = here ? wordFor(stick, settings) : undefined
  const code = match?.byCase || !match?.device ? 'BOOT_OVERLAY_DEVICE' : 'BOOT_OVERLAY_NAME'
  const usable = word !== undefined && !match?.device?.readOnly && missing
  return {
    ...found,
    code: missing ? code : 'BOOT_OVERLAY_KIND',
    message: `${found.message}${byName ? labelWords(stick) : ''}`,
    ...(plan.overlay.path === undefined ? {} : { expected: plan.overlay.path }),
    ...(here ? { found: here.name } : {}),
    changes: usable ? overlaySet(list, word) : [],
  }
}

/** The changes that mend what a plan tells of; none where arguments can't. */
const changesFor = (found: PlanFinding, entry: PlannedEntry, stick: OnStick): readonly ArgumentChange[] => {
  const { list, settings } = entry
  const { argument } = found
  switch (found.code) {
    case 'LIVE_DEVICE_MISSING':
    case 'LIVE_DEVICE_CASE': {
      const device = stick.uuid ? `UUID=${stick.uuid}` : stick.label ? `LABEL=${stick.label}` : undefined
      return device ? [{ set: 'root', value: `live:${device}` }] : []
    }
    case 'OVERLAYFS_ON_TOP': {
      if (argument?.name !== 'rd.overlay') return [{ remove: 'rd.live.overlay.overlayfs' }]
      const word = settings.overlay.value.includes(':') ? settings.overlay.value : wordFor(stick, settings)
      return word ? overlaySet(list, word) : []
    }
    case 'STRAY_LINK': {
      const word = wordFor(stick, settings)
      return word ? overlaySet(list, word) : []
    }
    case 'READONLY_MISSPELLED':
      return [{ remove: argument?.name ?? 'rd.live.overlay.readonly' }, { set: 'rd.overlay.readonly' }]
    case 'NONE_NEEDS_RW':
      return [{ remove: 'ro' }, { set: 'rw' }]
    case 'HOME_WITHOUT_LIVE_IMAGE':
      return [{ set: 'rd.live.image' }]
    default:
      return []
  }
}

const misspellings = ({ list, settings }: PlannedEntry): Reason[] =>
  misspelled(list, settings.version).map(({ argument, known, instead, changes }) => ({
    code: 'BOOT_ARGUMENT_UNKNOWN',
    severity: 'warning',
    message: `the initrd is of dracut ${settings.version}, and ${argument.raw} is known to ${known}: it has no effect`,
    expected: instead,
    found: argument.name,
    argument,
    changes,
  }))

/** WHY only where an overlay waits: a stick without one is a live system as it was meant. */
const notAsked = ({ list, settings, plan }: PlannedEntry, stick: OnStick): Reason | undefined => {
  if (settings.overlay.value !== '' || plan.changes === 'kept' || plan.outcome === 'unknown') return undefined
  const word = wordFor(stick, settings)
  const here = overlayHere(stick)
  if (!here || list.some(({ name }) => name === 'rd.live.ram')) return undefined
  if (isSpaced(here, settings.liveDir.value, settings.version))
    return {
      code: 'BOOT_OVERLAY_NOT_ASKED',
      severity: 'warning',
      message: `no argument asks for the overlay ${here.name}, and dracut ${settings.version} takes no path with spaces, so a boot by this entry loses what is changed`,
      remedy: 'give overlay and stick names without spaces, or make the initrd by dracut 103 or later',
      argument: undefined,
      changes: [],
    }
  if (word === undefined) return undefined
  return {
    code: 'BOOT_OVERLAY_NOT_ASKED',
    severity: 'warning',
    message: `no argument asks for the overlay ${here.name}, so a boot by this entry loses what is changed`,
    expected: `rd.live.overlay=${word}`,
    argument: undefined,
    changes: [{ set: 'rd.live.overlay', value: word }],
  }
}

const asIntended = ({ settings, plan, facts }: PlannedEntry, stick: OnStick): Reason[] => {
  const told: Reason[] = []
  const say = (code: string, message: string, argument: Argument | undefined): void =>
    void told.push({ code, severity: 'note', message, argument, changes: [] })
  const { found } = facts.overlay ?? {}
  if (plan.overlay.used && found?.kind === 'file' && stick.type === 'vfat' && (found.size ?? 0) >= NEARLY_FAT_LIMIT)
    say(
      'BOOT_FAT_LIMIT',
      `${plan.overlay.path} is as large as a file on FAT can be, 4 GiB: it can't be enlarged there, only merged or moved to ext4`,
      settings.overlay.from,
    )
  if (plan.overlay.used && settings.readOnly.value)
    say(
      'BOOT_OVERLAY_READ_ONLY',
      'this entry only reads the overlay: new changes are lost at power-off',
      settings.readOnly.from,
    )
  if (plan.overlay.used && settings.reset.value)
    say('BOOT_OVERLAY_RESET', 'this entry empties the overlay at each start', settings.reset.from)
  if (isNone(settings.overlay.value) && plan.changes !== 'kept')
    say('BOOT_OVERLAY_NONE', 'this entry asks for no overlay', settings.overlay.from)
  return told
}

/**
 * Why a boot by an entry does not keep changes: all reasons that are known, each with what to change in its arguments.
 *
 * @param version  as it was planned
 */
export const persistenceReasons = (entry: PlannedEntry, stick: OnStick): readonly Reason[] => {
  const wrong = misspellings(entry)
  const own = entry.plan.findings.map(
    (found): Reason =>
      found.code === 'OVERLAY_NOT_USED'
        ? notUsed(entry, stick, found)
        : { ...found, changes: changesFor(found, entry, stick) },
  )
  // one that is asked for by a name that means nothing is asked for
  const unasked = wrong.some(({ expected }) => expected === 'rd.live.overlay') ? undefined : notAsked(entry, stick)
  return [...wrong, ...(unasked ? [unasked] : []), ...own, ...asIntended(entry, stick)]
}
