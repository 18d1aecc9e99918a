import type { BootConfig, BootEntry } from '../liveos/boot/config.js'
import { liveArguments } from '../liveos/boot/live-arguments.js'
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

/** The live entry of a live directory that starts by itself, or the first one there is. */
export const liveEntry = (configs: readonly BootConfig[], dir: string): BootEntry | undefined => {
  const entries = configs.flatMap(config => config.entries).filter(({ kind }) => kind === 'live')
  const mine = entries.filter(entry => (liveArguments(entry).dir?.value ?? 'LiveOS') === (dir || '/'))
  return mine.find(({ isDefault }) => isDefault) ?? mine[0]
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
const rootWords = (
  { plan, settings, facts }: Decided,
  { title }: BootEntry,
  lower: string,
  isKept: boolean,
): string => {
  const { overlay, changes, outcome, findings } = plan
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

/**
 * What a boot of a live directory mounts where, in words: by the arguments of the entry that starts by itself, and by what is
 * there; dracut's decision, as `liveos boot-plan` tells it.
 *
 * @param volumes  all volumes of the source
 */
export const bootMounts = async (
  { name }: LiveDirectory,
  target: Target | undefined,
  configs: readonly BootConfig[],
  volumes: readonly Volume[],
): Promise<readonly string[]> => {
  if (!target) return []
  const { base, overlay, overlayDirectory, home, medium } = target
  const entry = liveEntry(configs, name)
  const lower = base.name === 'squashfs.img' ? `the root in ${base.name}` : base.name
  const mounts = [`/run/initramfs/live ← ${medium.type}${medium.label ? ` "${medium.label}"` : ''}`]
  if (!entry) {
    mounts.push(`/ ← ${lower}; no boot entry here starts it`)
    if (home) mounts.push(`/home ← ${home.name}, where the system has the livesys scripts`)
    return mounts
  }
  const isKept = overlay !== undefined || overlayDirectory !== undefined
  const all = await decided(entry, bootVolumes({ volumes }))
  mounts.push(`/ ← ${agreed(all, one => rootWords(one, entry, lower, isKept))}`)
  const said = agreed(all, homeWords)
  if (said !== undefined) mounts.push(`/home ← ${said}`)
  return mounts
}
