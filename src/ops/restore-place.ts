import { createHash } from 'node:crypto'
import { realpath } from 'node:fs/promises'
import { basename, dirname, join, sep } from 'node:path'
import { dataLength } from '../block/device.js'
import { openFile } from '../block/file.js'
import { LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { openDirectory } from '../host/directory.js'
import { type Folder, openFolder } from '../host/folder.js'
import { expectedOverlay } from '../liveos/live-directory.js'
import type { WritableTarget } from '../liveos/target.js'
import type { OpenBackup } from './backup-archive.js'
import type { BackupManifest, BackupPart } from './backup-manifest.js'
import { isSameImage, markOf } from './refresh-state.js'
import type { PlannedFile } from './restore.js'
import { planBoot } from './restore-boot.js'
import type { MediumName } from './restore-identity.js'

/** A part of the backup and where it goes. */
export interface Placed extends Omit<PlannedFile, 'path' | 'replaces'> {
  readonly folder: Folder
  readonly name: string
  /** bytes that it takes on the medium */
  readonly takes: number
}

export const imageOf = async (part: BackupPart, { open }: OpenBackup): Promise<Omit<Placed, 'folder' | 'name'>> => ({
  kind: part.kind,
  from: part.path,
  size: part.size,
  sha256: part.sha256,
  places: 0,
  sparse: part.sparse,
  takes: part.sparse ? await dataLength(open(part)) : open(part).size,
})

export const homePlace = ({ stick, base, name }: WritableTarget, findings: Finding[]) => {
  if (stick) return { folder: base.folder, name: 'home.img' }
  findings.push({
    code: 'HOME_NOT_RESTORED',
    severity: 'warning',
    where: name,
    message: 'the home image is not put back: a pair of files has no place for it',
  })
  return undefined
}

/** Where the overlay goes: the file that was named, else the name that a boot of this very stick looks for. */
export const overlayPlace = async (
  target: WritableTarget,
  part: BackupPart,
  { base }: BackupManifest,
  medium: MediumName,
  findings: Finding[],
): Promise<{ folder: Folder; name: string }> => {
  const device = await openFile(target.base.path)
  const mark = await markOf(device).finally(() => device.close())
  if (!isSameImage(mark, base))
    throw new LiveError(
      'REFUSED',
      `the overlay in the backup belongs to another base: ${base.name} of ${base.size} bytes, and this one was refreshed or is of another system. Over it the overlay would be garbage. --only home,boot leaves it out; a backup made with --changed-only goes over any base`,
      { path: target.base.path, expected: base.ends, found: mark.ends },
    )
  const { overlay, overlayFoundBy, overlayDirectory } = target
  if (overlayDirectory)
    throw new LiveError(
      'REFUSED',
      `${overlayDirectory} is an OverlayFS directory, and stands where the overlay would`,
      {
        path: overlayDirectory,
      },
    )
  if (overlay && overlayFoundBy === 'named') {
    if (overlay.facts.kind !== 'file')
      throw new LiveError(
        'REFUSED',
        `${overlay.path} is a whole partition or disk, which no new file can replace: unpack the overlay with tar and write it there with dd`,
        { path: overlay.path },
      )
    return { folder: overlay.folder, name: overlay.name }
  }
  const expected = expectedOverlay({ label: medium.label ?? undefined, uuid: medium.uuid ?? undefined })
  const name = expected ?? overlay?.name ?? basename(part.path)
  if (overlay && overlay.name !== name)
    findings.push({
      code: 'OVERLAY_UNUSED',
      severity: 'note',
      where: overlay.path,
      message: `${overlay.name} stays as it is: a boot of this stick looks for ${name}, and that is where the overlay goes`,
    })
  return { folder: target.base.folder, name }
}

export const bootPlaces = async (
  target: WritableTarget,
  parts: readonly BackupPart[],
  { manifest, open }: OpenBackup,
  medium: MediumName,
  unchanged: string[],
  findings: Finding[],
): Promise<Placed[]> => {
  const { root } = target.stick!
  const fs = await openDirectory(root)
  const names = { from: manifest.medium, to: medium }
  const { files, findings: told } = await planBoot(fs, parts, open, names)
  findings.push(...told)
  const placed: Placed[] = []
  for (const { part, path, bytes, places } of files) {
    const folder = await openFolder(join(root, dirname(path)))
    // a link on the way may lead anywhere
    if (!`${await realpath(folder.path)}${sep}`.startsWith(`${await realpath(root)}${sep}`))
      throw new LiveError('REFUSED', `${folder.path} leads out of the stick`, { path: folder.path })
    const name = basename(path)
    if (await holds(folder, name, bytes)) {
      unchanged.push(join(folder.path, name))
      continue
    }
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    const { length: size } = bytes
    placed.push({ kind: 'boot', from: part.path, size, sha256, places, sparse: false, takes: size, folder, name })
  }
  return placed
}

/** True where a file has these bytes already. */
const holds = async (folder: Folder, name: string, bytes: Uint8Array): Promise<boolean> => {
  if ((await folder.facts(name))?.size !== bytes.length) return false
  const file = await folder.open(name)
  try {
    return Buffer.compare(await file.read(0, bytes.length), bytes) === 0
  } finally {
    await file.close()
  }
}
