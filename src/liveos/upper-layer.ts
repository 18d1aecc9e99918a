import { LiveError, orMissing, unsupported } from '../error.js'
import type { Finding } from '../finding.js'
import { type FsType, overlayFsType } from '../fs/detect.js'
import { type FileSystem, hasXattrs, pathBelow } from '../fs/filesystem.js'
import { openFs } from '../fs/open.js'
import { type OverlayFs, openOverlayFs } from '../fs/overlayfs/reader.js'
import { readsTrustedAttributes, withAttributes } from '../host/attributes.js'
import { openDirectory } from '../host/directory.js'
import { isHostFolder } from '../host/folder.js'
import { isImageFolder } from './image-folder.js'
import type { Target } from './target.js'

/** What an OverlayFS wrote: the upper directory of a target, opened. */
export interface UpperLayer {
  /** of the overlay: a directory, or the file whose filesystem holds it */
  readonly path: string
  readonly kind: 'directory' | 'image'
  readonly fs: FileSystem
  /** the upper directory in `fs` */
  readonly root: string
  /** the work directory in `fs`; undefined where there is none, or where it can't be looked into */
  readonly work: string | undefined
  /** false where the marks of the OverlayFS can't be read */
  readonly marksReadable: boolean
  /** bytes of the filesystem in a file; undefined of a directory, which grows with the stick */
  readonly size: number | undefined
  readonly findings: readonly Finding[]
  close(): Promise<void>
}

/** Names that a boot looks for: the work directory beside an upper one, and both in a filesystem of their own. */
const WORK = 'ovlwork'
const UPPER = 'overlayfs'

/** What is no filesystem, though its marks are known. */
const NO_FILESYSTEM: readonly FsType[] = ['luks', 'swap', 'LVM2']

const isDirectory = async (fs: FileSystem, path: string): Promise<boolean> =>
  (await orMissing(fs.stat(path)))?.kind === 'directory'

const noWork = (path: string, sister: string): Finding => ({
  code: 'OVERLAY_NO_WORK',
  severity: 'warning',
  where: path,
  message: `there is no directory ${sister}, so a boot does not use this OverlayFS; shown is what it holds`,
})

const marksHidden = (path: string, why: string, remedy: string): Finding => ({
  code: 'OVERLAY_MARKS_HIDDEN',
  severity: 'warning',
  where: path,
  message: `${why}, so what was deleted with its directory and made anew may be shown as it was in the base, and what a renamed directory took along may be missing`,
  remedy,
})

const directoryOf = async (target: Target, path: string): Promise<UpperLayer> => {
  const { folder } = target.base
  const name = path.slice(folder.path.length + 1)
  const findings: Finding[] = []
  const kind = 'directory'
  if (isImageFolder(folder)) {
    const inside = (child: string): string => pathBelow(folder.directory, child)
    const { fs } = folder
    const hasWork = await isDirectory(fs, inside(WORK))
    if (!hasWork) findings.push(noWork(path, `${WORK} beside it`))
    const marksReadable = hasXattrs(fs)
    if (!marksReadable)
      findings.push(
        marksHidden(path, `a ${fs.type} keeps no extended attributes`, 'an OverlayFS belongs on ext4 or XFS'),
      )
    const work = hasWork ? inside(WORK) : undefined
    // who opened the stick closes it
    return { path, kind, fs, root: inside(name), work, marksReadable, size: undefined, findings, close: async () => {} }
  }
  if (!isHostFolder(folder)) throw unsupported('OverlayFS directory', path)
  const plain = await openDirectory(folder.path)
  const fs = await withAttributes(plain)
  const isRoot = await readsTrustedAttributes()
  if (!fs)
    findings.push(
      marksHidden(
        path,
        'getfattr is not installed, and the attributes of the OverlayFS are read by it',
        'install the package attr',
      ),
    )
  else if (!isRoot)
    findings.push(
      marksHidden(path, 'the attributes trusted.overlay.* of the OverlayFS are shown to root only', 'run it with sudo'),
    )
  const hasWork = await isDirectory(plain, `/${WORK}`)
  if (!hasWork) findings.push(noWork(path, `${WORK} beside it`))
  return {
    path,
    kind,
    fs: fs ?? plain,
    root: `/${name}`,
    // what is in it belongs to root
    work: hasWork && isRoot && fs ? `/${WORK}` : undefined,
    marksReadable: fs !== undefined && isRoot,
    size: undefined,
    findings,
    close: () => plain.close(),
  }
}

const imageOf = async (overlay: NonNullable<Target['overlay']>): Promise<UpperLayer | undefined> => {
  const { path } = overlay
  const file = await overlay.folder.open(overlay.name)
  const close = () => file.close()
  try {
    const type = await overlayFsType(file).catch(() => undefined)
    if (!type || NO_FILESYSTEM.includes(type)) {
      await close()
      return undefined
    }
    const fs = await openFs({ ...file, name: path })
    if (!(await isDirectory(fs, `/${UPPER}`)))
      throw new LiveError(
        'NOT_FOUND',
        `${path} is a ${fs.type} filesystem without the directory ${UPPER} that a boot looks for: there are no changes in it`,
        { device: path },
      )
    const work = (await isDirectory(fs, `/${WORK}`)) ? `/${WORK}` : undefined
    const marksReadable = hasXattrs(fs)
    const findings = [
      ...(work === undefined ? [noWork(path, `${WORK} in it`)] : []),
      ...(marksReadable
        ? []
        : [marksHidden(path, `a ${fs.type} keeps no extended attributes`, 'an OverlayFS belongs on ext4 or XFS')]),
    ]
    return {
      path,
      kind: 'image',
      fs,
      root: `/${UPPER}`,
      work,
      marksReadable,
      size: file.size,
      findings,
      close: async () => {
        await fs.close()
        await close()
      },
    }
  } catch (error) {
    await close()
    throw error
  }
}

/**
 * Opens the upper directory of a target whose changes are kept by an OverlayFS: a directory beside the base, or a filesystem in
 * a file.
 *
 * @returns  undefined where there is no overlay, or one of another kind
 * @throws NOT_FOUND  a filesystem without the directories of an OverlayFS; UNSUPPORTED  one that can't be read; READ_ONLY, CORRUPT, IO
 */
export const openUpperLayer = async (target: Target): Promise<UpperLayer | undefined> => {
  if (target.overlayDirectory !== undefined) return directoryOf(target, target.overlayDirectory)
  return target.overlay ? imageOf(target.overlay) : undefined
}

/** Lays an upper layer over the base's root. @throws CORRUPT, IO */
export const mergeUpper = (target: Target, lower: FileSystem, layer: UpperLayer): Promise<OverlayFs> =>
  openOverlayFs({
    name: `root filesystem of ${target.name}`,
    lower,
    upper: layer.fs,
    upperRoot: layer.root,
    work: layer.work,
    marksReadable: layer.marksReadable,
  })
