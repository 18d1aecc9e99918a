import type { Finding } from '../../finding.js'
import type { Argument } from '../boot/arguments.js'
import type { InitrdFacts } from '../initrd/facts.js'
import { autoOverlay } from './auto-overlay.js'
import { type BaseImage, baseImage } from './base-image.js'
import { deviceMapperRoot, type PlannedTable, unusedDevices } from './device-mapper-root.js'
import type { LiveFacts } from './facts.js'
import { homePlan } from './home.js'
import { liveDevice } from './live-device.js'
import { overlayChoice } from './overlay-choice.js'
import { overlayfsRoot, overlayOnTop } from './overlayfs-root.js'
import type { LiveSettings } from './settings.js'
import { writableImage } from './writable-image.js'

/** What becomes of a boot: `waits` for a device that is not there and ends in a shell, `unknown` where other programs decide. */
export type BootOutcome = 'boots' | 'fails' | 'waits' | 'unknown'

/** What becomes of changes of the root filesystem: `emptied` at the next start by the same entry. */
export type Changes = 'kept' | 'lost' | 'emptied'

/** A thing that a boot does, and what it rests on. */
export interface Step {
  /** name of the rule, such as `overlay path` */
  readonly rule: string
  /** a sentence for a person */
  readonly text: string
  /** the argument that decides it; undefined where a default or what is on the medium does */
  readonly argument: Argument | undefined
}

/** Something to know of a plan: as a finding, with the argument that it is about. */
export interface PlanFinding extends Omit<Finding, 'where'> {
  readonly argument: Argument | undefined
}

/** A filesystem that is mounted in the booted system. */
export interface PlannedMount {
  readonly source: string
  readonly target: string
  readonly type: string | undefined
  readonly options: string
}

/** How the root filesystem is made. */
export interface PlannedRoot {
  readonly kind: 'dm-snapshot' | 'dm-linear' | 'dm-thin' | 'overlayfs' | 'none'
  /** the image under it, by its path on the live medium */
  readonly image: string | undefined
  readonly layout: BaseImage['layout'] | undefined
  /** where changes go: a path on the overlay's device; undefined where they go to memory */
  readonly upper: string | undefined
}

/** The overlay that is asked for. */
export interface PlannedOverlay {
  readonly asked: boolean
  /** as it stands on the command line */
  readonly word: string | undefined
  readonly device: string | undefined
  /** path that is looked for on it */
  readonly path: string | undefined
  readonly kind: 'dm-snapshot' | 'overlayfs directory' | 'overlayfs image' | undefined
  readonly used: boolean
  readonly readOnly: boolean
  readonly reset: boolean
  /** why it is used, or why not */
  readonly why: string
}

/** What a boot by one command line does, as far as dracut decides it. Plain JSON. */
export interface BootPlan {
  readonly outcome: BootOutcome
  /** dracut's version, by whose rules this was planned */
  readonly version: number
  readonly changes: Changes
  readonly root: PlannedRoot
  readonly overlay: PlannedOverlay
  /** tables of device-mapper, in the order they are made; devices by what they hold: base, overlay, temporary */
  readonly tables: readonly PlannedTable[]
  readonly mounts: readonly PlannedMount[]
  /** questions at which the boot waits for somebody */
  readonly prompts: readonly string[]
  /** bytes of memory that copies of images need beside what the system needs */
  readonly memoryBytes: number
  readonly kept: readonly string[]
  readonly lost: readonly string[]
  readonly steps: readonly Step[]
  readonly findings: readonly PlanFinding[]
}

/** What an initrd must tell for a plan. */
export type PlanInitrd = Pick<InitrdFacts, 'modules' | 'systemd'>

/** A plan while it is put together by the rules, in the order of the scripts. */
export interface Drafting {
  readonly settings: LiveSettings
  readonly initrd: PlanInitrd
  readonly facts: LiveFacts
  readonly steps: Step[]
  readonly findings: PlanFinding[]
  readonly tables: PlannedTable[]
  readonly mounts: PlannedMount[]
  readonly prompts: string[]
  /** as dracut's variable: not wanted, wanted, or the only way */
  overlayfs: '' | 'yes' | 'required'
  /** as dracut's variable: still to be found, a writable image without overlay, or done */
  setup: '' | 'rw' | 'yes'
  outcome: BootOutcome
  changes: Changes
  memoryBytes: number
  say(rule: string, text: string, argument?: Argument): void
  tell(
    code: string,
    severity: Finding['severity'],
    message: string,
    argument?: Argument,
    more?: Pick<Finding, 'expected' | 'found' | 'remedy'>,
  ): void
  /** The boot ends here; the first reason counts. */
  stop(
    outcome: 'fails' | 'waits' | 'unknown',
    code: string,
    message: string,
    argument?: Argument,
    remedy?: string,
  ): void
}

