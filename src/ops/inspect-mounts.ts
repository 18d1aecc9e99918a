import { type BootEntry, missingFiles, notThere } from '../liveos/boot/config.js'
import { liveArguments } from '../liveos/boot/live-arguments.js'
import { type ChosenEntry, defaultEntries, type MenuEntry } from '../liveos/boot/menus.js'
import type { LiveFacts } from '../liveos/dracut/facts.js'
import { lookForLive } from '../liveos/dracut/look.js'
import { isNone, parseOverlayWord } from '../liveos/dracut/overlay-word.js'
import { type BootPlan, planBoot } from '../liveos/dracut/plan.js'
import { type LiveSettings, liveSettings } from '../liveos/dracut/settings.js'
import { NEWEST_READ, OLDEST_READ, SINCE } from '../liveos/dracut/version.js'
import type { LiveDirectory } from '../liveos/live-directory.js'
import type { Volume } from '../liveos/source.js'
import type { Target } from '../liveos/target.js'
import { bootVolumes } from './boot-volumes.js'

type Starting = Pick<ChosenEntry, 'entry' | 'starts'>

/** The entries that start a live directory by themselves, as `liveos boot-plan` has them, or the first one that starts it. */
const startingEntries = (entries: readonly MenuEntry[], dir: string): readonly Starting[] => {
  const isMine = ({ entry }: Pick<MenuEntry, 'entry'>): boolean =>
    entry.kind === 'live' && (liveArguments(entry).dir?.value ?? 'LiveOS') === (dir || '/')
  const chosen = defaultEntries({ entries }).filter(isMine)
  if (chosen.length > 0) return chosen
  const mine = entries.filter(isMine)
  const first = mine.find(({ entry }) => entry.isDefault) ?? mine[0]
  return first ? [{ entry: first.entry, starts: [] }] : []
}

/** A boot by one version's rules, and what it goes by. */
interface Decided {
  readonly version: number
  readonly settings: LiveSettings
  readonly facts: LiveFacts
  readonly plan: BootPlan
}

/** A version of each kind: the one that the initrd has is not looked at here, as that takes all of the initrd. */
const VERSIONS = [...new Set([OLDEST_READ, ...Object.values(SINCE), NEWEST_READ])].sort((a, b) => b - a)

/** What boots by an entry do, the newest version's first. */
const decided = async (entry: BootEntry, volumes: readonly Volume[]): Promise<readonly Decided[]> => {
  const looked = new Map<string, Promise<LiveFacts>>()
  const found: Decided[] = []
  for (const version of VERSIONS) {
    const settings = liveSettings(entry.arguments, version)
    const { root, liveDir, squashimg, isoScan } = settings
    const asked = parseOverlayWord(settings, { label: undefined, uuid: undefined })
    const key = JSON.stringify([root?.value, liveDir.value, squashimg.value, isoScan?.value, asked])
    const facts = await (looked.get(key) ?? lookForLive(volumes, settings))
    looked.set(key, Promise.resolve(facts))
    for (const systemd of [true, false])
      found.push({ version, settings, facts, plan: planBoot(settings, { modules: undefined, systemd }, facts) })
  }
  return found
}

const LOST = 'changes are lost at power-off'

