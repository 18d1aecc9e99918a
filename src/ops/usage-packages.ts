import { corrupt, isLiveError, orMissing } from '../error.js'
import type { Finding } from '../finding.js'
import { type FileSystem, splitPath } from '../fs/filesystem.js'
import { decodeName } from '../fs/name.js'
import type { OwnerUsage } from '../liveos/usage/usage.js'
import { findRpmDatabase, rpmPackages } from './usage-rpm.js'

/** What the files of a package take of an overlay. */
export interface PackageUsage {
  /** null for files that belong to none */
  readonly name: string | null
  readonly bytes: number
  readonly identicalBytes: number
  readonly fileCount: number
}

const DPKG = '/var/lib/dpkg/info'
/** Bytes of all lists together: those of a whole distribution have some 20 MiB. */
const MAX_LISTS = 512 << 20

interface Owned {
  readonly name: string
  readonly paths: Iterable<string>
}

async function* dpkgPackages(fs: FileSystem): AsyncGenerator<Owned, void> {
  let left = MAX_LISTS
  for (const { name, kind } of await fs.list(DPKG)) {
    if (!name.endsWith('.list') || kind !== 'file') continue
    const file = await fs.open(`${DPKG}/${name}`)
    left -= file.size
    if (left < 0)
      throw corrupt({
        device: fs.name,
        offset: 0,
        field: `size of ${DPKG}`,
        expected: `at most ${MAX_LISTS}`,
        found: MAX_LISTS - left,
      })
    // `libc6:amd64.list`: the architecture is no part of the name that a person knows
    yield {
      name: name.slice(0, -'.list'.length).replace(/:.*/, ''),
      paths: decodeName(await file.read(0, file.size)).split('\n'),
    }
  }
}

const isThere = async (fs: FileSystem, path: string): Promise<boolean> => (await orMissing(fs.stat(path))) !== undefined

/** Packages name /bin/ls where /bin is a link to usr/bin: the links at the top of the tree, by their names. */
const topLinks = async (fs: FileSystem): Promise<ReadonlyMap<string, string>> => {
  const links = new Map<string, string>()
  for (const { name, kind } of await fs.list('/'))
    if (kind === 'symlink') links.set(name, `/${splitPath(await fs.readLink(`/${name}`)).join('/')}`)
  return links
}

/**
 * Sums what files take of an overlay by the package that owns them.
 *
 * @param fs  the merged root
 * @returns   largest first, with a finding and null where the root has no database that can be read
 * @throws IO, CANCELLED
 */
export const sumPackages = async (
  fs: FileSystem,
  owners: readonly OwnerUsage[],
): Promise<{ readonly packages: readonly PackageUsage[] | null; readonly findings: readonly Finding[] }> => {
  const untold = (message: string) => ({
    packages: null,
    findings: [
      { code: 'PACKAGES_UNTOLD', severity: 'note' as const, where: fs.name, message: `packages not told: ${message}` },
    ],
  })
  try {
    let source: AsyncIterable<Owned>
    if (await isThere(fs, DPKG)) source = dpkgPackages(fs)
    else {
      const path = await findRpmDatabase(fs)
      if (path === undefined) return untold('there is no database of dpkg or of rpm with SQLite')
      source = rpmPackages(fs, path)
    }
    return { packages: await sum(source, owners, await topLinks(fs)), findings: [] }
  } catch (error) {
    if (!isLiveError(error) || error.code === 'CANCELLED' || error.code === 'IO') throw error
    return untold(error.message)
  }
}

const sum = async (
  source: AsyncIterable<Owned>,
  owners: readonly OwnerUsage[],
  links: ReadonlyMap<string, string>,
): Promise<readonly PackageUsage[]> => {
  const left = new Map<string, OwnerUsage>()
  for (const owner of owners) if (owner.path !== undefined && owner.kind !== 'directory') left.set(owner.path, owner)
  const sums = new Map<string | null, { bytes: number; identicalBytes: number; fileCount: number }>()
  const add = (name: string | null, { bytes, identicalBytes }: OwnerUsage): void => {
    const found = sums.get(name) ?? { bytes: 0, identicalBytes: 0, fileCount: 0 }
    sums.set(name, {
      bytes: found.bytes + bytes,
      identicalBytes: found.identicalBytes + identicalBytes,
      fileCount: found.fileCount + 1,
    })
  }
  for await (const { name, paths } of source)
    for (const path of paths) {
      const slash = path.indexOf('/', 1)
      const link = slash > 0 ? links.get(path.slice(1, slash)) : undefined
      const real = link === undefined ? path : link + path.slice(slash)
      const owner = left.get(real)
      if (!owner) continue
      left.delete(real)
      add(name, owner)
    }
  for (const owner of left.values()) add(null, owner)
  return Array.from(sums, ([name, bytes]) => ({ name, ...bytes })).sort(
    (a, b) => b.bytes - a.bytes || String(a.name).localeCompare(String(b.name)),
  )
}
