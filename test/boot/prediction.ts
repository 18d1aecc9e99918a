import { type BootPlan, bootPlans } from '../../src/ops/boot-plan.js'
import { mountsAt, type Seen } from './seen.js'

/** A prediction, without how it came about. */
export type Predicted = Omit<BootPlan, 'steps' | 'findings'>

/** What `liveos boot-plan` says of an entry, or of what the menu of a firmware starts by itself. */
export const predict = async (
  target: string,
  {
    entry,
    args,
    firmware = 'bios',
  }: {
    readonly entry?: number | undefined
    readonly args?: string | undefined
    readonly firmware?: 'bios' | 'uefi' | undefined
  },
): Promise<Predicted> => {
  const { plans } = await bootPlans({ target }, { entry: entry === undefined ? undefined : String(entry), args })
  const found = entry === undefined ? plans.find(plan => plan.firmware.includes(firmware)) : plans[0]
  if (!found) throw new Error(`boot-plan tells of nothing that ${firmware} starts on ${target}`)
  return found.plan
}

/** A table with its devices named by what they hold, as predictions name them. */
const rolesIn = (table: string, { loops, devices }: Seen): string =>
  table.replace(/\b(\d+):(\d+)\b/g, (number, major: string, minor: string) => {
    const name = devices.get(number)
    if (name !== undefined) return name
    const file = major === '7' ? loops.get(`/dev/loop${minor}`)?.file : undefined
    if (file === undefined) return number
    if (/(rootfs|squashfs)\.img$/.test(file)) return 'base'
    return /\/overlay-[^/]*$/.test(file) ? 'overlay' : 'temporary'
  })

const tableDifferences = ({ tables }: Predicted, seen: Seen): string[] => {
  const found: string[] = []
  for (const { name, table } of tables) {
    const own = seen.tables.get(name)
    const shown = own === undefined ? 'none' : rolesIn(own, seen)
    const wanted = table.replaceAll('/dev/mapper/', '')
    if (shown !== wanted) found.push(`table ${name}: told ${wanted}, is ${shown}`)
  }
  for (const name of seen.tables.keys())
    if (!tables.some(table => table.name === name))
      found.push(`table ${name}: not told, is ${rolesIn(seen.tables.get(name)!, seen)}`)
  return found
}

/** A source that findmnt shows as it was given. */
const PLAIN = /^(\/dev\/mapper\/|LiveOS_rootfs$)/

const mountDifferences = ({ mounts }: Predicted, seen: Seen): string[] => {
  const found: string[] = []
  for (const [index, { source, target, type, options }] of mounts.entries()) {
    // What another is mounted over is not seen there.
    if (mounts.slice(index + 1).some(later => later.target === target)) continue
    const there = mountsAt(seen, target)
    const fits = there.some(
      mount =>
        (type === undefined || mount.fstype === type) &&
        (!PLAIN.test(source) || mount.source === source) &&
        options.split(',').every(option => option === '' || mount.options.split(',').includes(option)),
    )
    if (!fits)
      found.push(
        `mount ${target}: told ${[source, type, options].filter(Boolean).join(' ')}, is ${there.map(mount => `${mount.source} ${mount.fstype} ${mount.options}`).join('; ') || 'none'}`,
      )
  }
  return found
}

/** How a booted system differs from what was told of it, a sentence each. `changes` is what later boots have shown. */
export const differences = (plan: Predicted, seen: Seen, changes: Predicted['changes']): string[] => [
  ...(plan.outcome === 'boots' ? [] : [`outcome: told ${plan.outcome}, it boots`]),
  ...(plan.changes === changes ? [] : [`changes: told ${plan.changes}, are ${changes}`]),
  ...tableDifferences(plan, seen),
  ...mountDifferences(plan, seen),
]
