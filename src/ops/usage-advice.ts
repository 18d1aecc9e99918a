import { isLiveError } from '../error.js'
import type { FileSystem, Stat } from '../fs/filesystem.js'
import type { OwnerUsage } from '../liveos/usage/usage.js'

/** A folder that would be worth keeping out of the overlay. */
export interface Advice {
  readonly path: string
  /** bytes of the overlay that it takes now */
  readonly bytes: number
  readonly means: 'tmpfs' | 'home image'
  /** line for /etc/fstab of the live system; null where none is needed */
  readonly fstab: string | null
  /** what it costs */
  readonly loses: string
}

interface KnownFolder {
  readonly path: string
  /** where the folder can't be asked */
  readonly mode: number
  readonly loses: string
}

const DOWNLOADS = 'packages and lists are downloaded again when they are needed'
const SERVICES = 'folders that services expect in it have to be made at each boot (systemd-tmpfiles makes most)'

/** Folders that a live system writes to all the time, and where little is lost when they begin empty at each boot. */
const FOLDERS: readonly KnownFolder[] = [
  { path: '/var/log/audit', mode: 0o700, loses: 'the audit log of earlier boots' },
  { path: '/var/log/journal', mode: 0o2755, loses: 'the journal of earlier boots' },
  { path: '/var/log', mode: 0o755, loses: `logs of earlier boots; ${SERVICES}` },
  { path: '/var/spool/abrt', mode: 0o751, loses: 'crash reports of earlier boots' },
  { path: '/var/cache/dnf', mode: 0o755, loses: DOWNLOADS },
  { path: '/var/cache/libdnf5', mode: 0o755, loses: DOWNLOADS },
  { path: '/var/cache/PackageKit', mode: 0o755, loses: DOWNLOADS },
  { path: '/var/cache/yum', mode: 0o755, loses: DOWNLOADS },
  { path: '/var/cache/apt', mode: 0o755, loses: DOWNLOADS },
  { path: '/var/cache', mode: 0o755, loses: `what programs have worked out before; ${SERVICES}` },
  { path: '/var/lib/NetworkManager', mode: 0o700, loses: 'leases and when each network was last used' },
  { path: '/tmp', mode: 0o1777, loses: 'nothing that is meant to stay' },
  { path: '/var/tmp', mode: 0o1777, loses: 'files that programs expect to outlive a boot' },
]
const USER_CACHE = /^(\/home\/[^/]+\/\.cache|\/root\/\.cache)\//
const LEAST_BYTES = 1 << 20
const LEAST_SHARE = 0.01
const MIB = 1 << 20
/** bytes: a tmpfs is a limit, not a reservation, but a live system has no more memory than others */
const [LEAST_TMPFS, MOST_TMPFS] = [16 * MIB, 512 * MIB]

/** Twice what is there now, as a power of two, within bounds. */
const tmpfsSize = (bytes: number): string =>
  `${2 ** Math.ceil(Math.log2(Math.min(Math.max(bytes * 2, LEAST_TMPFS), MOST_TMPFS) / MIB))}m`

/** Blanks and backslashes of a path as fstab wants them. @see fstab(5) */
const fstabPath = (path: string): string =>
  path.replace(/[ \t\n\\#]/g, char => `\\${char.charCodeAt(0).toString(8).padStart(3, '0')}`)

const fstabLine = (path: string, bytes: number, mode: number, stat: Stat | undefined): string => {
  const owner = stat && (stat.uid !== 0 || stat.gid !== 0) ? `,uid=${stat.uid},gid=${stat.gid}` : ''
  const bits = (stat?.mode ?? mode).toString(8).padStart(4, '0')
  return `tmpfs ${fstabPath(path)} tmpfs size=${tmpfsSize(bytes)},mode=${bits}${owner},nosuid,nodev 0 0`
}

/** The most specific known folder that a path lies in. */
const folderOf = (path: string): KnownFolder | undefined => {
  const [, cache] = USER_CACHE.exec(path) ?? []
  if (cache !== undefined)
    return { path: cache, mode: 0o700, loses: 'what programs of this user have worked out before' }
  return FOLDERS.filter(folder => path.startsWith(`${folder.path}/`)).sort((a, b) => b.path.length - a.path.length)[0]
}

/** What a folder takes by itself, or with the folders in it where it is worth it by itself. */
const sumFolders = (
  owners: readonly OwnerUsage[],
  worth: (bytes: number) => boolean,
): readonly (readonly [KnownFolder, number])[] => {
  const sums = new Map<string, [KnownFolder, number]>()
  for (const { path, bytes } of owners) {
    const folder = path === undefined ? undefined : folderOf(path)
    if (!folder) continue
    const sum = sums.get(folder.path)
    if (sum) sum[1] += bytes
    else sums.set(folder.path, [folder, bytes])
  }
  for (const [path, sum] of sums)
    if (worth(sum[1]))
      for (const [inner, [, bytes]] of sums)
        if (inner.startsWith(`${path}/`)) {
          sum[1] += bytes
          sums.delete(inner)
        }
  return [...sums.values()].filter(([, bytes]) => worth(bytes))
}

const statOf = async (fs: FileSystem, path: string): Promise<Stat | undefined> => {
  try {
    const stat = await fs.stat(path)
    return stat.kind === 'directory' ? stat : undefined
  } catch (error) {
    if (isLiveError(error)) return undefined
    throw error
  }
}

/**
 * Tells which folders would be worth a tmpfs or a home image: those that take a hundredth of the overlay or a MiB of it.
 *
 * @param fs           the merged root, for modes and owners
 * @param overlaySize  bytes
 * @param hasHome      a home image is there already
 */
export const adviseFolders = async (
  fs: FileSystem,
  owners: readonly OwnerUsage[],
  overlaySize: number,
  hasHome: boolean,
): Promise<readonly Advice[]> => {
  const worth = (bytes: number): boolean => bytes >= LEAST_BYTES || (bytes > 0 && bytes >= overlaySize * LEAST_SHARE)
  const advice: Advice[] = []
  for (const [{ path, mode, loses }, bytes] of sumFolders(owners, worth)) {
    // A name that is no text can't be written into fstab.
    if (!path.isWellFormed()) continue
    const fstab = fstabLine(path, bytes, mode, await statOf(fs, path))
    advice.push({ path, bytes, means: 'tmpfs', fstab, loses })
  }
  const home = owners.reduce((sum, { path, bytes }) => sum + (path?.startsWith('/home/') ? bytes : 0), 0)
  if (!hasHome && worth(home))
    advice.push({
      path: '/home',
      bytes: home,
      means: 'home image',
      fstab: null,
      loses:
        'nothing: a home.img in the live directory keeps /home in a file of its own, and a refresh leaves it alone',
    })
  return advice.sort((a, b) => b.bytes - a.bytes)
}
