import { join } from 'node:path'
import type { Device } from '../block/device.js'
import { unsupported } from '../error.js'
import type { Finding } from '../finding.js'
import { type FileSystem, splitPath } from '../fs/filesystem.js'
import { openDirectory } from '../host/directory.js'
import { isHostFolder } from '../host/folder.js'
import { findBootConfigs } from '../liveos/boot/find.js'
import type { Target, TargetFile, TargetInput } from '../liveos/target.js'
import { openView } from '../liveos/view.js'
import type { PartKind } from './backup-manifest.js'

/** A file of a stick that goes into a backup. */
export interface SourcePart {
  readonly kind: PartKind
  /** from the root of the stick, without a slash at its begin */
  readonly path: string
  readonly size: number
  /** milliseconds since 1970 */
  readonly modified: number
  /** it has holes there */
  readonly sparse: boolean
  open(): Promise<Device>
}

/** What a stick has to be kept. */
export interface SourceParts {
  readonly parts: readonly SourcePart[]
  readonly findings: readonly Finding[]
  close(): Promise<void>
}

/** The filesystem that a stick's boot configuration stands in. Of a directory the whole stick, even where its live directory was named. */
export const bootFileSystem = async (
  target: Target,
  input: TargetInput,
): Promise<{ fs: FileSystem; close: () => Promise<void> } | undefined> => {
  if (!target.stick) return undefined
  if (isHostFolder(target.base.folder)) {
    const fs = await openDirectory(target.stick.root)
    return { fs, close: () => fs.close() }
  }
  const view = await openView(input, 'medium')
  return { fs: view.fs, close: () => view.close() }
}

/** Paths of all files that boot loaders read their menus from, from the root of the stick. */
export const bootFiles = async (fs: FileSystem): Promise<string[]> => {
  const configs = await findBootConfigs(fs)
  return [...new Set(configs.flatMap(({ files }) => files))].map(path => splitPath(path).join('/')).sort()
}

const filePart = async (kind: PartKind, path: string, file: TargetFile): Promise<SourcePart> => {
  const opened = await file.folder.open(file.name)
  const { size, hasHoles } = opened
  await opened.close()
  return {
    kind,
    path,
    size,
    modified: file.facts.modified,
    sparse: hasHoles && isHostFolder(file.folder),
    open: () => file.folder.open(file.name),
  }
}

/**
 * Finds what a stick has to be kept: boot configuration, home image and overlay.
 *
 * @param kinds  those that are wanted
 * @throws UNSUPPORTED  the overlay is a directory; CORRUPT, IO
 */
export const findParts = async (
  target: Target,
  input: TargetInput,
  kinds: ReadonlySet<PartKind>,
): Promise<SourceParts> => {
  const findings: Finding[] = []
  const note = (code: string, where: string, message: string): void => {
    findings.push({ code, severity: 'note', where, message })
  }
  const parts: SourcePart[] = []
  const onStick = (name: string): string => splitPath(join(target.stick?.liveDir ?? '', name)).join('/')
  const boot = kinds.has('boot') ? await bootFileSystem(target, input) : undefined
  try {
    if (boot) {
      const files = await bootFiles(boot.fs)
      for (const path of files) {
        const { size, mtime } = await boot.fs.stat(`/${path}`)
        const open = (): Promise<Device> => boot.fs.open(`/${path}`)
        parts.push({ kind: 'boot', path, size, modified: mtime * 1000, sparse: false, open })
      }
      if (files.length === 0) note('NO_BOOT_CONFIG', target.name, `${target.name} has no boot configuration`)
    }
    if (kinds.has('home') && target.home) parts.push(await filePart('home', onStick(target.home.name), target.home))
    if (kinds.has('overlay') || kinds.has('changes')) {
      if (target.overlayDirectory)
        throw unsupported(
          'OverlayFS directory',
          target.overlayDirectory,
          `the changes are kept in the directory ${target.overlayDirectory}, which a backup can't hold yet: keep it with tar, and the rest with --only boot,home`,
        )
      if (target.overlay && kinds.has('overlay'))
        parts.push(await filePart('overlay', onStick(target.overlay.name), target.overlay))
      if (!target.overlay)
        note(
          'NO_OVERLAY',
          target.name,
          `${target.name} has no overlay: what a booted system changes is lost at power-off`,
        )
    }
    return { parts, findings, close: async () => boot?.close() }
  } catch (error) {
    await boot?.close()
    throw error
  }
}
