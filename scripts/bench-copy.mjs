// Part 'copy' of the benchmark: `liveos cp -r` beside the programs that unpack the same images.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { delimiter, dirname, join } from 'node:path'

const SOURCE = '/usr'
const GIB = 2 ** 30
const MIB = 2 ** 20
/** Larger files tell little about what each one costs. */
const LARGEST = MIB
const RUNS = 3
const env = { ...process.env, PATH: `${process.env.PATH ?? ''}${delimiter}/usr/sbin${delimiter}/sbin` }

const run = ([program, ...args]) => {
  const { status, error, stderr } = spawnSync(program, args, {
    env,
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(`${program} failed: ${error?.message ?? stderr.trim()}`)
}

/** Files of /usr that make `size` bytes together, in an order that is the same each time and has nothing to do with where they lie. */
const chosenFiles = size => {
  const found = []
  const walk = folder => {
    for (const entry of readdirSync(join(SOURCE, folder), { withFileTypes: true })) {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) walk(path)
      else if (entry.isFile()) found.push({ path, order: createHash('md5').update(path).digest('hex') })
    }
  }
  walk('')
  found.sort((a, b) => (a.order < b.order ? -1 : 1))
  const chosen = []
  let bytes = 0
  for (const { path } of found) {
    const { size: length } = statSync(join(SOURCE, path))
    if (length > LARGEST || bytes + length > size) continue
    bytes += length
    chosen.push(path)
  }
  if (bytes < size * 0.9) throw new Error(`${SOURCE} has ${bytes} bytes in files up to ${LARGEST}, too few for ${size}`)
  return { chosen, bytes }
}

const IMAGES = {
  squashfs: { name: 'copy.squashfs', tool: 'unsquashfs' },
  ext4: { name: 'copy.ext4', tool: 'debugfs rdump' },
}

/** Makes both images of the same tree where one is missing. @returns how many files and bytes they hold */
const makeImages = (dir, size, say) => {
  const facts = join(dir, 'copy.json')
  if (existsSync(facts)) return JSON.parse(readFileSync(facts, 'utf8'))
  say(`making images of ${Math.round(size / MIB)} MiB in many files`)
  mkdirSync(dir, { recursive: true })
  const tree = join(dir, 'copy.tree')
  rmSync(tree, { recursive: true, force: true })
  try {
    const { chosen, bytes } = chosenFiles(size)
    const folders = new Set()
    for (const path of chosen) {
      const target = join(tree, 'usr', path)
      if (!folders.has(dirname(target))) mkdirSync(dirname(target), { recursive: true })
      folders.add(dirname(target))
      copyFileSync(join(SOURCE, path), target)
    }
    const [squashfs, ext4] = [join(dir, IMAGES.squashfs.name), join(dir, IMAGES.ext4.name)]
    rmSync(squashfs, { force: true })
    rmSync(ext4, { force: true })
    run(['mksquashfs', tree, squashfs, '-comp', 'gzip', '-noappend', '-no-progress', '-quiet'])
    const inodes = chosen.length + folders.size + 16384
    const kilobytes = Math.ceil((bytes * 1.25 + inodes * 4096 + 64 * MIB) / 1024)
    run(['mke2fs', '-q', '-F', '-t', 'ext4', '-m', '0', '-N', String(inodes), '-d', tree, ext4, `${kilobytes}k`])
    writeFileSync(`${facts}.making`, JSON.stringify({ files: chosen.length, bytes }))
    renameSync(`${facts}.making`, facts)
    return { files: chosen.length, bytes }
  } finally {
    rmSync(tree, { recursive: true, force: true })
  }
}

/** liveos has a copy on the medium before it ends: the others are given the same to do. The shell is there for that only. */
const thenSync = (out, command) => ['sh', '-c', '"$@" && exec sync -f "$0"', out, ...command]

/**
 * Copies trees of many small files out of a squashfs and out of an ext4, by liveos and by the tool of that format, in turns.
 * CPU and memory are those of each whole process tree.
 *
 * @param dir  where images are made and kept, and copies made: 16 GiB at full size
 * @param measure  as in bench-measure.mjs
 * @param liveos  gives the command of liveos with arguments
 * @param size  bytes of all files, 1 GiB if left out
 * @returns for each image the fastest run of either, `{ from, tool, files, bytes, theirs, ours, throughput, cpu }`; `throughput`
 *          is ours by theirs (the aim is 0.7), `cpu` ours by theirs, each between the medians
 */
export const benchCopy = async ({ dir, say, measure, liveos, size = GIB }) => {
  const { files, bytes } = makeImages(dir, size, say)
  const work = join(dir, 'copy.work')
  const rows = []
  // No copy is removed before all are made: ext4 passes over the inodes deleted in the last half minute one by one whenever
  // a file is made, so that whoever comes after a removal takes three times as long.
  let copies = 0
  const fresh = isMade => {
    const out = join(work, String(copies++))
    mkdirSync(isMade ? out : work, { recursive: true })
    return out
  }
  const timed = async (what, command) => {
    // what the last run left to be written is not this one's
    spawnSync('sync')
    const { words: _, ...result } = await measure(command, { env })
    say(`${what}: ${result.cpu.toFixed(1)} s CPU, ${result.wall.toFixed(1)} s, ${Math.round(result.memory / MIB)} MiB`)
    return result
  }
  const median = (runs, key) => runs.map(result => result[key]).sort((a, b) => a - b)[runs.length >> 1]
  rmSync(work, { recursive: true, force: true })
  try {
    for (const [from, { name, tool }] of Object.entries(IMAGES)) {
      const image = join(dir, name)
      const command = out =>
        from === 'squashfs'
          ? ['unsquashfs', '-q', '-n', '-no-xattrs', '-d', out, image]
          : ['debugfs', '-R', `rdump / ${out}`, image]
      const [theirs, ours] = [[], []]
      for (let n = 0; n < RUNS; n++) {
        const out = fresh(from === 'ext4')
        theirs.push(await timed(tool, thenSync(out, command(out))))
        ours.push(await timed(`liveos cp -r, ${from}`, liveos('cp', '-r', '--base', image, ':/', fresh(false))))
      }
      const fastest = runs => runs.toSorted((a, b) => a.wall - b.wall)[0]
      rows.push({
        from,
        tool,
        files,
        bytes,
        theirs: fastest(theirs),
        ours: { ...fastest(ours), memory: Math.max(...ours.map(({ memory }) => memory)) },
        throughput: median(theirs, 'wall') / median(ours, 'wall'),
        cpu: median(ours, 'cpu') / median(theirs, 'cpu'),
      })
    }
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
  return rows
}
