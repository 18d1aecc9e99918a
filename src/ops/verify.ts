import { readStore } from '../block/snapshot/store.js'
import { openPool } from '../bytes/pool.js'
import { isLiveError, LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { detectFs, type FsType, overlayFsType } from '../fs/detect.js'
import { checkExt4Size, readExt4Superblock } from '../fs/ext4/superblock.js'
import { filesOf } from '../fs/squashfs/pieces.js'
import { openSquashfs, type Squashfs } from '../fs/squashfs/reader.js'
import { readTree } from '../fs/squashfs/tree.js'
import type { ReadFrom } from '../host/folder.js'
import { openBase } from '../liveos/stack.js'
import type { Target, TargetFile } from '../liveos/target.js'
import { type Progress, progressing, type Report } from './progress.js'

/** What a check of a base image found. */
export interface VerifyOutcome {
  readonly verb: 'verify'
  readonly base: string
  readonly overlay: string | null
  /**
   * - `ok` everything read, and every block carries a checksum that is right
   * - `unverified` everything read and expands as it should, but its compressor keeps no checksums, or some blocks are not compressed
   * - `damaged` see findings
   */
  readonly result: 'ok' | 'unverified' | 'damaged'
  /** in words, what was compared with what */
  readonly compared: readonly string[]
  readonly readFrom: ReadFrom
  readonly blocks: {
    readonly data: number
    readonly holes: number
    readonly fragments: number
    readonly bytes: number
  } | null
  readonly findings: readonly Finding[]
}

/** Checksums that the blocks of each compressor carry. */
const CHECKSUMS: Readonly<Record<string, string | undefined>> = { xz: 'CRC32', gzip: 'Adler-32' }
const PIECE = 1 << 20
/** damaged places told one by one before only their number is */
const MOST_FINDINGS = 50

/** Reads every block of the base and the overlay's list, from the medium where that is possible. Damage is told as findings. @throws NOT_FOUND, UNSUPPORTED, CANCELLED */
export async function* runVerify(
  target: Target,
  { signal }: { readonly signal?: AbortSignal | undefined } = {},
): AsyncGenerator<Progress, VerifyOutcome> {
  return yield* progressing(async report => {
    const findings: Finding[] = []
    const file = await target.base.folder.openReadBack(target.base.name)
    const pool = openPool()
    try {
      const compared: string[] = []
      let blocks: VerifyOutcome['blocks'] = null
      let checksum: string | undefined
      let originSize: number | undefined
      try {
        if ((await detectFs(file)) === 'squashfs') {
          const fs = await openSquashfs(file, { decoder: { decode: pool.decode, depth: pool.threads * 3 } })
          checksum = CHECKSUMS[fs.compressor.name]
          const { raw, ...count } = await verifySquashfs(fs, findings, report, signal)
          blocks = count
          compared.push(
            `superblock, inodes, directories, fragments, ids and xattrs parsed and held against each other`,
            checksum
              ? `every block expanded to its length, and ${raw > 0 ? `the ${checksum} of those that are compressed` : `its ${checksum}`} checked`
              : `every block expanded to its length; ${fs.compressor.name} blocks carry no checksum, so their content is unverified`,
          )
          if (checksum && raw > 0) {
            checksum = undefined
            compared.push(`blocks that are not compressed carry no checksum, so what they hold is unverified: ${raw}`)
          }
        } else {
          await readAll(file, findings, report, signal)
          compared.push(
            'every byte of the image read; an uncompressed image carries no checksums, so its content is unverified',
          )
        }
        const buffered = await target.base.folder.open(target.base.name)
        try {
          const base = await openBase(buffered)
          originSize = base.origin.size
          if ((await detectFs(base.origin)) === 'ext4') {
            checkExt4Size(await readExt4Superblock(base.origin), base.origin)
            compared.push('superblock of the ext4 root')
          }
        } finally {
          await buffered.close()
        }
      } catch (error) {
        if (!isLiveError(error) || error.code === 'CANCELLED' || error.code === 'UNSUPPORTED') throw error
        damaged(findings, target.base.path, error)
      }
      if (target.overlay) await verifyOverlay(target.overlay, originSize, compared, findings)
      const bad = findings.some(finding => finding.severity === 'error')
      return {
        verb: 'verify' as const,
        base: target.base.path,
        overlay: target.overlay?.path ?? null,
        result: bad ? ('damaged' as const) : checksum ? ('ok' as const) : ('unverified' as const),
        compared,
        readFrom: file.from,
        blocks,
        findings,
      }
    } finally {
      await pool.close()
      await file.close()
    }
  })
}

const damaged = (findings: Finding[], where: string, error: unknown): void => {
  findings.push({
    code: 'DAMAGED',
    severity: 'error',
    where,
    message: error instanceof Error ? error.message : String(error),
    remedy: 'copy this image again from where it came, or from a backup',
  })
}

const stopIf = (signal: AbortSignal | undefined): void => {
  if (signal?.aborted) throw new LiveError('CANCELLED', 'stopped; verifying changes nothing')
}

const verifySquashfs = async (
  fs: Squashfs,
  findings: Finding[],
  report: Report,
  signal: AbortSignal | undefined,
): Promise<NonNullable<VerifyOutcome['blocks']> & { readonly raw: number }> => {
  const root = await readTree(fs)
  const files = [...filesOf(root)]
  const totalBytes = files.reduce((sum, file) => sum + file.content.size, 0)
  const raw = fs.fragments.filter(({ compressed }) => !compressed).length
  const count = { data: 0, holes: 0, fragments: fs.fragments.length, bytes: 0, raw }
  let more = 0
  const tell = (error: unknown) => {
    if (!isLiveError(error)) throw error
    if (findings.length < MOST_FINDINGS) damaged(findings, fs.name, error)
    else more++
  }
  const depth = 8
  const window: Promise<void>[] = []
  const add = async (work: Promise<unknown>) => {
    window.push(work.then(() => undefined, tell))
    if (window.length >= depth) await window.shift()
  }
  for (let index = 0; index < fs.fragments.length; index++) {
    stopIf(signal)
    await add(fs.readFragment(index))
  }
  for (const { reuse } of files) {
    const { file } = reuse!
    for (let block = 0; block < file.blockCount; block++) {
      stopIf(signal)
      const at = file.stored(block)
      if (!at) count.holes++
      else {
        count.data++
        if (!at.compressed) count.raw++
        await add(file.readBlock(block))
      }
      count.bytes += file.lengthOf(block)
      report({ phase: 'verify', doneBytes: count.bytes, totalBytes })
    }
    count.bytes += file.tailSize
  }
  await Promise.all(window)
  if (more > 0)
    findings.push({ code: 'DAMAGED', severity: 'error', where: fs.name, message: `${more} more blocks are damaged` })
  return count
}

const readAll = async (
  file: { readonly name: string; readonly size: number; read(offset: number, length: number): Promise<Uint8Array> },
  findings: Finding[],
  report: Report,
  signal: AbortSignal | undefined,
): Promise<void> => {
  for (let at = 0; at < file.size; at += PIECE) {
    stopIf(signal)
    const length = Math.min(PIECE, file.size - at)
    try {
      await file.read(at, length)
    } catch (error) {
      if (findings.length < MOST_FINDINGS) damaged(findings, `${file.name} at byte ${at}`, error)
    }
    report({ phase: 'verify', doneBytes: at + length, totalBytes: file.size })
  }
}

/** What looks at a filesystem and changes nothing. */
const CHECKERS: Partial<Readonly<Record<FsType, string>>> = { ext4: 'e2fsck -fn', xfs: 'xfs_repair -n' }

const verifyOverlay = async (
  { folder, name, path }: TargetFile,
  originSize: number | undefined,
  compared: string[],
  findings: Finding[],
): Promise<void> => {
  const overlay = await folder.open(name)
  try {
    const type = await overlayFsType(overlay)
    if (type) {
      findings.push({
        code: 'OVERLAY_UNSUPPORTED',
        severity: 'note',
        where: path,
        message: `this overlay is a filesystem (${type}) that an OverlayFS keeps whole files in: it is not verified`,
        remedy: `check it with ${CHECKERS[type] ?? `the tools of ${type}`}`,
      })
      return
    }
    const store = await readStore(overlay, { originSize })
    if (store.state === 'invalid')
      findings.push({
        code: 'OVERLAY_INVALID',
        severity: 'error',
        where: path,
        message: 'the kernel has marked the overlay invalid',
      })
    else if (store.truncated)
      findings.push({
        code: 'OVERLAY_DAMAGED',
        severity: 'error',
        where: path,
        message: 'the overlay was cut off behind a full metadata area',
      })
    else
      compared.push(
        `the overlay's list of ${store.exceptions.count} exceptions, against the sizes of overlay and base; an overlay carries no checksums, so its data is unverified`,
      )
  } catch (error) {
    damaged(findings, path, error)
  } finally {
    await overlay.close()
  }
}
