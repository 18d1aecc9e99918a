// What the benchmark works on: a filesystem full of real files, its squashed forms, and overlays over it. Made once, then kept.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { copyFile, lstat, mkdir, open, readlink, symlink } from 'node:fs/promises'
import { delimiter, dirname, join } from 'node:path'

const CHUNK = 4096
const SOURCE = '/usr'
/** bytes of the filesystem's size that go into files; the rest are inodes, journal and what is free */
const FULL = 0.9

/** The two settings of the main table, as mksquashfs is told. */
export const FORMS = {
  xz: { label: 'xz 128 KiB', blockSize: 131072, args: ['-comp', 'xz', '-b', '131072'] },
  zstd: { label: 'zstd 1 MiB', blockSize: 1048576, args: ['-comp', 'zstd', '-b', '1048576'] },
}
/** More forms for reading. lzo by its fast algorithm, as that changes nothing for who reads. */
export const READ_FORMS = {
  ...FORMS,
  gzip: { label: 'gzip 128 KiB', args: ['-comp', 'gzip', '-b', '131072'] },
  lz4: { label: 'lz4 128 KiB', args: ['-comp', 'lz4', '-b', '131072'] },
  lzo: { label: 'lzo 128 KiB', args: ['-comp', 'lzo', '-b', '131072', '-Xalgorithm', 'lzo1x_1'] },
}

/** mksquashfs of a folder that holds LiveOS/rootfs.img, all cores. */
export const squashCommand = (folder, target, args) => [
  'mksquashfs',
  ...[join(folder, 'LiveOS'), target, '-keep-as-directory', '-noappend', '-no-progress', '-quiet', ...args],
]

export const PATH = `${process.env.PATH ?? ''}${delimiter}/usr/sbin${delimiter}/sbin`

