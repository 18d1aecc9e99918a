// What a look is measured on: an ISO, a root raw and squashed, and two overlays of real changes. Made once, then kept.
import { spawnSync } from 'node:child_process'
import { mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { largeRoot, PATH, randomFrom, sourceFiles, squashCommand } from './bench-images.mjs'

const GIB = 2 ** 30
const CHUNK = 4096
const PIECE = 8 << 20
/** bytes of changes, as a share of the root: 300 MiB of 4 GiB */
const CHANGED = 300 / 4096
/** so many files have to find inodes that were free in the root */
const SPARE_INODES = 65536

const run = ([program, ...args], input) => {
  const { status, error, stdout, stderr } = spawnSync(program, args, {
    env: { ...process.env, PATH },
    stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    ...(input === undefined ? {} : { input }),
  })
  if (status !== 0) throw new Error(`${program} failed: ${error?.message ?? stderr.slice(-500)}`)
  return { stdout, stderr }
}

const isPlain = path => !/["\s]/.test(path)

/** Changes an image by debugfs, which goes on behind what it could not do and tells of it only in words. */
const debugfs = (image, lines) => {
  const script = `${image}.changes`
  writeFileSync(script, `${lines.join('\n')}\n`)
  const { stderr } = run(['debugfs', '-w', '-f', script, image])
  rmSync(script)
  const wrong = stderr.split('\n').filter(line => line !== '' && !line.startsWith('debugfs 1.'))
  if (wrong.length > 0) throw new Error(`debugfs: ${wrong[0]}`)
}

/** Files of /usr that go in as new ones, and twenty files of the root removed. */
const writeNew = (image, size, room) => {
  const listed = spawnSync('debugfs', ['-R', 'ls -p /lib', image], { env: { ...process.env, PATH }, encoding: 'utf8' })
  const removed = [...listed.stdout.matchAll(/^\/\d+\/10\d{4}\/\d+\/\d+\/([^/]+)\//gm)].map(match => `/lib/${match[1]}`)
  const lines = ['mkdir /changed']
  let n = 0
  for (const { path, link, size: bytes } of sourceFiles(size / 16)) {
    if (link || bytes === 0 || bytes > room || !isPlain(path)) continue
    room -= Math.ceil(bytes / CHUNK) * CHUNK
    if (n % 500 === 0) lines.push(`mkdir /changed/${n / 500}`)
    lines.push(`write "${join('/usr', path)}" /changed/${Math.floor(n / 500)}/${n}`)
    n++
  }
  for (const path of removed.filter(isPlain).slice(0, 20)) lines.push(`rm "${path}"`)
  debugfs(image, lines)
}

/** All regular files of a filesystem that have a whole chunk, in its order. */
async function* filesOf(fs, folder = '/') {
  for (const { name, kind } of await fs.list(folder)) {
    const path = join(folder, name)
    if (kind === 'directory') yield* filesOf(fs, path)
    else if (kind === 'file' && isPlain(path)) yield path
  }
}

/** Files of the root rewritten where they lie, as databases are: every third as a whole, of others one to four chunks. */
const rewrite = async (image, room, { openFile, openExt4 }) => {
  const random = randomFrom(7919)
  const device = await openFile(image)
  const fs = await openExt4(device)
  const files = []
  for await (const path of filesOf(fs)) files.push({ path, order: random() })
  files.sort((a, b) => a.order - b.order)
  const target = await open(image, 'r+')
  const lines = []
  try {
    for (const { path } of files) {
      if (room <= 0) break
      const chunks = (await fs.extents(path)).flatMap(({ start, length }) =>
        Array.from({ length: Math.floor(length / CHUNK) }, (_, n) => start + n * CHUNK),
      )
      if (chunks.length === 0) continue
      const first = Math.floor(random() * chunks.length)
      const some = lines.length % 3 === 0 ? chunks : chunks.slice(first, first + 1 + (lines.length % 4))
      for (const at of some) {
        const bytes = Buffer.from(await device.read(at, CHUNK))
        for (let n = 0; n < CHUNK; n += 64) bytes[n] ^= 0x55
        await target.write(bytes, 0, CHUNK, at)
      }
      room -= some.length * CHUNK
      lines.push(`set_inode_field "${path}" mtime @1800000000`)
    }
  } finally {
    await Promise.all([target.close(), device.close()])
  }
  debugfs(image, lines)
}

/** The store of what differs between two images, as the kernel would have it. */
const storeOfDifference = async (path, before, after, layout) => {
  const { encodeArea, encodeHeader, exceptionsPerArea, areaChunk, SNAP_MAGIC } = layout
  const [a, b, out] = await Promise.all([open(before), open(after), open(path, 'w')])
  try {
    const { size } = await a.stat()
    const [x, y] = [Buffer.alloc(PIECE), Buffer.alloc(PIECE)]
    const perArea = exceptionsPerArea(CHUNK)
    const exceptions = []
    let next = 2
    for (let at = 0; at < size; at += PIECE) {
      const { bytesRead } = await a.read(x, 0, PIECE, at)
      await b.read(y, 0, PIECE, at)
      if (x.equals(y)) continue
      for (let chunk = 0; chunk < bytesRead; chunk += CHUNK) {
        const piece = y.subarray(chunk, chunk + CHUNK)
        if (x.subarray(chunk, chunk + CHUNK).equals(piece)) continue
        await out.write(piece, 0, CHUNK, next * CHUNK)
        exceptions.push({ old_chunk: (at + chunk) / CHUNK, new_chunk: next++ })
        if (exceptions.length % perArea === 0) next++
      }
    }
    await out.write(encodeHeader({ magic: SNAP_MAGIC, valid: 1, version: 1, chunk_size: CHUNK / 512 }), 0, 512, 0)
    for (let area = 0; area * perArea <= exceptions.length; area++)
      await out.write(
        encodeArea(exceptions.slice(area * perArea, (area + 1) * perArea), CHUNK),
        0,
        CHUNK,
        areaChunk(area, perArea) * CHUNK,
      )
    await out.truncate((next + 4096) * CHUNK)
  } finally {
    await Promise.all([a.close(), b.close(), out.close()])
  }
}

/** A root of 4 GiB, raw and squashed, two overlays with 300 MiB of real changes each, and an ISO; makes what is missing. */
export const lookImages = async ({ dir, size, liveos, once, say, squashed }) => {
  const folder = join(dir, 'look')
  mkdirSync(join(folder, 'LiveOS'), { recursive: true })
  const large = size >= 2 * GIB ? 4 * GIB : size * 2
  const room = Math.round(large * CHANGED)
  const root = await once(join(folder, 'LiveOS', 'rootfs.img'), say, path => largeRoot(path, large, size, SPARE_INODES))
  const overlayOf = (name, change) =>
    once(join(folder, `${name}.overlay`), say, async path => {
      const changed = join(folder, 'changed.img')
      run(['cp', '--reflink=auto', '--sparse=always', root, changed])
      await change(changed)
      await storeOfDifference(path, root, changed, liveos.layout)
      rmSync(changed)
      const { size: bytes } = statSync(path)
      if (bytes < room) throw new Error(`${name}: ${bytes} bytes of changes in the place of ${room}`)
    })
  const overlays = {
    written: await overlayOf('written', image => writeNew(image, large, room)),
    rewritten: await overlayOf('rewritten', image => rewrite(image, room, liveos)),
  }
  const squashes = []
  for (const [comp, name, ...more] of [
    ['zstd', 'squashfs.img', '-Xcompression-level', '3'],
    ['xz', 'squashfs-xz.img'],
  ]) {
    const args = ['-comp', comp, '-b', '131072', ...more]
    squashes.push({ comp, path: await once(join(folder, name), say, path => run(squashCommand(folder, path, args))) })
  }
  // as large as the ones that people have: with what else is on them
  const more = [...squashes.map(({ path }) => path), overlays.written]
  const iso = await once(join(folder, 'live.iso'), say, path =>
    run([
      ...['xorriso', '-as', 'mkisofs', '-quiet', '-R', '-J', '-V', 'BENCH', '-o', path, '-graft-points'],
      `LiveOS/squashfs.img=${squashed}`,
      ...more.map((file, n) => `Packages/${n}=${file}`),
    ]),
  )
  return { root, overlays, squashes, iso }
}
