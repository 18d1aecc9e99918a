// What looking costs: inspect of a 2 GiB ISO, diff and usage of a raw and of a squashed 4 GiB root with 300 MiB of real changes.
import { spawnSync } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { largeRoot, PATH, sourceFiles, squashCommand } from './bench-images.mjs'

const GIB = 2 ** 30
const CHUNK = 4096
const PIECE = 8 << 20
const CHANGED = 300 << 20

const run = ([program, ...args], input) => {
  const { status, error, stderr } = spawnSync(program, args, {
    env: { ...process.env, PATH },
    stdio: [input === undefined ? 'ignore' : 'pipe', 'ignore', 'pipe'],
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    ...(input === undefined ? {} : { input }),
  })
  if (status !== 0) throw new Error(`${program} failed: ${error?.message ?? stderr.slice(-500)}`)
}

/** Files of /usr that go in as new ones, 300 MiB of them, and every tenth file of the root removed. */
const changes = (size, removed) => {
  let room = CHANGED
  const lines = ['mkdir /changed']
  let n = 0
  for (const { path, link, size: bytes } of sourceFiles(size / 16)) {
    if (link || bytes === 0 || bytes > room || /["\s]/.test(path)) continue
    room -= Math.ceil(bytes / CHUNK) * CHUNK
    if (n % 500 === 0) lines.push(`mkdir /changed/${n / 500}`)
    lines.push(`write "${join('/usr', path)}" /changed/${Math.floor(n / 500)}/${n}`)
    n++
  }
  for (const path of removed) if (!/["\s]/.test(path)) lines.push(`rm "/${path}"`)
  return `${lines.join('\n')}\n`
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

/** A root of 4 GiB, raw and squashed, an overlay with 300 MiB of real changes, and an ISO; makes what is missing. */
export const lookImages = async (dir, size, layout, once, say, squashed) => {
  const folder = join(dir, 'look')
  mkdirSync(join(folder, 'LiveOS'), { recursive: true })
  const large = size >= 2 * GIB ? 4 * GIB : size * 2
  const root = await once(join(folder, 'LiveOS', 'rootfs.img'), say, path => largeRoot(path, large, size))
  const overlay = await once(join(folder, 'overlay'), say, async path => {
    const changed = join(folder, 'changed.img')
    run(['cp', '--reflink=auto', '--sparse=always', root, changed])
    const listed = spawnSync('debugfs', ['-R', 'ls -p /lib', root], { env: { ...process.env, PATH }, encoding: 'utf8' })
    const names = [...listed.stdout.matchAll(/^\/\d+\/10\d{4}\/\d+\/\d+\/([^/]+)\//gm)].map(match => `lib/${match[1]}`)
    writeFileSync(join(folder, 'changes'), changes(large, names.slice(0, 20)))
    run(['debugfs', '-w', '-f', join(folder, 'changes'), changed])
    await storeOfDifference(path, root, changed, layout)
    rmSync(changed)
  })
  const squashes = []
  for (const [comp, name, ...more] of [
    ['zstd', 'squashfs.img', '-Xcompression-level', '3'],
    ['xz', 'squashfs-xz.img'],
  ]) {
    const args = ['-comp', comp, '-b', '131072', ...more]
    squashes.push({ comp, path: await once(join(folder, name), say, path => run(squashCommand(folder, path, args))) })
  }
  const iso = await once(join(folder, 'live.iso'), say, path =>
    run([
      'xorriso',
      '-as',
      'mkisofs',
      '-quiet',
      '-R',
      '-J',
      '-V',
      'BENCH',
      '-o',
      path,
      '-graft-points',
      `LiveOS/squashfs.img=${squashed}`,
    ]),
  )
  return { root, overlay, squashes, iso }
}

/** Seconds that the pool needs for the blocks of the base that a look at it expands, and nothing else. */
const decodingSeconds = async (liveos, base, overlay, look) => {
  const inputs = []
  const pool = liveos.openPool()
  const file = await liveos.openFile(base)
  const cow = await liveos.openFile(overlay)
  const decode = async (name, input, capacity) => {
    inputs.push([name, input.slice(), capacity])
    return pool.decode(name, input, capacity)
  }
  const fs = await liveos.openSquashfs(file, { decoder: { decode, depth: 6 } })
  const inner = await fs.open('/LiveOS/rootfs.img')
  const store = await liveos.readStore(cow, { originSize: inner.size })
  const target = await liveos.findTarget({ base, overlay })
  await look({
    target,
    base: { file, squashfs: { fs, path: '/LiveOS/rootfs.img', file: inner }, origin: inner },
    overlay: { file: cow, store },
    root: await liveos.snapshot(inner, cow, { store }),
    pool,
    close: async () => {},
  })
  const start = process.hrtime.bigint()
  const running = new Set()
  for (const [name, input, capacity] of inputs) {
    const job = pool.decode(name, input, capacity).then(() => running.delete(job))
    running.add(job)
    if (running.size >= 8) await Promise.race(running)
  }
  await Promise.all(running)
  const seconds = Number(process.hrtime.bigint() - start) / 1e9
  await pool.close()
  await cow.close()
  await file.close()
  return { seconds, blocks: inputs.length, bytes: inputs.reduce((sum, [, , capacity]) => sum + capacity, 0) }
}

/** Runs the part. `liveos` has the library's functions and the command; `best` measures a command three times. */
export const benchLook = async ({ dir, size, liveos, command, best, once, say, squashed }) => {
  const made = await lookImages(dir, size, liveos.layout, once, say, squashed)
  const rows = []
  const add = async (what, args, extra = {}) => rows.push({ what, ...(await best(what, command(...args))), ...extra })
  await add('inspect of an ISO', ['inspect', made.iso], { target: 0.5 })
  const raw = ['--base', made.root, '--overlay', made.overlay]
  await add('diff, raw root', ['diff', ...raw], { target: 3 })
  await add('usage, raw root', ['usage', ...raw], { target: 3 })
  for (const { comp, path } of made.squashes)
    for (const [verb, look] of [
      ['diff', stack => liveos.readChanges(stack)],
      ['usage', stack => liveos.readOverlayUsage(stack)],
    ]) {
      const decoding = await decodingSeconds(liveos, path, made.overlay, look)
      const what = `${verb}, squashed root, ${comp}`
      await add(what, [verb, '--base', path, '--overlay', made.overlay], { decoding, raw: `${verb}, raw root` })
    }
  return rows
}
