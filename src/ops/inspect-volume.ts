import type { Device } from '../block/device.js'
import { isLiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { type FileSystem, isMapped, pathBelow } from '../fs/filesystem.js'
import { readBootCatalog } from '../fs/iso9660/boot-catalog.js'
import { readHybrid } from '../fs/iso9660/hybrid.js'
import { readIsoMd5 } from '../fs/iso9660/media-check.js'
import { openFolder } from '../host/folder.js'
import type { Volume } from '../liveos/source.js'
import { collecting, type Detail, details, type Inspecting, type InspectNode, node } from './inspect-node.js'

/** Free bytes of filesystems whose count is quickly told; a large ext4's bitmaps are not read for a number. */
const freeBytes = async (fs: FileSystem, type: string | undefined, at: Inspecting): Promise<number | undefined> => {
  if (at.remote || type !== 'vfat' || !isMapped(fs)) return undefined
  let bytes = 0
  for await (const { length } of fs.freeRuns()) bytes += length
  return bytes
}

/** Where loaders' own files lie. */
const SYSLINUX_PLACES = ['/', '/syslinux', '/extlinux', '/boot/syslinux', '/boot/extlinux', '/isolinux']

const namesIn = async (fs: FileSystem, path: string): Promise<readonly string[]> => {
  try {
    return (await fs.list(path)).map(({ name }) => name)
  } catch (error) {
    // directories that can't be listed are told by the search for configurations
    if (!isLiveError(error) || error.code === 'CANCELLED') throw error
    return []
  }
}

/** Files of boot loaders: SYSLINUX's own, and what UEFI starts. */
const loadersOn = async (fs: FileSystem): Promise<readonly string[]> => {
  const found: string[] = []
  const root = await namesIn(fs, '/')
  const firsts = new Set(root.map(name => name.toLowerCase()))
  for (const place of SYSLINUX_PLACES) {
    if (place !== '/' && !firsts.has(place.split('/')[1]!)) continue
    const names = place === '/' ? root : await namesIn(fs, place)
    for (const name of names)
      if (/^(ldlinux\.sys|extlinux\.sys|isolinux\.bin)$/i.test(name)) found.push(pathBelow(place, name))
  }
  const efi = root.find(name => /^efi$/i.test(name))
  const boot = efi && (await namesIn(fs, `/${efi}`)).find(name => /^boot$/i.test(name))
  if (efi && boot)
    for (const name of await namesIn(fs, `/${efi}/${boot}`))
      if (/^boot.*\.efi$/i.test(name)) found.push(`/${efi}/${boot}/${name}`)
  return found
}

/** The boot code of a volume, where SYSLINUX put its own there. */
const bootSectorOf = async (device: Device | undefined, type: string | undefined): Promise<string | undefined> => {
  if (!device || device.size < 512 || (type !== 'vfat' && type !== 'ext4')) return undefined
  const text = Buffer.from(await device.read(3, 8)).toString('latin1')
  return /^(SYS|EXT)LINUX/.exec(text)?.[0]
}

/** What a volume says of itself, with findings about it. */
export const volumeDetails = async (
  { fs, failure, name, type, device }: Volume,
  at: Inspecting,
): Promise<Readonly<Record<string, Detail | undefined>>> => {
  if (failure)
    at.findings.push({
      code: failure.code === 'UNSUPPORTED' ? 'FILESYSTEM_UNSUPPORTED' : 'FILESYSTEM_UNREADABLE',
      severity: failure.code === 'UNSUPPORTED' ? 'note' : 'error',
      where: name,
      message: failure.message,
    })
  if (!fs) return {}
  const own = 'findings' in fs && typeof fs.findings === 'function' ? (fs.findings() as readonly Finding[]) : []
  at.findings.push(...own)
  const loaders = await loadersOn(fs)
  return {
    fatVariant: 'variant' in fs && typeof fs.variant === 'number' ? `FAT${fs.variant}` : undefined,
    dirty: ('dirty' in fs && fs.dirty === true) || undefined,
    freeBytes: device
      ? await collecting(at, 'FAT_DAMAGED', name, () => freeBytes(fs, type, at))
      : await openFolder(name).then(
          folder => folder.freeBytes(),
          () => undefined,
        ),
    loaders: loaders.length > 0 ? loaders : undefined,
    bootSector: await collecting(at, 'FILESYSTEM_UNREADABLE', name, () => bootSectorOf(device, type)),
  }
}

/** What firmware starts an ISO with, and the checksum implanted in it. */
export const inspectIso = async (name: string, device: Device, at: Inspecting): Promise<InspectNode[]> => {
  const catalog = await collecting(at, 'BOOT_CATALOG_DAMAGED', name, () => readBootCatalog(device))
  const hybrid = await collecting(at, 'HYBRID_DAMAGED', name, () => readHybrid(device))
  const md5 = await collecting(at, 'CHECKSUM_DAMAGED', name, () => readIsoMd5(device))
  const images = (catalog?.entries ?? []).map(entry =>
    node('boot image', entry.path ?? `El Torito ${entry.platform}`, {
      size: entry.length,
      details: details({
        platform: String(entry.platform),
        bootable: entry.bootable,
        media: entry.media,
        start: entry.offset,
      }),
    }),
  )
  if (hybrid)
    images.push(node('boot image', 'master boot record', { details: { loader: hybrid.loader, platform: 'x86' } }))
  if (md5) images.push(node('boot image', 'implanted checksum', { details: { md5: md5.md5 } }))
  return images
}
