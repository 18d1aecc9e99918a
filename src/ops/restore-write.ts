import { createHash } from 'node:crypto'
import { type Device, extentsOf, isZero } from '../block/device.js'
import type { GrowingFile } from '../block/file.js'
import { corrupt, LiveError } from '../error.js'
import type { Finding } from '../finding.js'
import type { Folder } from '../host/folder.js'
import { NEW_SUFFIX } from '../liveos/target.js'
import { eachPiece } from './backup-write.js'

/** A file that is to be written beside the one it will replace. */
export interface NewFile {
  readonly folder: Folder
  readonly name: string
  readonly size: number
  /** SHA-256 over all of it, hex */
  readonly sha256: string
  /** holes may stay holes; else they are zeros that are written */
  readonly sparse: boolean
}

const PIECE = 1 << 20

/** True where the file has these bytes already. */
const hasBytes = async (file: GrowingFile, offset: number, bytes: Uint8Array): Promise<boolean> =>
  offset + bytes.length <= file.size && Buffer.compare(await file.read(offset, bytes.length), bytes) === 0

/** Writes what the file has not got yet, so that a run after one that was cut short writes only the rest. */
const fill = async (
  file: GrowingFile,
  source: Device,
  sparse: boolean,
  onBytes: (bytes: number) => void,
  signal: AbortSignal | undefined,
): Promise<string> => {
  const hash = createHash('sha256')
  if (file.size > source.size) await file.truncate(source.size)
  for await (const extent of extentsOf(source))
    for (let at = extent.offset; at < extent.offset + extent.length; at += PIECE) {
      if (signal?.aborted) throw new LiveError('CANCELLED', `stopped while ${file.name} was being written`)
      const length = Math.min(PIECE, extent.offset + extent.length - at)
      const bytes = await source.read(at, length)
      hash.update(bytes)
      if (sparse && extent.kind === 'hole') await clear(file, at, bytes)
      else if (!(await hasBytes(file, at, bytes))) await file.write(at, bytes)
      onBytes(length)
    }
  // a hole at the end
  if (file.size < source.size) await file.truncate(source.size)
  return hash.digest('hex')
}

/** Leaves a hole where the file has none of these bytes yet, or only zeros. */
const clear = async (file: GrowingFile, offset: number, zeros: Uint8Array): Promise<void> => {
  const length = Math.min(zeros.length, file.size - offset)
  if (length > 0 && !isZero(await file.read(offset, length))) await file.write(offset, zeros.subarray(0, length))
}

/**
 * Writes a file as `.new`, or goes on with one that is there, flushes it and its name, reads it back and counts its checksum.
 *
 * @param like  path of the file that it will replace, whose owner, mode and attributes it gets
 * @throws CORRUPT  the backup, or what was read back, has another checksum; NO_SPACE, IO, CANCELLED
 */
export const writeNew = async (
  { folder, name, size, sha256, sparse }: NewFile,
  source: Device,
  like: string | undefined,
  onBytes: (phase: 'write' | 'verify', bytes: number) => void,
  signal: AbortSignal | undefined,
): Promise<{ readBack: 'medium' | 'page cache'; findings: readonly Finding[] }> => {
  const newName = name + NEW_SUFFIX
  const file = (await folder.facts(newName)) ? await folder.openGrowing(newName) : await folder.create(newName)
  let findings: readonly Finding[] = []
  try {
    const digest = await fill(file, source, sparse, bytes => onBytes('write', bytes), signal)
    if (digest !== sha256)
      throw corrupt({ device: source.name, offset: 0, field: 'SHA-256', expected: sha256, found: digest })
    if (like !== undefined) findings = await keepAttributes(folder, like, newName)
    await file.flush()
  } finally {
    await file.close()
  }
  await folder.sync()
  const back = await folder.openReadBack(newName)
  try {
    const hash = createHash('sha256')
    await eachPiece(back, `${newName} was being read back`, signal, bytes => {
      hash.update(bytes)
      onBytes('verify', bytes.length)
    })
    const digest = hash.digest('hex')
    if (back.size !== size || digest !== sha256)
      throw corrupt({ device: back.name, offset: 0, field: 'SHA-256 read back', expected: sha256, found: digest })
    return { readBack: back.from, findings }
  } finally {
    await back.close()
  }
}

const keepAttributes = async (folder: Folder, from: string, name: string): Promise<readonly Finding[]> => {
  const lost = await folder.copyAttributes(from, name)
  return folder.traits.kind !== 'posix'
    ? []
    : lost.map(message => ({ code: 'ATTRIBUTES_NOT_KEPT', severity: 'note', where: name, message }))
}
