import { execFile } from 'node:child_process'
import { mkdir, open, readdir, readFile, truncate, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { bytesOf } from './small-stick.js'
import { tool } from './tools.js'

const execute = promisify(execFile)

/** Runs a program of mtools or dosfstools, in UTC and UTF-8; its exit status does not matter where `anyStatus`. */
export const runFat = async (words: readonly string[], anyStatus = false): Promise<string> => {
  const env = { ...process.env, LC_ALL: 'C.UTF-8', TZ: 'UTC', MTOOLS_SKIP_CHECK: '1' }
  try {
    return (await execute(tool(words[0]!)!, words.slice(1), { env, maxBuffer: 1 << 26 })).stdout
  } catch (error) {
    if (!anyStatus) throw error
    return String((error as { stdout?: string }).stdout)
  }
}

/** A kind of volume that mkfs.vfat makes. */
export interface Shape {
  readonly variant: 12 | 16 | 32
  /** bytes of the image */
  readonly size: number
  readonly options?: readonly string[]
}

/** Volumes of few megabytes, but that mtools takes FAT32 with fewer than 65,525 clusters for FAT16. */
export const SHAPES: readonly Shape[] = [
  { variant: 12, size: 4 << 20, options: ['-s', '2'] },
  { variant: 12, size: 1440 << 10 },
  { variant: 16, size: 10 << 20, options: ['-s', '4'] },
  { variant: 16, size: 24 << 20, options: ['-s', '1', '-S', '4096', '-r', '1024'] },
  { variant: 32, size: 36 << 20, options: ['-s', '1'] },
  { variant: 32, size: 280 << 20, options: ['-s', '1', '-S', '4096'] },
]

/** An empty volume with the label `Test VOL` in capitals and the id 1A2B-3C4D. */
export const makeVolume = async (file: string, { variant, size, options = [] }: Shape): Promise<void> => {
  await writeFile(file, '')
  await truncate(file, size)
  await runFat(['mkfs.vfat', '-F', String(variant), '-n', 'TEST VOL', '-i', '1a2b3c4d', ...options, file])
}

/** Content of files that are mixed on the medium: each is a fifth of a megabyte at most. */
export const makeTree = async (tree: string): Promise<void> => {
  const put = async (name: string, content: Uint8Array | string, seconds = 1_600_000_000): Promise<void> => {
    await mkdir(join(tree, name, '..'), { recursive: true })
    await writeFile(join(tree, name), content)
    await utimes(join(tree, name), seconds, seconds)
  }
  await put('readme.txt', 'small\n')
  await put('UPPER.TXT', 'short name as it is\n', 315_532_800)
  await put('lower.BIN', bytesOf(1, 4096), 2_147_483_646)
  await put('empty', '')
  await put('Long Name with Blanks.config', bytesOf(2, 511), 951_782_400)
  await put('Grüße é.txt', bytesOf(3, 513))
  await put('日本語のファイル.txt', bytesOf(4, 1025))
  await put(`${'x'.repeat(251)}.txt`, 'as long as a name may be\n')
  await put('thirteen.four', 'a name that fills a part\n')
  await put('deep/er/and/deep er/still/file', bytesOf(5, 70_000))
  await put('LiveOS/squashfs.img', bytesOf(6, 200_000))
  await put('empty directory/.keep', '')
  for (let n = 0; n < 60; n++) await put(`many/file number ${n}.dat`, String(n))
}

/** Paths of all files below a directory, and their content. */
export const filesBelow = async (directory: string): Promise<ReadonlyMap<string, Uint8Array>> => {
  const found = new Map<string, Uint8Array>()
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true }))
    if (entry.isFile()) {
      const full = join(entry.parentPath, entry.name)
      found.set(full.slice(directory.length), await readFile(full))
    }
  return found
}

/** Takes the hint of where to look for free clusters out of FAT32's FSInfo, so that the next file fills the holes. */
const forgetHint = async (image: string): Promise<void> => {
  const file = await open(image, 'r+')
  try {
    const { buffer } = await file.read(Buffer.alloc(64), 0, 64)
    if (buffer.readUInt16LE(22) === 0)
      await file.write(Buffer.alloc(8, 0xff), 0, 8, buffer.readUInt16LE(48) * buffer.readUInt16LE(11) + 488)
  } finally {
    await file.close()
  }
}

/** Fills a volume with the tree, and with files that lie in pieces since others were deleted between them. */
export const fillVolume = async (image: string, tree: string, scratch: string, clusterSize: number): Promise<void> => {
  const names = await readdir(tree)
  await runFat(['mcopy', '-m', '-s', '-i', image, ...names.map(name => join(tree, name)), '::'])
  await mkdir(scratch, { recursive: true })
  const small = Array.from({ length: 40 }, (_, n) => join(scratch, `hole${n}`))
  for (const file of small) await writeFile(file, bytesOf(9, clusterSize * 2))
  await runFat(['mcopy', '-i', image, ...small, '::'])
  await runFat(['mdel', '-i', image, ...small.filter((_, n) => n % 2 === 0).map((_, n) => `::/hole${n * 2}`)])
  await forgetHint(image)
  const pieces = ['pieces one', 'pieces two']
  for (const [n, name] of pieces.entries()) {
    await writeFile(join(scratch, name), bytesOf(20 + n, clusterSize * 17 + 123))
    await runFat(['mcopy', '-i', image, join(scratch, name), '::'])
  }
}
