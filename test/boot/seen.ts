import type { MachineRun } from './machine.js'

/** A mount as findmnt tells it. */
export interface SeenMount {
  readonly target: string
  readonly source: string
  readonly fstype: string
  readonly options: string
}

/** What a booted system says of itself. */
export interface Seen {
  /** device-mapper tables by name, without the device's name before them */
  readonly tables: ReadonlyMap<string, string>
  readonly status: ReadonlyMap<string, string>
  readonly mounts: readonly SeenMount[]
  /** files behind loop devices, by the device's name */
  readonly loops: ReadonlyMap<string, { readonly file: string; readonly readOnly: boolean }>
  /** names of device-mapper's devices by their numbers */
  readonly devices: ReadonlyMap<string, string>
  readonly commandLine: string
}

const named = (text: string): Map<string, string> =>
  new Map(
    text
      .split('\n')
      .map(line => /^([^:\s]+): (.+)$/.exec(line))
      .filter(match => match !== null)
      .map(match => [match[1]!, match[2]!.trim()]),
  )

/** Reads what `report` of guest/report.sh left. */
export const seenBy = async ({ text }: MachineRun): Promise<Seen> => {
  const loops = (await text('loops'))
    .split('\n')
    .map(line => /^(\S+) ([01]) (.+)$/.exec(line))
    .filter(match => match !== null)
    .map(match => [match[1]!, { file: match[3]!, readOnly: match[2] === '1' }] as const)
  return {
    tables: named(await text('tables')),
    status: named(await text('status')),
    mounts: (JSON.parse(await text('mounts.json')) as { filesystems: SeenMount[] }).filesystems,
    loops: new Map(loops),
    devices: new Map(
      [...(await text('devices')).matchAll(/^(\S+)\s+\((\d+):\s*(\d+)\)/gm)].map(([, name, major, minor]) => [
        `${major}:${minor}`,
        name!,
      ]),
    ),
    commandLine: (await text('cmdline')).trim(),
  }
}

/** Mounts at a place, in the order they were made. */
export const mountsAt = ({ mounts }: Seen, target: string): readonly SeenMount[] =>
  mounts.filter(mount => mount.target === target)

/** The mount at a place; the last where several lie over one another. */
export const mountAt = ({ mounts }: Seen, target: string): SeenMount | undefined =>
  mounts.findLast(mount => mount.target === target)

/** A value of a mount's options. */
export const mountOption = (mount: SeenMount | undefined, name: string): string | undefined =>
  mount?.options
    .split(',')
    .find(option => option.startsWith(`${name}=`))
    ?.slice(name.length + 1)