/** What becomes of the root, in words. */
const rootWords = ({ plan, settings, facts }: Decided, entry: BootEntry, lower: string, isKept: boolean): string => {
  const { overlay, changes, outcome, findings } = plan
  const { title } = entry
  const missing = missingFiles(entry)
  if (missing.length > 0) return `nothing: a boot by the entry "${title}" fails: ${notThere(missing)}`
  if (outcome === 'waits')
    return `nothing: the entry "${title}" waits for ${settings.root?.value.raw ?? 'a root'}, on a device that is not here`
  if (outcome === 'fails')
    return `nothing: a boot by the entry "${title}" fails: ${findings.find(({ severity }) => severity === 'error')?.message ?? 'there is no root'}`
  if (outcome === 'unknown') return `${lower}; what the entry "${title}" makes of it is not known here`
  const copied = plan.memoryBytes > 0 ? `a copy in memory of ${lower}` : lower
  const temporary = `${copied} under a temporary overlay`
  if (isNone(settings.overlay.value) || settings.writableImage.value)
    return `${copied} without an overlay: ${changes === 'kept' ? 'changes are kept' : LOST}`
  if (!overlay.asked)
    return isKept
      ? `${temporary}: the entry "${title}" asks for no overlay, so the one here is not used`
      : `${temporary}: ${LOST}`
  if (!overlay.used) return `${temporary}: ${overlay.word} finds nothing here (${overlay.why}), so ${LOST}`
  const on = facts.overlay?.sameDevice || !facts.overlay?.match.device ? '' : ` on ${facts.overlay.match.device.name}`
  const upper = `${overlay.kind === 'overlayfs directory' ? 'the OverlayFS ' : ''}${overlay.path}${on}`
  if (changes === 'emptied') return `${copied} under ${upper}, which this entry empties at each start`
  if (changes === 'kept') return `${copied} under ${upper}: changes are kept`
  return overlay.readOnly
    ? `${copied} under ${upper}, which is only read: new ${LOST}`
    : `${copied} under ${upper}, which is not written to: ${LOST}`
}

/** What becomes of home.img, in words. */
const homeWords = ({ plan, facts }: Decided): string | undefined => {
  const said = plan.steps.find(({ rule }) => rule === 'home')
  if (!said) return undefined
  if (!plan.mounts.some(({ target }) => target === '/home')) return `nothing: ${said.text}`
  const name = facts.home?.path.slice(facts.home.path.lastIndexOf('/') + 1) ?? 'what persistenthome names'
  return `${name}${facts.livesys === undefined ? ', where the system has the livesys scripts' : ''}`
}

/** One answer where all versions give it, else the newest one's with what to ask. */
const agreed = (all: readonly Decided[], words: (one: Decided) => string | undefined): string | undefined => {
  const [newest] = all
  const said = newest && words(newest)
  const isSure = all.every(one => words(one) === said)
  return said === undefined || isSure
    ? said
    : `${said} (by dracut ${newest!.version}; liveos boot-plan looks which one is in the initrd, as others differ)`
}

/** What each start makes of a place: one line, or one a firmware where they differ. */
const linesOf = (place: string, told: readonly (readonly [Starting, string | undefined])[]): readonly string[] => {
  const isOne = new Set(told.map(([, words]) => words)).size === 1
  return (isOne ? told.slice(0, 1) : told).flatMap(([{ starts }, words]) =>
    words === undefined
      ? []
      : [`${place} ← ${words}${isOne ? '' : ` (started by ${starts.map(name => name.toUpperCase()).join(' and ')})`}`],
  )
}

/**
 * What a boot of a live directory mounts where, in words: by the arguments of the entries that start by themselves, and by what
 * is there; dracut's decision, as `liveos boot-plan` tells it.
 *
 * @param entries  of all menus of the source
 * @param volumes  all volumes of the source
 */
export const bootMounts = async (
  { name }: LiveDirectory,
  target: Target | undefined,
  entries: readonly MenuEntry[],
  volumes: readonly Volume[],
): Promise<readonly string[]> => {
  if (!target) return []
  const { base, overlay, overlayDirectory, home, medium } = target
  const starting = startingEntries(entries, name)
  const lower = base.name === 'squashfs.img' ? `the root in ${base.name}` : base.name
  const mounts = [`/run/initramfs/live ← ${medium.type}${medium.label ? ` "${medium.label}"` : ''}`]
  if (starting.length === 0) {
    mounts.push(`/ ← ${lower}; no boot entry here starts it`)
    if (home) mounts.push(`/home ← ${home.name}, where the system has the livesys scripts`)
    return mounts
  }
  const isKept = overlay !== undefined || overlayDirectory !== undefined
  const root: [Starting, string | undefined][] = []
  const homes: [Starting, string | undefined][] = []
  for (const found of starting) {
    const all = await decided(found.entry, bootVolumes({ volumes }))
    root.push([found, agreed(all, one => rootWords(one, found.entry, lower, isKept))])
    homes.push([found, agreed(all, homeWords)])
  }
  return [...mounts, ...linesOf('/', root), ...linesOf('/home', homes)]
}
