import { realpath, statfs } from 'node:fs/promises'
import { basename, dirname, join, resolve, sep } from 'node:path'
import type { Writable } from 'node:stream'
import { LiveError, systemError } from '../error.js'
import type { Finding } from '../finding.js'
import { type FileSystem, splitPath } from '../fs/filesystem.js'
import { printableName } from '../fs/name.js'
import { type FolderTraits, traitsOf } from '../host/folder.js'
import { findTool, runTool } from '../host/process.js'
import type { Keeping } from './copy-attributes.js'
import { copyToDirectory } from './copy-directory.js'
import { type CopyCounts, type CopyFindings, copyFindings } from './copy-findings.js'
import { type CopyPath, type CopySource, copySource } from './copy-source.js'
import { copyToTar } from './copy-tar.js'
import { type Progress, progressing, type Report } from './progress.js'

/** Where a tree goes: a directory of this computer, made where it is missing, or a stream that takes a tar archive. */
export type CopyTarget = { readonly directory: string } | { readonly tar: Writable }

export interface CopyTreeInput {
  readonly from: FileSystem
  /** A path keeps its last name in the target, and `/` is the target itself; or else the names are given. */
  readonly paths: readonly (string | CopyPath)[]
  readonly to: CopyTarget
}

/** What is kept and what may be lost. An archive keeps owners, modes, devices and attributes in any case. */
export interface CopyTreeOptions {
  /** files of the target may be replaced; each becomes a new inode */
  readonly overwrite?: boolean | undefined
  /** owners, set-uid bits and devices as they are; only root can */
  readonly sameOwner?: boolean | undefined
  /** set-uid and set-gid bits, for files of the caller */
  readonly setUid?: boolean | undefined
  /** extended attributes, as far as the target takes them */
  readonly xattrs?: boolean | undefined
  /** Of a file that can't be read to its end keep what could be: `.partial` is added to its name. In an archive the rest is zeros. */
  readonly keepPartial?: boolean | undefined
  /** look first whether there is space; true if left out */
  readonly checkSpace?: boolean | undefined
  /** have all on the medium at the end; true if left out */
  readonly flush?: boolean | undefined
  readonly signal?: AbortSignal | undefined
}

export interface CopyTreeOutcome extends CopyCounts {
  readonly verb: 'copy'
  /** all that was not copied, or not as it was; severity `error` where bytes are missing */
  readonly findings: readonly Finding[]
}

/** Bytes that a file or directory takes beside its data, for the question whether there is space. */
const PER_ITEM = 512

/** The filesystem a directory is on, or will be. */
const spaceAt = async (directory: string): Promise<{ traits: FolderTraits; freeBytes: number }> => {
  for (const path of [directory, dirname(directory)]) {
    try {
      const { type, bavail, bsize } = await statfs(path)
      return { traits: traitsOf(type), freeBytes: bavail * bsize }
    } catch (error) {
      if (path !== directory) throw systemError(error, `looking at ${path}`)
    }
  }
  throw new LiveError('NOT_FOUND', `${directory}: no such directory`, { path: directory })
}

/** @throws USAGE  the target is inside of what is copied */
const checkOutside = async ({ from, paths }: CopyTreeInput, directory: string): Promise<void> => {
  // of a FileSystem only one of this computer can hold the target
  if (!('medium' in from && 'path' in from && typeof from.path === 'string')) return
  const full = resolve(directory)
  const to = await realpath(full).catch(async () =>
    join(await realpath(dirname(full)).catch(() => dirname(full)), basename(full)),
  )
  const root = await realpath(from.path)
  for (const given of paths) {
    const path = resolve(root, ...splitPath(typeof given === 'string' ? given : given.path))
    if (to === path || to.startsWith(path === sep ? sep : path + sep))
      throw new LiveError('USAGE', `${directory} is inside of ${printableName(path)}, which is to be copied`, {
        path: directory,
      })
  }
}

