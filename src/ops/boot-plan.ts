import { LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import type { FileSystem } from '../fs/filesystem.js'
import { type Argument, parseArguments } from '../liveos/boot/arguments.js'
import { missingFiles } from '../liveos/boot/config.js'
import {
  type ChosenEntry,
  defaultEntries,
  type Firmware,
  type Menus,
  menusOf,
  namedEntry,
} from '../liveos/boot/menus.js'
import type { LiveFacts } from '../liveos/dracut/facts.js'
import { lookForLive } from '../liveos/dracut/look.js'
import { type BootPlan, planBoot, type Step } from '../liveos/dracut/plan.js'
import { type LiveSettings, liveSettings } from '../liveos/dracut/settings.js'
import { dracutNumber, NEWEST_READ, OLDEST_READ } from '../liveos/dracut/version.js'
import type { Initrd } from '../liveos/initrd/read.js'
import { volumesOf } from '../liveos/open-target.js'
import { openSource, type Volume } from '../liveos/source.js'
import { findRunning, type TargetInput } from '../liveos/target.js'
import { argumentPlaces, type BootPlace } from './boot-place.js'
import { type BootFiles, bootFiles } from './boot-plan-initrd.js'
import { bootVolumes } from './boot-volumes.js'

export type { BootPlan, Step } from '../liveos/dracut/plan.js'
export type { BootPlace } from './boot-place.js'

export interface BootPlanOptions {
  /** number, id or title of an entry; without it those that start by themselves */
  readonly entry?: string | undefined
  /** arguments that are added behind the entry's, as at the loader's prompt */
  readonly args?: string | undefined
  /** a version of dracut in place of the initrd's */
  readonly dracut?: number | undefined
}

/** A step, and the place in the boot configuration where its argument stands. */
export interface PlacedStep extends Omit<Step, 'argument'> {
  readonly argument: string | null
  readonly place: BootPlace | null
}

/** What an entry's initrd is. */
export interface PlannedInitrd {
  readonly paths: readonly string[]
  readonly maker: string | null
  readonly dracutVersion: string | null
  readonly modules: readonly string[] | null
  readonly kernelVersions: readonly string[]
  readonly systemd: boolean | null
  /** why it could not be read */
  readonly failure: string | null
}

/** A plan of one entry. Plain JSON. */
export interface EntryPlan {
  /** the firmware that comes to this entry */
  readonly firmware: readonly Firmware[]
  readonly menu: { readonly path: string; readonly kind: string; readonly partition: number | null } | null
  readonly entry: {
    readonly number: number | null
    readonly id: string
    readonly title: string
    readonly place: BootPlace
    /** what the menu starts by itself in its place */
    readonly insteadOf: string | null
  } | null
  readonly arguments: string
  readonly kernel: { readonly path: string; readonly version: string | null } | null
  readonly initrd: PlannedInitrd
  /** paths of kernel and initrds that are not there: the boot menu can't start it */
  readonly missing: readonly string[]
  /** true where the version is taken for granted: the rules are those of `plan.version` */
  readonly versionAssumed: boolean
  readonly plan: Omit<BootPlan, 'steps' | 'findings'>
  readonly steps: readonly PlacedStep[]
  readonly findings: readonly Finding[]
}

/** What `liveos boot-plan` tells. @see docs/schema/boot-plan.json */
export interface BootPlans {
  readonly verb: 'boot-plan'
  readonly target: string
  readonly plans: readonly EntryPlan[]
  readonly findings: readonly Finding[]
}

const NO_INITRD: PlannedInitrd = {
  paths: [],
  maker: null,
  dracutVersion: null,
  modules: null,
  kernelVersions: [],
  systemd: null,
  failure: null,
}

const initrdOf = (paths: readonly string[], found: Initrd | undefined, failure: string | undefined): PlannedInitrd => ({
  ...NO_INITRD,
  paths,
  failure: failure ?? null,
  ...(found && {
    maker: found.maker ?? null,
    dracutVersion: found.dracutVersion ?? null,
    modules: found.modules ?? null,
    kernelVersions: found.kernelVersions,
    systemd: found.systemd,
  }),
})

/** All that plans of one target share. */
export interface Planning {
  readonly volumes: readonly Volume[]
  readonly files: BootFiles
  readonly options: BootPlanOptions
}

const versionFindings = (version: number, assumed: boolean, where: string): Finding[] => {
  if (assumed)
    return [
      {
        code: 'DRACUT_VERSION_UNKNOWN',
        severity: 'note',
        where,
        message: `dracut's version is not known here: the rules of ${version} are taken; --dracut names another one`,
      },
    ]
  if (version >= OLDEST_READ && version <= NEWEST_READ) return []
  return [
    {
      code: 'DRACUT_VERSION_UNREAD',
      severity: 'note',
      where,
      message: `dracut ${version} is not among ${OLDEST_READ} to ${NEWEST_READ}, whose rules are known: it may decide otherwise`,
    },
  ]
}

/** A plan with what it was made of. */
export interface PlannedBoot {
  readonly shown: EntryPlan
  readonly list: readonly Argument[]
  readonly settings: LiveSettings
  readonly facts: LiveFacts
  readonly plan: BootPlan
  readonly initrd: Initrd | undefined
  readonly placeOf: (argument: Argument | undefined) => BootPlace | null
}

/** The plan of an entry, or of arguments alone. */
export const planEntry = async (
  { volumes, files, options }: Planning,
  chosen: ChosenEntry | undefined,
): Promise<PlannedBoot> => {
  const entry = chosen?.entry
  const found = chosen
    ? await files.initrd(chosen.volume, entry?.initrds.map(({ path }) => path) ?? [])
    : { paths: [], initrd: undefined, failure: undefined }
  const { initrd } = found
  const added = parseArguments(options.args ?? '')
  const builtIn = (initrd?.builtIn ?? []).flatMap(({ path, text }) =>
    parseArguments(text).map(argument => ({ argument, path })),
  )
  const given = [...(entry?.arguments ?? []), ...added]
  const list = [...builtIn.map(({ argument }) => argument), ...given]
  const own = options.dracut ?? dracutNumber(initrd?.dracutVersion)
  const version = own ?? NEWEST_READ
  const settings = liveSettings(list, version)
  const facts = await lookForLive(volumes, settings)
  const plan = planBoot(settings, { modules: initrd?.modules, systemd: initrd?.systemd ?? true }, facts)
  const placeOf = chosen
    ? await argumentPlaces(chosen.volume.fs as FileSystem, chosen.entry, chosen.config.entries)
    : () => undefined
  const where = chosen?.config.path ?? 'arguments'
  const placed = (argument: Argument | undefined): { argument: string | null; place: BootPlace | null } => {
    if (!argument) return { argument: null, place: null }
    const inside = builtIn.find(known => known.argument === argument)
    if (inside) return { argument: argument.raw, place: { path: inside.path, line: 1, inInitrd: true } }
    return { argument: argument.raw, place: added.includes(argument) ? null : (placeOf(argument) ?? null) }
  }
  const missing = entry ? missingFiles(entry) : []
  const isOther = initrd !== undefined && initrd.maker !== undefined && initrd.maker !== 'dracut'
  const { steps, findings, ...rest } = plan
  const shown: EntryPlan = {
    firmware: chosen?.starts ?? [],
    menu: chosen
      ? { path: chosen.config.path, kind: chosen.config.kind, partition: chosen.volume.partition?.number ?? null }
      : null,
    entry: chosen
      ? {
          number: chosen.number ?? null,
          id: chosen.entry.id,
          title: chosen.entry.title,
          place: placeOf(undefined)!,
          insteadOf: chosen.insteadOf ?? null,
        }
      : null,
    arguments: given.map(({ raw }) => raw).join(' '),
    kernel: entry?.kernel
      ? { path: entry.kernel.path, version: (await files.kernel(chosen!.volume, entry.kernel.path)) ?? null }
      : null,
    initrd: initrdOf(found.paths, initrd, found.failure),
    missing,
    versionAssumed: own === undefined,
    plan:
      missing.length > 0
        ? { ...rest, outcome: 'fails', changes: 'lost', kept: [], lost: [] }
        : isOther
          ? { ...rest, outcome: 'unknown' }
          : rest,
    steps: steps.map(({ argument, ...step }) => ({ ...step, ...placed(argument) })),
    findings: [
      ...(isOther ? [otherMaker(initrd, where)] : versionFindings(version, own === undefined, where)),
      ...(found.failure === undefined || !chosen ? [] : [initrdFailure(found.failure, where)]),
      ...findings.map(({ argument, ...finding }) => {
        const { place } = placed(argument)
        return { ...finding, where: place ? `${place.path}:${place.line}` : where }
      }),
    ],
  }
  return {
    shown,
    list,
    settings,
    facts,
    plan,
    initrd,
    placeOf: argument => placed(argument).place ?? placeOf(undefined) ?? null,
  }
}

const otherMaker = ({ maker, live, name }: Initrd, where: string): Finding => ({
  code: 'INITRD_NOT_DRACUT',
  severity: 'note',
  where,
  message: `${name} is made by ${maker}${live.length > 0 ? ` with ${live.join(', ')}` : ''}: what it does with these arguments is not known here`,
})

const initrdFailure = (message: string, where: string): Finding => ({
  code: 'INITRD_UNREAD',
  severity: 'warning',
  where,
  message: `the initrd is not known: ${message}`,
})

const chosenOf = (menus: Menus, options: BootPlanOptions, target: string): readonly (ChosenEntry | undefined)[] => {
  if (options.entry !== undefined) return [namedEntry(menus, options.entry, target)]
  const chosen = defaultEntries(menus)
  if (chosen.length > 0) return chosen
  if (/(^|\s)"?root=/.test(options.args ?? '')) return [undefined]
  throw new LiveError(
    'NOT_FOUND',
    `${target} has no boot entry that starts a live system: give the kernel's arguments, root=live:… among them, with --args`,
    { path: target },
  )
}

/** True where two plans are the same but for the menu they stand in. */
const isSame = (a: EntryPlan, b: EntryPlan): boolean =>
  a.arguments === b.arguments &&
  a.kernel?.version === b.kernel?.version &&
  JSON.stringify([a.plan, a.initrd.dracutVersion]) === JSON.stringify([b.plan, b.initrd.dracutVersion])

/**
 * Predicts what a boot of the target does: of the entries that start by themselves (one plan where BIOS and UEFI start the
 * same), or of one that is named. Only reads.
 *
 * @throws NOT_FOUND, USAGE  no such entry; READ_ONLY, IO  the target can't be opened
 */
export const bootPlans = async (input: TargetInput, options: BootPlanOptions = {}): Promise<BootPlans> => {
  const { dracut } = options
  if (dracut !== undefined && !(Number.isSafeInteger(dracut) && dracut > 0))
    throw new LiveError('USAGE', `${dracut} is no version of dracut: they are whole numbers, such as 59 or 107`)
  const source = await openSource(input.target ?? (await findRunning()))
  try {
    // an overlay may lie on any partition: --partition says where the live system is, and so which menus count
    const volumes = bootVolumes(source)
    const menus = await menusOf(volumesOf({ ...source, volumes }, input.partition), volumes)
    const planning: Planning = { volumes, files: bootFiles(volumes), options }
    const plans: EntryPlan[] = []
    for (const chosen of chosenOf(menus, options, source.name)) {
      const { shown: plan } = await planEntry(planning, chosen)
      const same = plans.findIndex(known => isSame(known, plan))
      if (same < 0) plans.push(plan)
      else plans[same] = { ...plans[same]!, firmware: [...plans[same]!.firmware, ...plan.firmware] }
    }
    return { verb: 'boot-plan', target: source.name, plans, findings: menus.findings }
  } finally {
    await source.close()
  }
}
