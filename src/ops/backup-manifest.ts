import type { Device } from '../block/device.js'
import { corrupt, LiveError, unsupported } from '../error.js'
import { splitPath } from '../fs/filesystem.js'
import { encodeName } from '../fs/name.js'
import type { ImageMark } from './refresh-state.js'

/** What a backup keeps of a stick. `changes`: the files that differ from the base, in place of the overlay. */
export type PartKind = 'overlay' | 'home' | 'boot' | 'changes'
/** Kinds of parts, in the order in which they are kept. */
export const PART_KINDS: readonly PartKind[] = ['boot', 'home', 'overlay', 'changes']

/** A file in a backup. */
export interface BackupPart {
  readonly kind: PartKind
  /** of the member, and of the file on the stick, from its root */
  readonly path: string
  /** bytes, holes included */
  readonly size: number
  /** SHA-256 over all of it, hex */
  readonly sha256: string
  /** it had holes on the stick too, so it may have them again */
  readonly sparse: boolean
}

/** What a backup says of itself: its first member. */
export interface BackupManifest {
  readonly liveos: 'backup'
  readonly version: 1
  /** ISO 8601, UTC */
  readonly created: string
  /** what the stick's filesystem was called */
  readonly medium: { readonly type: string; readonly label: string | null; readonly uuid: string | null }
  /** directory of the stick that held the system; null for a pair of files */
  readonly liveDir: string | null
  /** the base that the overlay belongs to */
  readonly base: ImageMark & { readonly name: string }
  readonly parts: readonly BackupPart[]
}

/** Names of the members that are no part of the stick. */
export const MANIFEST = 'liveos-backup.json'
export const CHECKSUMS = 'liveos-backup.sha256'
/** The member that holds what differs from the base: an archive in the archive. */
export const CHANGES = 'liveos-changes.tar'

const MAX_MANIFEST = 1 << 20
const MAX_PARTS = 1000

export const encodeManifest = (manifest: BackupManifest): Uint8Array =>
  Buffer.from(`${JSON.stringify(manifest, undefined, 2)}\n`)

/** The checksums in the words of `sha256sum -c`, which escapes names with backslashes and line breaks. */
export const encodeChecksums = (parts: readonly BackupPart[]): Uint8Array =>
  encodeName(
    parts
      .map(({ path, sha256 }) =>
        /[\\\n\r]/.test(path)
          ? `\\${sha256}  ${path.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('\r', '\\r')}\n`
          : `${sha256}  ${path}\n`,
      )
      .join(''),
  )

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const isName = (value: unknown): value is string | null => value === null || typeof value === 'string'

/** A path that names one place below a root, in one spelling. */
const isPlain = (path: unknown): path is string =>
  typeof path === 'string' &&
  path !== '' &&
  !path.includes('\0') &&
  path === splitPath(path).join('/') &&
  !splitPath(path).includes('..')

const isPart = (value: unknown): value is BackupPart =>
  isObject(value) &&
  PART_KINDS.some(kind => kind === value.kind) &&
  isPlain(value.path) &&
  Number.isSafeInteger(value.size) &&
  Number(value.size) >= 0 &&
  typeof value.sha256 === 'string' &&
  /^[0-9a-f]{64}$/.test(value.sha256) &&
  typeof value.sparse === 'boolean'

const isOnce = (parts: readonly BackupPart[]): boolean =>
  new Set(parts.map(({ path }) => path)).size === parts.length &&
  PART_KINDS.every(kind => kind === 'boot' || parts.filter(part => part.kind === kind).length <= 1)

/**
 * Reads what a backup says of itself.
 *
 * @throws CORRUPT  it makes no sense; UNSUPPORTED  a newer liveos wrote it; IO
 */
export const readManifest = async (file: Device): Promise<BackupManifest> => {
  const wrong = (field: string, expected: string, found: string | number): LiveError =>
    corrupt({ device: file.name, offset: 0, field, expected, found })
  if (file.size > MAX_MANIFEST) throw wrong('size', `at most ${MAX_MANIFEST}`, file.size)
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(await file.read(0, file.size)).toString())
  } catch (error) {
    if (error instanceof LiveError) throw error
    throw wrong(MANIFEST, 'JSON', 'something else')
  }
  if (!isObject(value) || value.liveos !== 'backup')
    throw wrong('liveos', 'backup', String(isObject(value) && value.liveos))
  if (value.version !== 1)
    throw unsupported(
      'backup of another version',
      file.name,
      `this backup was made by another version of liveos (${String(value.version)}): restore it with that one`,
    )
  const { created, medium, liveDir, base, parts } = value
  if (
    typeof created !== 'string' ||
    !isObject(medium) ||
    typeof medium.type !== 'string' ||
    !isName(medium.label) ||
    !isName(medium.uuid) ||
    !isName(liveDir) ||
    !isObject(base) ||
    typeof base.name !== 'string' ||
    typeof base.size !== 'number' ||
    typeof base.ends !== 'string'
  )
    throw wrong(MANIFEST, 'what a backup says of itself', 'something else')
  if (!Array.isArray(parts) || parts.length > MAX_PARTS || !parts.every(isPart) || !isOnce(parts))
    throw wrong('parts', `at most ${MAX_PARTS} parts, each once`, 'something else')
  const { type, label, uuid } = medium
  return {
    liveos: 'backup',
    version: 1,
    created,
    medium: { type, label, uuid },
    liveDir,
    base: { name: base.name, size: base.size, ends: base.ends },
    parts,
  }
}