const putOnMedium = async (directory: string, findings: CopyFindings, report: Report): Promise<void> => {
  report({ phase: 'flush', doneBytes: 0, totalBytes: 0 })
  const tool = await findTool('sync')
  const { code, stderr } = tool
    ? await runTool('sync', ['-f', '--', directory])
    : { code: 1, stderr: 'sync is missing' }
  if (code === 0) return
  findings.add({
    code: 'NOT_FLUSHED',
    severity: 'warning',
    where: directory,
    message: `the copy may not be on the medium yet (${stderr.trim()})`,
    remedy: 'unmount it before you unplug it',
  })
}

const toDirectory = async (
  input: CopyTreeInput,
  directory: string,
  source: CopySource,
  options: CopyTreeOptions,
  findings: CopyFindings,
  report: Report,
): Promise<CopyCounts> => {
  await checkOutside(input, directory)
  const { traits, freeBytes } = await spaceAt(directory)
  const { signal, overwrite = false, keepPartial = false, checkSpace = true, flush = true } = options
  const { dataBytes, bytes, items } = await source.measure(measured =>
    report({ phase: 'measure', doneBytes: measured, totalBytes: 0 }),
  )
  const needed = (traits.holes ? dataBytes : bytes) + items * PER_ITEM
  if (checkSpace && !overwrite && needed > freeBytes)
    throw new LiveError(
      'NO_SPACE',
      `copying to ${directory} takes about ${needed} bytes, and there are ${freeBytes} free`,
      { neededBytes: needed, freeBytes },
    )
  const isRoot = process.getuid?.() === 0
  const sameOwner = options.sameOwner === true && isRoot && traits.kind === 'posix'
  if (options.sameOwner && !sameOwner)
    findings.add({
      code: 'OWNERS_NOT_KEPT',
      severity: 'warning',
      where: directory,
      message: isRoot ? 'the target keeps no owners' : 'only root can give files to other owners: run it with sudo',
    })
  const keeping: Keeping = {
    owners: sameOwner,
    setUid: sameOwner || options.setUid === true,
    devices: sameOwner,
    xattrs: options.xattrs === true,
    modes: traits.kind === 'posix',
  }
  let doneBytes = 0
  const counts = await copyToDirectory({
    source,
    to: directory,
    keeping,
    overwrite,
    keepPartial,
    traits,
    findings,
    signal,
    onBytes(more) {
      doneBytes = Math.min(bytes, doneBytes + more)
      report({ phase: 'copy', doneBytes, totalBytes: bytes })
    },
  })
  if (flush) await putOnMedium(directory, findings, report)
  return counts
}

/**
 * Copies trees out of any FileSystem, into a directory of this computer or a tar archive. Damage in the source ends
 * nothing: what can't be read is in the findings. In a directory no symlink is followed, nothing is replaced unless
 * `overwrite`, and no file has its name before it is whole, except for the small ones in directories that the copy made, of which
 * one is written at a time; what else a killed copy leaves are files named `.liveos-part-…`.
 *
 * @throws USAGE  the target is inside of what is copied, or a given name leads out of it
 * @throws NOT_FOUND  a path of the source, or the directory that the target is to be in
 * @throws NO_SPACE, READ_ONLY, IO  of the target
 * @throws CANCELLED  the signal was aborted: whole files stay
 */
export async function* copyTree(
  input: CopyTreeInput,
  options: CopyTreeOptions = {},
): AsyncGenerator<Progress, CopyTreeOutcome> {
  return yield* progressing(async report => {
    const { from, paths, to } = input
    const { signal, keepPartial = false } = options
    const findings = copyFindings()
    // an archive of the same tree is the same archive
    const order = 'tar' in to ? 'bytes' : 'medium'
    const source = copySource(from, paths, order, finding => findings.add(finding), signal)
    let counts: CopyCounts
    if ('tar' in to) {
      const { bytes } = await source.measure(doneBytes => report({ phase: 'measure', doneBytes, totalBytes: 0 }))
      let doneBytes = 0
      const onBytes = (more: number): void => {
        doneBytes = Math.min(bytes, doneBytes + more)
        report({ phase: 'copy', doneBytes, totalBytes: bytes })
      }
      counts = await copyToTar({ source, to: to.tar, keepPartial, findings, signal, onBytes })
    } else counts = await toDirectory(input, to.directory, source, options, findings, report)
    return { verb: 'copy' as const, ...counts, findings: findings.all() }
  })
}