const draft = (settings: LiveSettings, initrd: PlanInitrd, facts: LiveFacts): Drafting => {
  const at: Drafting = {
    settings,
    initrd,
    facts,
    steps: [],
    findings: [],
    tables: [],
    mounts: [],
    prompts: [],
    overlayfs: settings.overlayfs.value ? 'yes' : '',
    setup: '',
    outcome: 'boots',
    changes: 'lost',
    memoryBytes: 0,
    say: (rule, text, argument) => void at.steps.push({ rule, text, argument }),
    tell: (code, severity, message, argument, more = {}) =>
      void at.findings.push({ code, severity, message, argument, ...more }),
    stop(outcome, code, message, argument, remedy) {
      at.tell(code, outcome === 'unknown' ? 'note' : 'error', message, argument, remedy === undefined ? {} : { remedy })
      at.say('end', message, argument)
      if (at.outcome === 'boots') at.outcome = outcome
    },
  }
  return at
}

const NO_ROOT: PlannedRoot = { kind: 'none', image: undefined, layout: undefined, upper: undefined }

const overlayOf = (at: Drafting): PlannedOverlay => ({
  asked: at.settings.overlay.value !== '',
  word: at.settings.overlay.from?.raw,
  device: undefined,
  path: undefined,
  kind: undefined,
  used: false,
  readOnly: at.settings.readOnly.value,
  reset: at.settings.reset.value,
  why: at.settings.overlay.value === '' ? 'no argument asks for one' : 'the boot does not get so far',
})

const finish = (at: Drafting, root: PlannedRoot, overlay: PlannedOverlay): BootPlan => {
  const boots = at.outcome === 'boots'
  const home = boots ? homePlan(at) : { kept: [], lost: [] }
  const where = root.upper === undefined ? '' : ` (in ${root.upper})`
  const rootWords = 'what is changed in the root filesystem'
  const kept = boots && at.changes === 'kept' ? [`${rootWords}${where}`] : []
  const lost =
    !boots || at.changes === 'kept'
      ? []
      : [at.changes === 'lost' ? rootWords : `${rootWords}${where}: the next start by this entry empties it`]
  return {
    outcome: at.outcome,
    version: at.settings.version,
    changes: boots ? at.changes : 'lost',
    root,
    overlay,
    tables: at.tables,
    mounts: at.mounts,
    prompts: at.prompts,
    memoryBytes: at.memoryBytes,
    kept: [...kept, ...home.kept],
    lost: [...lost, ...home.lost],
    steps: at.steps,
    findings: at.findings,
  }
}

/**
 * What dracut does with a command line and what is on the devices: its decision, rule by rule in the order of its scripts.
 *
 * @param settings  by `liveSettings` for the initrd's version
 * @param facts     what was found by looking where these settings look
 * @see dracut modules.d/70dmsquash-live/dmsquash-live-root.sh, modules.d/70overlayfs
 */
export const planBoot = (settings: LiveSettings, initrd: PlanInitrd, facts: LiveFacts): BootPlan => {
  const at = draft(settings, initrd, facts)
  if (!liveDevice(at)) return finish(at, NO_ROOT, overlayOf(at))
  autoOverlay(at)
  const base = baseImage(at)
  if (at.outcome !== 'boots' || !base) return finish(at, NO_ROOT, overlayOf(at))
  const image = { image: base.path, layout: base.layout }
  if (base.layout === 'flat' && at.overlayfs !== 'required') {
    at.overlayfs = 'required'
    at.say('flat image', `${base.path} is the root filesystem itself, so only an OverlayFS can lie over it`)
  }
  const plain = writableImage(at, base)
  const choice = overlayChoice(at, base)
  const overlay: PlannedOverlay = { ...overlayOf(at), ...choice.shown }
  if (choice.kind === 'dm-snapshot' && base.layout === 'flat') {
    at.stop(
      'fails',
      'DRACUT_FLAT_WITH_SNAPSHOT',
      `${overlay.path} is an overlay of device-mapper, which needs an image of a filesystem under it, but ${base.path} is flat: the boot ends without a root`,
      settings.overlay.from,
      'use an OverlayFS: a directory or an image of a filesystem',
    )
    return finish(at, { ...NO_ROOT, ...image }, overlay)
  }
  if (at.overlayfs !== '') {
    unusedDevices(at, base)
    const upper = overlayfsRoot(at, base, choice)
    return finish(at, { kind: 'overlayfs', ...image, upper }, overlay)
  }
  const made = deviceMapperRoot(at, base, plain, choice)
  const onTop = overlayOnTop(at, choice)
  const root: PlannedRoot = onTop
    ? { kind: 'overlayfs', ...image, upper: onTop.upper }
    : { kind: made.kind, ...image, upper: made.upper }
  return finish(at, root, overlay)
}
