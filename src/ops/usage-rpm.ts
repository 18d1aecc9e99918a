import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { corrupt, isLiveError, unsupported } from '../error.js'
import type { FileSystem } from '../fs/filesystem.js'
import { decodeName } from '../fs/name.js'
import { resolvePath } from '../fs/resolve.js'

/*
 * A header in rpm's database, big-endian:
 *
 *   0 u32 il, how many entries      4 u32 dl, bytes of data
 *   8 il entries: 0 u32 tag   4 u32 type   8 u32 offset in the data   12 u32 count
 *   then the data
 */

const TAG = { name: 1000, dirIndexes: 1116, baseNames: 1117, dirNames: 1118 } as const
const TYPE = { int32: 4, string: 6, stringArray: 8 } as const
const ENTRY = 16
/** bytes, of any path of Linux. @see linux include/uapi/linux/limits.h, PATH_MAX */
const MAX_PATH = 4096

/** A package and the paths it owns. */
export interface RpmPackage {
  readonly name: string
  readonly paths: readonly string[]
}

/**
 * Reads name and files of a package from its header.
 *
 * @param device  the database's name, for messages
 * @throws CORRUPT
 * @see rpm lib/header.c, include/rpm/rpmtag.h
 */
export const parseRpmHeader = (bytes: Uint8Array, device: string): RpmPackage => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const wrong = (offset: number, field: string, expected: string, found: number) =>
    corrupt({ device, offset, field: `rpm header: ${field}`, expected, found })
  if (bytes.length < 8) throw wrong(0, 'size', 'at least 8 bytes', bytes.length)
  const count = view.getUint32(0)
  const dataStart = 8 + count * ENTRY
  if (dataStart > bytes.length) throw wrong(0, 'il', `at most ${Math.floor((bytes.length - 8) / ENTRY)}`, count)
  const entryOf = (tag: number, type: number) => {
    for (let at = 8; at < dataStart; at += ENTRY)
      if (view.getUint32(at) === tag) {
        if (view.getUint32(at + 4) !== type) throw wrong(at + 4, `type of ${tag}`, String(type), view.getUint32(at + 4))
        return { at, start: dataStart + view.getUint32(at + 8), count: view.getUint32(at + 12) }
      }
    return undefined
  }
  const strings = (tag: number, type: number): readonly string[] => {
    const entry = entryOf(tag, type)
    if (!entry) return []
    const found: string[] = []
    let start = entry.start
    for (let n = 0; n < entry.count; n++) {
      const end = bytes.indexOf(0, start)
      if (end < 0) throw wrong(entry.at + 12, `count of ${tag}`, `${n} strings`, entry.count)
      found.push(decodeName(bytes.subarray(start, end)))
      start = end + 1
    }
    return found
  }
  const [name] = strings(TAG.name, TYPE.string)
  if (name === undefined) throw wrong(0, 'il', 'a name', count)
  const folders = strings(TAG.dirNames, TYPE.stringArray)
  const indexes = entryOf(TAG.dirIndexes, TYPE.int32)
  const paths = strings(TAG.baseNames, TYPE.stringArray).map((base, n) => {
    const at = (indexes?.start ?? 0) + n * 4
    if (!indexes || n >= indexes.count || at + 4 > bytes.length)
      throw wrong(0, 'dirindexes', 'one for each name', indexes?.count ?? 0)
    const folder = folders[view.getUint32(at)]
    if (folder === undefined) throw wrong(at, 'dirindex', `below ${folders.length}`, view.getUint32(at))
    if (folder.length + base.length > MAX_PATH) throw wrong(at, 'path', `at most ${MAX_PATH} bytes`, folder.length)
    return folder + base
  })
  return { name, paths }
}

/** What is used of node:sqlite, which Node has from 22.5 on. */
interface Sqlite {
  readonly DatabaseSync: new (
    path: string,
  ) => {
    prepare(sql: string): { all(): readonly unknown[]; get(...values: readonly unknown[]): unknown }
    close(): void
  }
}

const loadSqlite = async (): Promise<Sqlite | undefined> => {
  try {
    // A name that the types of Node 20 don't know.
    return (await import('node:sqlite' as string)) as Sqlite
  } catch {
    return undefined
  }
}

const PLACES = ['/usr/lib/sysimage/rpm/rpmdb.sqlite', '/var/lib/rpm/rpmdb.sqlite']
const PIECE = 4 << 20
/** bytes; databases of whole distributions have some 200 MiB */
const MAX_DATABASE = 2 ** 31

/** The database's path in a filesystem, symlinks followed; undefined where there is none. */
export const findRpmDatabase = async (fs: FileSystem): Promise<string | undefined> => {
  for (const place of PLACES)
    try {
      return await resolvePath(fs, place)
    } catch (error) {
      if (!isLiveError(error) || error.code !== 'NOT_FOUND') throw error
    }
  return undefined
}

const copyOut = async (fs: FileSystem, path: string, to: string): Promise<void> => {
  const file = await fs.open(path)
  if (file.size > MAX_DATABASE)
    throw corrupt({
      device: fs.name,
      offset: 0,
      field: `size of ${path}`,
      expected: `at most ${MAX_DATABASE}`,
      found: file.size,
    })
  await writeFile(
    to,
    (async function* () {
      for (let at = 0; at < file.size; at += PIECE) yield await file.read(at, Math.min(PIECE, file.size - at))
    })(),
  )
}

/**
 * The packages in rpm's database, read from a temporary copy: SQLite wants a file, and may finish a log beside it.
 *
 * @param path  as `findRpmDatabase` gives it
 * @throws UNSUPPORTED  this Node has no SQLite
 * @throws CORRUPT, IO
 */
export async function* rpmPackages(fs: FileSystem, path: string): AsyncGenerator<RpmPackage, void> {
  const sqlite = await loadSqlite()
  if (!sqlite)
    throw unsupported('rpm database without SQLite', path, "rpm's database needs the SQLite of Node 22.5 or later")
  const folder = await mkdtemp(join(tmpdir(), 'liveos-rpm-'))
  try {
    const copy = join(folder, 'rpmdb.sqlite')
    await copyOut(fs, path, copy)
    try {
      await copyOut(fs, `${path}-wal`, `${copy}-wal`)
    } catch (error) {
      if (!isLiveError(error) || error.code !== 'NOT_FOUND') throw error
    }
    const database = new sqlite.DatabaseSync(copy)
    try {
      const one = database.prepare('SELECT blob FROM Packages WHERE hnum = ?')
      for (const row of database.prepare('SELECT hnum FROM Packages ORDER BY hnum').all()) {
        const { blob } = one.get((row as { hnum: number }).hnum) as { blob: unknown }
        if (blob instanceof Uint8Array) yield parseRpmHeader(blob, path)
      }
    } finally {
      database.close()
    }
  } catch (error) {
    if (isLiveError(error)) throw error
    throw corrupt({ device: path, offset: 0, field: 'SQLite database', expected: 'one of rpm', found: String(error) })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