const run = ([program, ...args]) => {
  const { status, error, stderr } = spawnSync(program, args, {
    env: { ...process.env, PATH },
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(`${program} failed: ${error?.message ?? stderr.trim()}`)
}

/** Makes `path` by `make(temporary path)` where it is missing. */
const once = async (path, say, make) => {
  if (existsSync(path)) return path
  say(`making ${path}`)
  mkdirSync(dirname(path), { recursive: true })
  const fresh = `${path}.making`
  rmSync(fresh, { recursive: true, force: true })
  await make(fresh)
  renameSync(fresh, path)
  return path
}

/** Files of /usr in an order that is the same each time and has nothing to do with where they lie. */
export const sourceFiles = limit => {
  const found = []
  const walk = folder => {
    for (const entry of readdirSync(join(SOURCE, folder), { withFileTypes: true })) {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) walk(path)
      else if (entry.isFile() || entry.isSymbolicLink()) found.push({ path, link: entry.isSymbolicLink() })
    }
  }
  walk('')
  const order = path => createHash('md5').update(path).digest('hex')
  return found
    .map(file => ({ ...file, order: order(file.path), size: file.link ? 0 : statSync(join(SOURCE, file.path)).size }))
    .filter(({ size }) => size <= limit)
    .sort((a, b) => (a.order < b.order ? -1 : 1))
}

/** Splits the files into those that fill the image and the rest, whose bytes are what the overlays change. */
const select = size => {
  const files = sourceFiles(size / 16)
  let room = size * FULL
  const chosen = []
  const others = []
  for (const file of files) {
    const takes = Math.ceil(file.size / CHUNK) * CHUNK
    if (takes <= room) {
      room -= takes
      chosen.push(file)
    } else others.push(file)
  }
  if (room > size * 0.2) throw new Error(`${SOURCE} is too small to fill an image of ${size} bytes`)
  return { chosen, others }
}

/** An ext4 image of `size` bytes with files of /usr, as many as fill one of `content` bytes, and inodes for more. */
export const largeRoot = async (path, size, content = size, spareInodes = 16384) => {
  const tree = `${path}.tree`
  rmSync(tree, { recursive: true, force: true })
  try {
    for (const { path: name, link } of select(content).chosen) {
      const target = join(tree, name)
      await mkdir(dirname(target), { recursive: true })
      if (link) await symlink(await readlink(join(SOURCE, name)), target)
      else await copyFile(join(SOURCE, name), target)
    }
    const inodes = String(select(content).chosen.length + spareInodes)
    run(['mke2fs', '-q', '-F', '-t', 'ext4', '-m', '0', '-N', inodes, '-d', tree, path, `${size / 1024}k`])
  } finally {
    rmSync(tree, { recursive: true, force: true })
  }
}

/** Numbers from 0 to below 1, the same each time. */
export const randomFrom = seed => {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/** Bytes of files that are not in the image, one behind the other, in whole chunks. */
async function* otherChunks(size) {
  for (const { path, link, size: bytes } of select(size).others) {
    if (link || bytes < CHUNK || !(await lstat(join(SOURCE, path))).isFile()) continue
    const file = await open(join(SOURCE, path))
    try {
      for (let at = 0; at + CHUNK <= bytes; at += CHUNK) {
        const chunk = Buffer.alloc(CHUNK)
        if ((await file.read(chunk, 0, CHUNK, at)).bytesRead < CHUNK) break
        yield chunk
      }
    } finally {
      await file.close()
    }
  }
}

/**
 * Which chunks of the origin an overlay holds: `percent` of the squashfs blocks that hold data, in random order; every third of
 * them changed as a whole, the others in one to four chunks.
 */
const changedChunks = (squashFile, blockSize, percent) => {
  const random = randomFrom(percent * 7919 + blockSize)
  const blocks = []
  for (let block = 0; block < squashFile.blockCount; block++) if (squashFile.stored(block)) blocks.push(block)
  for (let n = blocks.length - 1; n > 0; n--) {
    const other = Math.floor(random() * (n + 1))
    ;[blocks[n], blocks[other]] = [blocks[other], blocks[n]]
  }
  const perBlock = blockSize / CHUNK
  const wanted = Math.round((blocks.length * percent) / 100)
  return blocks.slice(0, wanted).flatMap((block, n) => {
    const first = block * perBlock
    const all = Math.min(perBlock, Math.floor(squashFile.size / CHUNK) - first)
    if (n % 3 === 0) return Array.from({ length: all }, (_, chunk) => first + chunk)
    const some = new Set(Array.from({ length: 1 + (n % 4) }, () => first + Math.floor(random() * all)))
    return [...some]
  })
}

/** Writes a store as the kernel lays it out, one exception a changed chunk. */
const makeOverlay = async (path, { liveos, image, blockSize, percent, size }) => {
  const { encodeArea, encodeHeader, exceptionsPerArea, areaChunk, SNAP_MAGIC } = liveos.layout
  const base = await liveos.openFile(image)
  const fs = await liveos.openSquashfs(base)
  const chunks = changedChunks(await fs.open('/LiveOS/rootfs.img'), blockSize, percent)
  await base.close()
  const perArea = exceptionsPerArea(CHUNK)
  const content = otherChunks(size)
  const file = await open(path, 'w')
  try {
    await file.write(encodeHeader({ magic: SNAP_MAGIC, valid: 1, version: 1, chunk_size: CHUNK / 512 }), 0, 512, 0)
    for (let area = 0; area * perArea <= chunks.length; area++) {
      const first = areaChunk(area, perArea)
      const here = chunks.slice(area * perArea, (area + 1) * perArea)
      const exceptions = here.map((old_chunk, n) => ({ old_chunk, new_chunk: first + 1 + n }))
      await file.write(encodeArea(exceptions, CHUNK), 0, CHUNK, first * CHUNK)
      for (const { new_chunk } of exceptions) {
        const { value, done } = await content.next()
        if (done) throw new Error(`${SOURCE} has not enough files for an overlay of ${percent} %`)
        await file.write(value, 0, CHUNK, new_chunk * CHUNK)
      }
    }
    await content.return()
    await file.truncate(Math.ceil((chunks.length * 1.25 + 1024) / 256) * 256 * CHUNK)
  } finally {
    await file.close()
  }
}

/**
 * Everything the benchmark needs, by functions that make what is missing.
 *
 * @param dir     folder for it; some 12 GiB for the full size
 * @param size    bytes of the root filesystem
 * @param liveos  the library's parts that lay out an overlay and open an image
 */
export const benchImages = (dir, size, liveos, say) => {
  const rootFolder = join(dir, 'root')
  const root = () => once(join(rootFolder, 'LiveOS', 'rootfs.img'), say, path => largeRoot(path, size))
  const image = async form => {
    await root()
    return once(join(dir, `${form}.img`), say, path => run(squashCommand(rootFolder, path, READ_FORMS[form].args)))
  }
  const overlay = async (form, percent) => {
    const path = await image(form)
    const { blockSize } = FORMS[form]
    return once(join(dir, `${form}-${percent}.overlay`), say, fresh =>
      makeOverlay(fresh, { liveos, image: path, blockSize, percent, size }),
    )
  }
  return { root, image, overlay, mergedFolder: (form, percent) => join(dir, `merged-${form}-${percent}`), once }
}
