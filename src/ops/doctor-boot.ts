import { shownName } from '../block/http/shown.js'
import { isHttpUrl } from '../block/http.js'
import { isLiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { marked, pathWord } from '../liveos/advice.js'
import type { ArgumentChange } from '../liveos/boot/arguments.js'
import { type BootConfig, type BootEntry, notThere } from '../liveos/boot/config.js'
import { follow } from '../liveos/boot/follow.js'
import { type ChosenEntry, defaultEntries, type Firmware, type MenuEntry, menusOf } from '../liveos/boot/menus.js'
import { editEntry } from '../liveos/persistence/edit-entry.js'
import { type OnStick, persistenceReasons, type Reason } from '../liveos/persistence/reasons.js'
import { unifiedDiff } from '../liveos/persistence/unified-diff.js'
import { openSource, type Source, type Volume } from '../liveos/source.js'
import { findRunning, type TargetInput } from '../liveos/target.js'
import { cutFixes, type Mended } from './boot-fix-cut.js'
import { isOn, untilMended, withText } from './boot-fix-passes.js'
import { configText } from './boot-place.js'
import { type PlannedBoot, type Planning, planEntry } from './boot-plan.js'
import { type BootFiles, bootFiles } from './boot-plan-initrd.js'
import { bootVolumes } from './boot-volumes.js'
import { checkSameNames } from './doctor-names.js'
import type { Tell } from './doctor-overlay.js'

/** A boot configuration with what is to be changed in it. Plain JSON, texts of one character a byte. */
export interface BootFix {
  /** in the filesystem of its partition, in the spelling of the medium */
  readonly path: string
  readonly partition: number | null
  /** as `diff -u` prints it */
  readonly diff: string
  readonly before: string
  readonly after: string
  /** text of the `.old` beside it that a change before this one left, and that only has to go */
  readonly leftover?: string
}

/** What was found about the boots of a stick. */
export interface BootCheckup {
  readonly fixes: readonly BootFix[]
  /** names of overlays that a boot entry uses, wherever they lie */
  readonly usedOverlays: readonly string[]
  /** codes of what was told */
  readonly codes: readonly string[]
}

const MAX_ENTRIES = 64
const NOTHING: BootCheckup = { fixes: [], usedOverlays: [], codes: [] }

/** A reason with the entries that it is one of. */
interface Told {
  readonly reason: Reason
  readonly where: string
  entries: { readonly found: MenuEntry; readonly isDefault: boolean }[]
}

const onStick = async (volume: Volume | undefined, boot: PlannedBoot): Promise<OnStick> => {
  const device = boot.facts.live.device
  const fs = volume?.fs
  const path = `/${boot.settings.liveDir.value}`
  const overlays: { name: string; kind: 'file' | 'directory' }[] = []
  try {
    const entries = fs ? await fs.list((await follow(fs, path))?.path ?? path) : []
    for (const { name, kind } of [...entries].sort((a, b) => (a.name < b.name ? -1 : 1)))
      if (
        /^overlay-/.test(name) &&
        !/\.(new|old|refresh|reset|undo)$/.test(name) &&
        (kind === 'file' || kind === 'directory')
      )
        overlays.push({ name, kind })
  } catch (error) {
    if (!isLiveError(error) || error.code === 'CANCELLED') throw error
  }
  return {
    overlays,
    label: device?.label ?? fs?.label,
    uuid: device?.uuid ?? fs?.uuid,
    type: device?.type ?? fs?.type,
  }
}

/** The volume that holds the live directory of an entry. */
const holderOf = async (volumes: readonly Volume[], { settings }: PlannedBoot): Promise<Volume | undefined> => {
  for (const volume of volumes)
    for (const name of [settings.squashimg.value, 'rootfs.img'])
      if (volume.fs) {
        const found = await follow(volume.fs, `/${settings.liveDir.value}/${name}`).catch(() => undefined)
        if (found?.stat.kind === 'file') return volume
      }
  return undefined
}

/** Kernel and initrd of an entry that are of two versions: the modules of the one do not load into the other. */
const versionReason = ({ shown }: PlannedBoot): Reason | undefined => {
  const { kernel, initrd } = shown
  if (!kernel?.version || initrd.kernelVersions.length === 0 || initrd.kernelVersions.includes(kernel.version))
    return undefined
  return {
    code: 'BOOT_KERNEL_INITRD',
    severity: 'error',
    message: `the kernel ${kernel.path} is ${kernel.version}, and the initrd ${initrd.paths.join(', ')} has modules of ${initrd.kernelVersions.join(', ')}: without them it finds no stick`,
    expected: kernel.version,
    found: initrd.kernelVersions.join(', '),
    remedy: 'put kernel and initrd of one version there',
    argument: undefined,
    changes: [],
  }
}

/** An entry whose kernel or initrd has gone starts nothing. */
const missingReason = ({ shown: { missing } }: PlannedBoot): Reason | undefined =>
  missing.length === 0
    ? undefined
    : {
        code: 'BOOT_FILES_MISSING',
        severity: 'error',
        message: `this boot fails: ${notThere(missing)}`,
        remedy: 'copy the boot files to the stick again from where they came, or put a backup of them back',
        argument: undefined,
        changes: [],
      }

/** An initrd that can't be read is no reason by itself, but what rests on it is not looked at then. */
const initrdReason = ({ shown }: PlannedBoot): Reason | undefined =>
  shown.initrd.failure === null || shown.missing.length > 0
    ? undefined
    : {
        code: 'INITRD_UNREAD',
        severity: 'note',
        message: `the initrd is not known, so what its version means is not looked at: ${shown.initrd.failure}`,
        argument: undefined,
        changes: [],
      }

/** Findings that boot-plan has of its own business and doctor has elsewhere. */
const OWN: readonly string[] = ['IMAGE_NOT_READ', 'OVERLAY_INVALID', 'SIZE_WITHOUT_EFFECT', 'NOT_LIVE']

/** What rests on dracut's version, and is not told where that is only taken for granted. */
const BY_VERSION: readonly string[] = [
  'BOOT_ARGUMENT_UNKNOWN',
  'DRACUT_TOO_OLD',
  'IMAGE_WITHOUT_ROOT',
  'OVERLAYFS_ON_TOP',
  'OVERLAYFS_UNPREPARED',
  'READONLY_MISSPELLED',
  'STRAY_LINK',
]

const reasonsOf = (boot: PlannedBoot, stick: OnStick): Reason[] => {
  const gone = missingReason(boot)
  if (boot.initrd?.maker !== undefined && boot.initrd.maker !== 'dracut') return gone ? [gone] : []
  const own = [gone, versionReason(boot), initrdReason(boot)].filter(reason => reason !== undefined)
  const left = boot.shown.versionAssumed ? [...OWN, ...BY_VERSION] : OWN
  return [...own, ...persistenceReasons(boot, stick).filter(({ code }) => !left.includes(code))]
}

/** What an entry that somebody has to choose says of itself. */
const CHOSEN: readonly string[] = ['BOOT_OVERLAY_READ_ONLY', 'BOOT_OVERLAY_RESET', 'BOOT_OVERLAY_NONE']

/** An entry beside one that keeps changes is mostly meant to keep none, such as a test of the medium. */
const isMeant = ({ code }: Reason, found: MenuEntry, isDefault: boolean, asking: ReadonlySet<BootConfig>): boolean =>
  !isDefault && (CHOSEN.includes(code) || (code === 'BOOT_OVERLAY_NOT_ASKED' && asking.has(found.config)))

const NAMES: Readonly<Record<Firmware, string>> = { bios: 'BIOS', uefi: 'UEFI' }

/** Says where one menu asks for the overlay and the other does not. */
const menuWords = ({ reason, entries }: Told, kept: ReadonlySet<Firmware>): string => {
  if (reason.code !== 'BOOT_OVERLAY_NOT_ASKED') return ''
  const own = new Set(
    entries.flatMap(({ found }) => (found.config.firmware === 'both' ? ['bios', 'uefi'] : [found.config.firmware])),
  )
  const other = [...kept].filter(firmware => !own.has(firmware))
  return other.length === 1 && own.size === 1
    ? ` (the ${NAMES[other[0]!]} menu does ask for it, this is the ${NAMES[[...own][0] as Firmware]} menu)`
    : ''
}

/** @param fix  what there is to say about the diff; undefined where there is none */
const tellOf = (told: Told, kept: ReadonlySet<Firmware>, fix: string | undefined, tell: Tell): void => {
  const { reason, where, entries } = told
  const { argument: _, changes, code, severity, message, remedy, ...more } = reason
  const [first] = entries
  const others = entries.length > 1 ? ` (and ${entries.length - 1} more)` : ''
  const diff = changes.length > 0 ? fix : undefined
  tell(
    code,
    severity,
    where,
    `${where}, entry "${first!.found.entry.title}"${others}: ${message}${menuWords(told, kept)}`,
    {
      ...more,
      ...(diff ? { remedy: diff } : remedy === undefined ? {} : { remedy }),
    },
  )
}

/** Changes of entries, put together by file. */
interface Edits {
  readonly volume: Volume
  readonly path: string
  readonly kind: BootConfig['kind']
  readonly entries: Map<BootEntry, ArgumentChange[]>
}

const fixOf = async ({ volume, path, kind, entries }: Edits, tell: Tell): Promise<BootFix | undefined> => {
  const found = await follow(volume.fs!, path)
  const before = found && (await configText(volume.fs!, found.path))
  if (!found || before === undefined) return undefined
  let after = before
  // from the last entry to the first, so that none is moved before its turn
  for (const [entry, changes] of [...entries].sort(([a], [b]) => b.place.offset - a.place.offset))
    try {
      after = editEntry(kind, after, entry, changes)
    } catch (error) {
      if (!isLiveError(error)) throw error
      tell('BOOT_NOT_FIXABLE', 'note', path, `${path}: ${error.message}`)
    }
  if (after === before) return undefined
  return {
    path: found.path,
    partition: volume.partition?.number ?? null,
    diff: unifiedDiff(found.path, before, after),
    before,
    after,
  }
}

const look = async (source: Source, tell: Tell): Promise<BootCheckup> => {
  const volumes = bootVolumes(source)
  const files = bootFiles(volumes)
  const lookHere = (at: readonly Volume[], say: Tell) => lookAt(source, at, files, say)
  const cut: BootFix[] = []
  for (const volume of volumes) {
    const mended: Mended = async (path, text) => {
      const others = volumes.map(other => (other === volume ? withText(volume, path, text) : other))
      const { fixes } = await untilMended(others, () => undefined, lookHere)
      return fixes.find(fix => fix.path === path && isOn(volume, fix))?.after
    }
    cut.push(...(await cutFixes(volume, mended, tell)))
  }
  const found = await untilMended(volumes, tell, lookHere)
  return { ...found, fixes: [...cut, ...found.fixes] }
}

const lookAt = async (
  source: Source,
  volumes: readonly Volume[],
  files: BootFiles,
  tell: Tell,
): Promise<BootCheckup> => {
  const menus = await menusOf(volumes)
  const live = menus.entries.filter(({ entry }) => entry.kind === 'live')
  const fixes: BootFix[] = []
  if (live.length === 0) return NOTHING
  const planning: Planning = { volumes, files, options: {} }
  const defaults = defaultEntries(menus)
  const startsOf = (found: MenuEntry): ChosenEntry => ({
    ...found,
    starts: defaults.find(({ entry }) => entry === found.entry)?.starts ?? [],
    insteadOf: undefined,
  })
  const told = new Map<string, Told>()
  const edits = new Map<string, Edits>()
  const used = new Set<string>()
  const kept = new Set<Firmware>()
  const asking = new Set<BootConfig>()
  const planned: { chosen: ChosenEntry; boot: PlannedBoot }[] = []
  for (const found of live.slice(0, MAX_ENTRIES)) {
    const chosen = startsOf(found)
    const boot = await planEntry(planning, chosen)
    planned.push({ chosen, boot })
    const { overlay } = boot.plan
    if (overlay.used && overlay.path !== undefined) used.add(overlay.path.slice(overlay.path.lastIndexOf('/') + 1))
    if (overlay.asked) asking.add(found.config)
    if (overlay.asked) for (const firmware of chosen.starts) kept.add(firmware)
  }
  if (live.length > MAX_ENTRIES)
    tell(
      'BOOT_TOO_MUCH',
      'note',
      source.name,
      `only the first ${MAX_ENTRIES} of ${live.length} live entries were looked at`,
    )
  for (const { chosen, boot } of planned) {
    const stick = await onStick(await holderOf(volumes, boot), boot)
    const isDefault = chosen.starts.length > 0
    for (const reason of reasonsOf(boot, stick)) {
      if (isMeant(reason, chosen, isDefault, asking)) continue
      const place = boot.placeOf(reason.argument)
      const where = place ? `${place.path}:${place.line}` : chosen.config.path
      const key = [chosen.volume.name, chosen.entry.place.path, reason.code, reason.message].join('\n')
      const known = told.get(key)
      if (known) known.entries.push({ found: chosen, isDefault })
      else told.set(key, { reason, where, entries: [{ found: chosen, isDefault }] })
      if (reason.changes.length === 0) continue
      const file = [chosen.volume.name, chosen.entry.place.path].join('\n')
      const edit = edits.get(file) ?? {
        volume: chosen.volume,
        path: chosen.entry.place.path,
        kind: chosen.config.kind,
        entries: new Map<BootEntry, ArgumentChange[]>(),
      }
      edits.set(file, edit)
      edit.entries.set(chosen.entry, [...(edit.entries.get(chosen.entry) ?? []), ...reason.changes])
    }
  }
  for (const edit of edits.values()) {
    const fix = await fixOf(edit, tell)
    if (fix) fixes.push(fix)
  }
  const fixWords =
    source.kind === 'directory'
      ? 'see the diff, which --fix applies'
      : 'see the diff, which liveos doctor DIR --fix applies with the stick mounted at DIR'
  for (const one of told.values()) {
    const path = one.entries[0]!.found.entry.place.path
    const isFixed = edits.size > 0 && fixes.some(fix => fix.path.toLowerCase() === path.toLowerCase())
    tellOf(one, kept, isFixed ? fixWords : undefined, tell)
  }
  return { fixes, usedOverlays: [...used], codes: [...told.values()].map(({ reason }) => reason.code) }
}

/**
 * Looks why a boot of the target does not keep what is changed: each live entry is planned with its initrd, and every reason is
 * told with the line it stands in. Only reads.
 *
 * @returns what to change in the boot configurations
 * @throws IO, CANCELLED
 */
export const checkBoot = async (input: TargetInput, tell: Tell): Promise<BootCheckup> => {
  if (input.base !== undefined) return NOTHING
  const name = input.target ?? (await findRunning())
  if (isHttpUrl(name)) {
    tell(
      'BOOT_NOT_CHECKED',
      'note',
      shownName(name),
      `how it boots was not looked at: that takes its whole initrd; ${marked(`liveos boot-plan ${pathWord(name)}`)} does it`,
    )
    return NOTHING
  }
  const source = await openSource(name)
  try {
    await checkSameNames(source, tell)
    return await look(source, tell)
  } finally {
    await source.close()
  }
}

/** Findings that were told before by what is on the stick alone, less those that the boot entries tell better. */
export const withoutDoubles = (
  findings: readonly Finding[],
  { usedOverlays, codes }: BootCheckup,
): readonly Finding[] =>
  findings.filter(
    ({ code, found }) =>
      code !== 'OVERLAY_ORPHANED' ||
      !(
        usedOverlays.includes(String(found)) ||
        codes.includes('BOOT_OVERLAY_NAME') ||
        codes.includes('BOOT_OVERLAY_DEVICE')
      ),
  )
