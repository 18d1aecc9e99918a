import { readFile, writeFile } from 'node:fs/promises'
import { putMbr } from './partition-tables.js'

const MIB = 1 << 20

/** A partition of an image: its number, and what is in it. Sizes are bytes, whole sectors. */
export interface Laid {
  readonly start: number
  readonly length: number
}

/** Writes an image with an MBR whose partitions hold these bytes, each from a whole MiB on, and zeros behind the last one. */
export const writePartitions = async (
  path: string,
  contents: readonly Uint8Array[],
  behind = 0,
): Promise<readonly Laid[]> => {
  let start = MIB
  const laid = contents.map(({ length }) => {
    const part = { start, length }
    start += Math.ceil(length / MIB) * MIB
    return part
  })
  const image = new Uint8Array(start + behind)
  putMbr(
    image,
    0,
    laid.map(part => ({ type: 0x83, start: part.start / 512, size: part.length / 512 })),
  )
  for (const [index, bytes] of contents.entries()) image.set(bytes, laid[index]!.start)
  await writeFile(path, image)
  return laid
}

/** The bytes of a part of an image, and all others. */
export const splitImage = async (
  path: string,
  { start, length }: Laid,
): Promise<{ readonly part: Uint8Array; readonly rest: Uint8Array }> => {
  const bytes = new Uint8Array(await readFile(path))
  return {
    part: bytes.slice(start, start + length),
    rest: Buffer.concat([bytes.subarray(0, start), bytes.subarray(start + length)]),
  }
}
