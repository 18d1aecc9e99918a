import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { copyData } from '../block/copy.js'
import type { Device } from '../block/device.js'
import { corrupt, LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import { type WriteOutcome, writeSquashfs } from '../fs/squashfs/writer.js'
import type { Folder } from '../host/folder.js'
import { chooseEncoder } from '../liveos/encoder.js'
import { type MergedRoot, openMergedRoot } from '../liveos/merged-root.js'
import { decoderOf, openStack, type Stack } from '../liveos/stack.js'
import { NEW_SUFFIX, type WritableTarget } from '../liveos/target.js'
import { checkImage, type ImageCheck } from './check-image.js'
import { planImage } from './image-plan.js'
import type { Report } from './progress.js'
import type { RefreshPlan } from './refresh.js'
import { type ImageMark, markOf } from './refresh-state.js'

/** What was compared when an image was read back, and whether from the medium. */
export type Verified =
  | (ImageCheck & { readonly readBack: 'medium' | 'page cache' })
  | { readonly bytes: number; readonly readBack: 'medium' | 'page cache' }

/** The new image as it was written and compared. */
export interface Written {
  readonly mark: ImageMark
  readonly blocks: { readonly holes: number; readonly verbatim: number; readonly encoded: number } | null
  readonly encoder: string | null
  readonly verified: Verified | null
  readonly findings: readonly Finding[]
}

const PIECE = 1 << 20

/** What copying a file came to. */
export interface Copied {
  /** over all bytes that were read back, hex */
  readonly sha256: string
  readonly readBack: 'medium' | 'page cache'
  /** owner, mode or attributes that could not be kept */
  readonly findings: readonly Finding[]
}

/** Copies a whole file, flushes it and its name, reads it back and compares. @throws CORRUPT, NO_SPACE, IO, CANCELLED */
export const copyFile = async (
  from: Folder,
  name: string,
  to: Folder,
  newName: string,
  phase: string,
  report: Report,
  signal: AbortSignal | undefined,
): Promise<Copied> => {
  const source = await from.open(name)
  try {
    let findings: readonly Finding[]
    const copy = await to.create(newName)
    try {
      await copy.truncate(source.size)
      await copyData(source, copy, {
        signal,
        onProgress: (doneBytes, totalBytes) => report({ phase, doneBytes, totalBytes }),
      })
      findings = await keepAttributes(join(from.path, name), to, newName)
      await copy.flush()
    } finally {
      await copy.close()
    }
    await to.sync()
    const back = await to.openReadBack(newName)
    try {
      return { sha256: await compareAll(source, back, report, signal), readBack: back.from, findings }
    } finally {
      await back.close()
    }
  } finally {
    await source.close()
  }
}

/** Compares two devices byte for byte. @returns SHA-256 of what was read back, hex. @throws CORRUPT  they differ, IO, CANCELLED */
export const compareAll = async (
  expected: Device,
  found: Device,
  report: Report,
  signal: AbortSignal | undefined,
): Promise<string> => {
  const fault = (offset: number) =>
    corrupt({
      device: found.name,
      offset,
      field: 'bytes read back',
      expected: `those of ${expected.name}`,
      found: 'others',
    })
  if (expected.size !== found.size)
    throw corrupt({
      device: found.name,
      offset: 0,
      field: 'size read back',
      expected: expected.size,
      found: found.size,
    })
  const hash = createHash('sha256')
  for (let at = 0; at < expected.size; at += PIECE) {
    if (signal?.aborted) throw new LiveError('CANCELLED', 'stopped while what was written was being verified')
    const length = Math.min(PIECE, expected.size - at)
    const [a, b] = await Promise.all([expected.read(at, length), found.read(at, length)])
    if (Buffer.compare(a, b) !== 0) throw fault(at)
    hash.update(b)
    report({ phase: 'verify', doneBytes: at + length, totalBytes: expected.size })
  }
  return hash.digest('hex')
}

/** SHA-256 over a whole file, hex. @throws IO, CANCELLED */
export const hashOfName = async (
  folder: Folder,
  name: string,
  report: Report,
  signal: AbortSignal | undefined,
): Promise<string> => {
  const file = await folder.openReadBack(name)
  try {
    const hash = createHash('sha256')
    for (let at = 0; at < file.size; at += PIECE) {
      if (signal?.aborted) throw new LiveError('CANCELLED', 'stopped while the staged copy was being checked')
      const length = Math.min(PIECE, file.size - at)
      hash.update(await file.read(at, length))
      report({ phase: 'check the staged copy', doneBytes: at + length, totalBytes: file.size })
    }
    return hash.digest('hex')
  } finally {
    await file.close()
  }
}

/** Writes the new image as `.new`, flushes it and its name, reads it back and compares. */
export const writeNew = async (
  source: WritableTarget,
  folder: Folder,
  name: string,
  plan: RefreshPlan,
  report: Report,
  signal: AbortSignal | undefined,
): Promise<{ written: Written; findings: readonly Finding[] }> => {
  const stack = await openStack(source)
  try {
    const merged = await openMergedRoot(stack.root, { trim: plan.options.trim, store: stack.overlay?.store })
    const written = stack.base.squashfs
      ? await writeCompressed(stack, merged, folder, name, plan, report, signal)
      : await writeRaw(stack, merged.device, folder, name, plan, report, signal)
    return { written, findings: [...merged.findings, ...written.findings] }
  } finally {
    await stack.close()
  }
}

/** FAT has neither owners nor attributes of a file: there nothing can be lost. */
const keepAttributes = async (fromPath: string, folder: Folder, name: string): Promise<readonly Finding[]> => {
  const lost = await folder.copyAttributes(fromPath, name)
  return folder.traits.kind !== 'posix'
    ? []
    : lost.map(message => ({ code: 'ATTRIBUTES_NOT_KEPT', severity: 'note', where: name, message }))
}

const writeCompressed = async (
  stack: Stack<Folder>,
  merged: MergedRoot,
  folder: Folder,
  name: string,
  { options }: RefreshPlan,
  report: Report,
  signal: AbortSignal | undefined,
): Promise<Written> => {
  const image = await planImage(stack, merged, options)
  const encoder = await chooseEncoder(image.settings.compressor, stack.pool)
  const file = await folder.create(name + NEW_SUFFIX)
  let written: WriteOutcome
  let findings: readonly Finding[]
  try {
    written = await writeSquashfs(file, image.root, image.settings, {
      encoder: encoder.encode,
      depth: decoderOf(stack.pool).depth,
      signal,
      onProgress: (doneBytes, totalBytes) => report({ phase: 'write', doneBytes, totalBytes }),
    })
    report({ phase: 'flush', doneBytes: 0, totalBytes: 0 })
    findings = await keepAttributes(stack.target.base.path, folder, name + NEW_SUFFIX)
    await file.flush()
  } finally {
    await file.close()
  }
  await folder.sync()
  const back = await folder.openReadBack(name + NEW_SUFFIX)
  try {
    let verified: Verified | null = null
    if (options.verify ?? true) {
      const check = await checkImage(back, image.root, written, {
        decoder: decoderOf(stack.pool),
        signal,
        onProgress: (doneBytes, totalBytes) => report({ phase: 'verify', doneBytes, totalBytes }),
      })
      verified = { ...check, readBack: back.from }
    }
    const blocks = { holes: written.holeBlocks, verbatim: written.verbatimBlocks, encoded: written.encodedBlocks }
    return { mark: await markOf(back), blocks, encoder: encoder.name, verified, findings }
  } finally {
    await back.close()
  }
}

const writeRaw = async (
  stack: Stack<Folder>,
  root: Device,
  folder: Folder,
  name: string,
  { options }: RefreshPlan,
  report: Report,
  signal: AbortSignal | undefined,
): Promise<Written> => {
  const file = await folder.create(name + NEW_SUFFIX)
  let findings: readonly Finding[]
  try {
    await file.truncate(root.size)
    await copyData(root, file, {
      signal,
      onProgress: (doneBytes, totalBytes) => report({ phase: 'write', doneBytes, totalBytes }),
    })
    report({ phase: 'flush', doneBytes: 0, totalBytes: 0 })
    findings = await keepAttributes(stack.target.base.path, folder, name + NEW_SUFFIX)
    await file.flush()
  } finally {
    await file.close()
  }
  await folder.sync()
  const back = await folder.openReadBack(name + NEW_SUFFIX)
  try {
    let verified: Verified | null = null
    if (options.verify ?? true) {
      await compareAll(root, back, report, signal)
      verified = { bytes: root.size, readBack: back.from }
    }
    return { mark: await markOf(back), blocks: null, encoder: null, verified, findings }
  } finally {
    await back.close()
  }
}
