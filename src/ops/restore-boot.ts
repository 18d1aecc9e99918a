import { join } from 'node:path/posix'
import type { Device } from '../block/device.js'
import { memory } from '../block/memory.js'
import { LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { type FileSystem, type Stat, splitPath } from '../fs/filesystem.js'
import { findBootConfigs } from '../liveos/boot/find.js'
import { directoryOf, follow } from '../liveos/boot/follow.js'
import { MAX_CONFIG_SIZE } from '../liveos/boot/reader.js'
import { bytesOf, textOf } from '../liveos/boot/text.js'
import type { BackupPart } from './backup-manifest.js'
import { isSameMedium, type MediumName, rewriteIdentity } from './restore-identity.js'

/** A boot configuration that is to be put back. */
export interface BootFileBack {
  readonly part: BackupPart
  /** where it goes, from the root of the stick, as the stick spells it */
  readonly path: string
  readonly bytes: Uint8Array
  /** places at which the medium's name was changed in it */
  readonly places: number
}

const fileStat = (size: number): Stat => ({
  kind: 'file',
  inode: 0,
  mode: 0o644,
  uid: 0,
  gid: 0,
  size,
  mtime: 0,
  mtimeNanoseconds: 0,
  linkCount: 1,
})

/** A filesystem as it will be with these files in it; their directories are there. */
const laidOver = (fs: FileSystem, files: ReadonlyMap<string, Uint8Array>): FileSystem => ({
  ...fs,
  stats: undefined,
  openAt: undefined,
  async stat(path) {
    const bytes = files.get(path)
    return bytes ? fileStat(bytes.length) : fs.stat(path)
  },
  async list(path) {
    const entries = await fs.list(path)
    const names = new Set(entries.map(({ name }) => name))
    const more = [...files.keys()].flatMap(file => {
      const name = splitPath(file).at(-1)!
      return directoryOf(file) === path && !names.has(name) ? [{ name, kind: 'file' as const, inode: 0 }] : []
    })
    return [...entries, ...more]
  },
  async open(path) {
    const bytes = files.get(path)
    return bytes ? memory(bytes, path) : fs.open(path)
  },
})

/** Where a file of a backup goes on this stick; undefined where its directory is missing. */
const placeOn = async (fs: FileSystem, path: string): Promise<string | undefined> => {
  const there = await follow(fs, `/${path}`)
  if (there) return there.stat.kind === 'file' ? there.path : undefined
  const directory = await follow(fs, directoryOf(`/${path}`))
  return directory?.stat.kind === 'directory' ? join(directory.path, splitPath(path).at(-1)!) : undefined
}

const readSmall = async (device: Device): Promise<Uint8Array> => {
  if (device.size > MAX_CONFIG_SIZE)
    throw new LiveError('REFUSED', `${device.name} has ${device.size} bytes, too many for a boot configuration`, {
      path: device.name,
    })
  return device.read(0, device.size)
}

/** A boot configuration that looks for the medium `to`, and at how many places it was changed. */
export const rewrittenBoot = (
  bytes: Uint8Array,
  from: MediumName,
  to: MediumName,
): { bytes: Uint8Array; places: number } => {
  if (isSameMedium(from, to)) return { bytes, places: 0 }
  const { text, places } = rewriteIdentity(textOf(bytes), from, to)
  return { bytes: places > 0 ? bytesOf(text) : bytes, places }
}

/** What is not as it should be for the stick, once the entries are back. */
const MISSING = new Set(['BOOT_KERNEL_MISSING', 'BOOT_INITRD_MISSING'])

/**
 * Says what becomes of the boot configuration of a backup on a stick: each file goes where the stick has it, or has its
 * directory, and looks for the stick that it is on. Only what a loader would read there is put back.
 *
 * @throws REFUSED  a file that is no boot configuration; CORRUPT, IO
 */
export const planBoot = async (
  fs: FileSystem,
  parts: readonly BackupPart[],
  open: (part: BackupPart) => Device,
  names: { readonly from: MediumName; readonly to: MediumName },
): Promise<{ files: readonly BootFileBack[]; findings: readonly Finding[] }> => {
  const findings: Finding[] = []
  const { from, to } = names
  const isElsewhere = !isSameMedium(from, to)
  const known = from.uuid !== null && to.uuid !== null
  const files: BootFileBack[] = []
  for (const part of parts) {
    const path = await placeOn(fs, part.path)
    if (path === undefined) {
      findings.push({
        code: 'BOOT_NOT_RESTORED',
        severity: 'warning',
        where: part.path,
        message: `${part.path} is not put back: this stick has no directory for it, so no loader here would read it`,
      })
      continue
    }
    const original = await readSmall(open(part))
    files.push({ part, path: splitPath(path).join('/'), ...rewrittenBoot(original, from, to) })
  }
  if (files.length > 0 && isElsewhere && !known)
    findings.push({
      code: 'BOOT_IDENTITY_UNKNOWN',
      severity: 'warning',
      where: fs.name,
      message:
        from.uuid === null
          ? 'the backup does not say what its stick was called, so the boot configuration goes back as it was'
          : 'what this stick is called is not known here, so the boot configuration goes back as it was',
      remedy: 'see that root=live: in it names this stick',
    })
  const over = laidOver(fs, new Map(files.map(({ path, bytes }) => [`/${path}`, bytes])))
  const configs = await findBootConfigs(over)
  const read = new Set(configs.flatMap(config => config.files))
  for (const { path } of files)
    if (!read.has(`/${path}`))
      throw new LiveError(
        'REFUSED',
        `the backup calls ${path} a boot configuration, and no boot loader would read it there: nothing is restored. --only overlay,home leaves the boot configuration out`,
        { path },
      )
  for (const config of configs)
    if (config.files.some(path => files.some(file => `/${file.path}` === path)))
      for (const finding of config.findings)
        if (MISSING.has(finding.code))
          findings.push({
            ...finding,
            severity: 'warning',
            remedy: 'check the boot entries before you rely on this stick',
          })
  return { files, findings }
}
