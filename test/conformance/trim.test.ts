import { readFile, stat, writeFile } from 'node:fs/promises'
import { expect } from 'vitest'
import { sampleFacts, unpackSample } from '../../scripts/sample.mjs'
import { memory } from '../../src/block/memory.js'
import { snapshot } from '../../src/block/snapshot/snapshot.js'
import { metadataRuns } from '../../src/fs/ext4/metadata.js'
import { openVolume } from '../../src/fs/ext4/volume.js'
import { openSquashfs } from '../../src/fs/squashfs/reader.js'
import { readFreeSpace } from '../../src/liveos/free-space.js'
import type { MergeOptions } from '../../src/ops/merge.js'
import { debugfs, makeExt4, run, withExt4 } from '../support/ext4-images.js'
import {
  checked,
  dumped,
  faultsIn,
  freeRuns,
  layStick,
  merged,
  sameOutsideFree,
  storeBetween,
  unsquashed,
} from '../support/ext4-stick.js'
import { lineOf } from '../support/ext4-view.js'
import { replayedByE2fsck, sameReplay } from '../support/journal-images.js'
import { kernelFixture } from '../support/kernel-fixtures.js'
import { sameBytes } from '../support/outcome.js'
import { random } from '../support/random.js'
import { sha256 } from '../support/small-stick.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const path = temporary()
const { it, describe: judged } = needTools('mke2fs', 'e2fsck', 'debugfs', 'dumpe2fs', 'mksquashfs', 'unsquashfs')
let count = 0

/** Merges into a raw image, whatever the format, and gives that with the size of the file that was written. */
const mergedImage = async (stick: string, options: Omit<MergeOptions, 'output'> = {}) => {
  const output = await path(`merged${count++}`)
  const { plan, outcome } = await merged(stick, { ...options, output })
  expect(outcome.verified).not.toBeNull()
  const { size, blocks } = await stat(output)
  if (plan.format === 'squashfs') {
    const image = `${output}.img`
    await writeFile(image, await unsquashed(output))
    return { image, output, plan, outcome, size, allocated: blocks * 512 }
  }
  return { image: output, output, plan, outcome, size, allocated: blocks * 512 }
}

/** Every path of a tree with all that a reader tells of it. */
const linesOf = (image: string): Promise<Map<string, string>> =>
  withExt4(image, async fs => {
    const lines = new Map<string, string>()
    const visit = async (at: string): Promise<void> => {
      lines.set(at, await lineOf(fs, at))
      if (lines.get(at)!.startsWith('directory '))
        for (const { name } of await fs.list(at)) await visit(at === '/' ? `/${name}` : `${at}/${name}`)
    }
    await visit('/')
    return lines
  })

judged('the sample stick', () => {
  const KINDS = { f: 'file', d: 'directory', l: 'symlink', c: 'character', b: 'block', p: 'fifo', s: 'socket' }

  it('trimmed or not, raw or squashed: clean, every file is what the kernel said, and less room is taken', async () => {
    const facts = await sampleFacts()
    const stick = await unpackSample(await path('sample'))
    const kept = await mergedImage(stick, { trim: false })
    expect(sha256(await readFile(kept.image))).toBe(facts.mergedSha256)
    expect(kept.plan.trim).toBeNull()
    const before = await dumped(kept.image)
    const lines = await linesOf(kept.image)
    const free = await freeRuns(kept.image)
    const expected = await readFile(kept.image)

    const raw = await mergedImage(stick)
    expect(raw.plan.trim).toEqual({ freeBytes: free.reduce((sum, [from, to]) => sum + to - from, 0) })
    expect(raw.plan.findings).toEqual([])
    expect(raw.allocated).toBeLessThan(kept.allocated)
    expect(raw.allocated).toBeLessThanOrEqual(raw.plan.sizeAtMost)
    const squashed = await mergedImage(stick, { format: 'same' })
    const squashedKept = await mergedImage(stick, { format: 'same', trim: false })
    expect(squashed.size).toBeLessThan(squashedKept.size)
    const transcoded = await mergedImage(stick, { format: 'squashfs', comp: 'zstd', level: 1, blockSize: 1 << 20 })

    for (const { image } of [raw, squashed, squashedKept, transcoded]) {
      expect(await checked(image)).toMatchObject({ status: 0 })
      expect((await dumped(image)).counts).toEqual(before.counts)
      expect(await linesOf(image)).toEqual(lines)
    }
    sameOutsideFree(await readFile(raw.image), expected, free)
    sameOutsideFree(await readFile(transcoded.image), expected, free)
    sameOutsideFree(await readFile(squashed.image), expected, free, expected)
    sameBytes(await readFile(squashedKept.image), expected)

    await withExt4(raw.image, async fs => {
      for (const { path: at, type, mode, uid, gid, size, links, mtime, target, sha256: hash } of facts.files) {
        const found = await fs.stat(at)
        expect({ ...found, mode: found.mode.toString(8) }, at).toMatchObject({
          kind: KINDS[type as keyof typeof KINDS],
          mode,
          uid,
          gid,
          mtime,
          linkCount: links,
        })
        if (type === 'l') expect(await fs.readLink(at)).toBe(target)
        if (type !== 'f') continue
        const file = await fs.open(at)
        expect(file.size).toBe(size)
        expect(sha256(await file.read(0, size)), at).toBe(hash)
      }
      for (const { path: at, ...attributes } of facts.xattrs) {
        const found = await fs.xattrs(String(at))
        for (const [name, value] of Object.entries(attributes))
          expect(`0x${Buffer.from(found.find(attribute => attribute.name === name)!.value).toString('hex')}`).toBe(
            value,
          )
      }
    })
  })
})

judged('stores that the kernel wrote', () => {
  const FIXTURES = [
    ['fs-ext4', 'cow.img', 'tree', []],
    ['fs-ext4-overflow', 'cow.img', 'rec_tree', ['JOURNAL_REPLAYED']],
    ['fs-ext4-overflow', 'cow-recovered.img', 'rec_tree', []],
  ] as const

  for (const [name, cow, tree, codes] of FIXTURES)
    it(`${name}, ${cow}: what e2fsck makes of the journal, outside free blocks`, async () => {
      const fixture = kernelFixture(name)
      const origin = await fixture.image('origin.img')
      const overlay = await fixture.image(cow)
      const stick = await layStick(await path(`fixture${count++}`), origin, overlay, { blockSize: 16384 })
      const kept = await mergedImage(stick, { trim: false })
      expect(kept.plan.findings.map(({ code }) => code)).toEqual(codes)
      const root = await snapshot(memory(origin), memory(overlay))
      const replayed = await replayedByE2fsck(await path('theirs.img'), await root.read(0, root.size))
      sameReplay(await readFile(kept.image), replayed.bytes)
      const free = await freeRuns(kept.image)
      for (const how of [{}, { format: 'same' }] as const) {
        const { image, plan } = await mergedImage(stick, how)
        expect(plan.trim?.freeBytes).toBe(free.reduce((sum, [from, to]) => sum + to - from, 0))
        sameOutsideFree(await readFile(image), await readFile(kept.image), free, await readFile(kept.image))
        expect(faultsIn(await checked(image))).toEqual([])
        await withExt4(image, async fs => {
          for (const [file, hash] of Object.entries(fixture.facts[tree] as Record<string, string>)) {
            const device = await fs.open(`/${file}`)
            expect(sha256(await device.read(0, device.size)), file).toBe(hash)
          }
        })
      }
    })
})

/** One kind of filesystem, and how its stick is made. */
interface Variety {
  readonly name: string
  readonly mib: number
  readonly args: readonly string[]
  readonly blockSize: number
  readonly chunkSectors: number
  readonly tail?: boolean
  /** all of the end is free */
  readonly freeTail?: boolean
  /** bytes behind the filesystem's end */
  readonly behind?: number
}

const VARIETIES: readonly Variety[] = [
  { name: 'ext4, blocks of 4 KiB', mib: 20, args: ['-t', 'ext4', '-b', '4096'], blockSize: 131072, chunkSectors: 8 },
  { name: 'ext4, blocks of 1 KiB', mib: 9, args: ['-t', 'ext4', '-b', '1024'], blockSize: 4096, chunkSectors: 1 },
  {
    name: 'bigalloc',
    mib: 24,
    args: ['-t', 'ext4', '-O', 'bigalloc', '-C', '16384'],
    blockSize: 65536,
    chunkSectors: 64,
  },
  {
    name: 'many groups, most never written',
    mib: 12,
    args: ['-t', 'ext4', '-b', '1024', '-g', '1024', '-N', '512', '-O', '^resize_inode', '-E', 'lazy_itable_init=1'],
    blockSize: 32768,
    chunkSectors: 2,
  },
  {
    name: 'uninit_bg, flex_bg, no metadata_csum',
    mib: 12,
    args: ['-t', 'ext4', '-b', '1024', '-g', '2048', '-O', '^metadata_csum,uninit_bg'],
    blockSize: 8192,
    chunkSectors: 16,
  },
  { name: 'ext2', mib: 12, args: ['-t', 'ext2', '-b', '1024'], blockSize: 16384, chunkSectors: 32 },
  { name: 'ext3', mib: 16, args: ['-t', 'ext3', '-b', '2048', '-J', 'size=4'], blockSize: 1 << 20, chunkSectors: 2048 },
  {
    name: 'quota, meta_bg, orphan file',
    mib: 16,
    args: ['-t', 'ext4', '-b', '1024', '-O', 'quota,meta_bg,^resize_inode,orphan_file'],
    blockSize: 131072,
    chunkSectors: 4,
  },
  {
    name: 'an end in a fragment, free in part, and bytes behind the filesystem',
    mib: 9 + 60 / 1024,
    args: ['-t', 'ext4', '-b', '1024', '-O', '^has_journal'],
    blockSize: 131072,
    chunkSectors: 8,
    tail: true,
    behind: 3000,
  },
  {
    name: 'an end in a fragment that is free',
    mib: 9 - 100 / 1024,
    args: ['-t', 'ext4', '-b', '1024', '-O', '^has_journal'],
    blockSize: 65536,
    chunkSectors: 8,
    tail: true,
    freeTail: true,
  },
]

judged('filesystems that mke2fs and debugfs made', () => {
  const { below, bytes, seed } = random()

  /** A file of random bytes for debugfs to put in. */
  const given = async (size: number): Promise<string> => {
    const file = await path(`given${count++}`)
    await writeFile(file, bytes(size))
    return file
  }

  /** Writes and removes files, so that there is data in blocks that are free again. */
  const edit = async (image: string, names: Set<string>): Promise<void> => {
    const commands: string[] = []
    for (let n = 0; n < 12; n++) {
      const name = `f${count++}`
      commands.push(`write ${await given(below(2) ? below(3000) : below(300_000))} ${name}`)
      names.add(name)
      const known = [...names]
      const removed = known[below(known.length)]!
      if (below(3) > 0) {
        commands.push(`rm ${removed}`)
        names.delete(removed)
      }
    }
    await debugfs(image, commands, true)
  }

  /** Puts random bytes into some of the free blocks, as files leave that were deleted. */
  const dirty = (image: Buffer, free: readonly (readonly [number, number])[]): void => {
    for (const [from, to] of free)
      for (let at = from; at < to; at += 1024 * (1 + below(200))) image.set(bytes(Math.min(700, to - at)), at)
  }

  for (const variety of VARIETIES)
    it(`${variety.name} (seed ${seed}): all but free bytes are as they were, and those zero or old`, async () => {
      const { mib, args, behind = 0, blockSize, tail = false, freeTail = false } = variety
      const file = await makeExt4(await path(`fs${count++}`), mib, args)
      const names = new Set<string>()
      await edit(file, names)
      await edit(file, names)
      const base = Buffer.concat([await readFile(file), bytes(behind)])
      dirty(base, await freeRuns(file))
      // zeros would be a hole, not a fragment
      if (freeTail) base.set(bytes(500), base.length - 10_000)
      await writeFile(file, base)
      await edit(file, names)
      // debugfs does not keep quotas
      if (args.some(arg => arg.includes('quota'))) await run('e2fsck', ['-fy', file], [1])
      const after = await readFile(file)
      const free = await freeRuns(file)
      // an end that the overlay changes would be no fragment any more
      // (debugfs may put a file there all the same)
      const end = tail ? after.length - (after.length % blockSize) : after.length
      dirty(
        after.subarray(0, end),
        free.filter(([, to]) => to <= end),
      )
      const kept = tail && Buffer.compare(base.subarray(end), after.subarray(end)) === 0
      await writeFile(file, after)
      expect(await checked(file)).toMatchObject({ status: 0 })
      const lines = await linesOf(file)
      expect(lines.size).toBeGreaterThan(names.size)
      const { counts } = await dumped(file)
      const total = free.reduce((sum, [from, to]) => sum + to - from, 0)
      expect(total).toBeGreaterThan(1 << 20)

      const overlay = storeBetween(base, after, variety.chunkSectors)
      const stick = await layStick(await path(`stick${count++}`), base, overlay, variety)
      for (const how of [{}, { format: 'same' }] as const) {
        const { image, output, plan, outcome, allocated } = await mergedImage(stick, how)
        expect(plan.findings).toEqual([])
        expect(plan.trim?.freeBytes).toBe(total)
        const found = await readFile(image)
        sameOutsideFree(found, after, free, plan.format === 'raw' ? undefined : after)
        expect(await checked(image)).toMatchObject({ status: 0 })
        expect(await linesOf(image)).toEqual(lines)
        expect((await dumped(image)).counts).toEqual(counts)
        expect(allocated).toBeLessThanOrEqual(plan.sizeAtMost)
        if (plan.format === 'raw') continue
        // whole free blocks are holes, whatever stood in them
        const isFree = (start: number, end: number): boolean => free.some(([from, to]) => from <= start && end <= to)
        const root = (await openSquashfs(memory(await readFile(output)))).open('/LiveOS/rootfs.img')
        const { blockCount, stored, tailSize } = await root
        let holes = 0
        for (let block = 0; block * blockSize < after.length; block++) {
          if (!isFree(block * blockSize, Math.min((block + 1) * blockSize, after.length))) continue
          holes++
          expect(block < blockCount && stored(block) === undefined, `block ${block}`).toBe(true)
        }
        expect(outcome.blocks!.holes).toBeGreaterThanOrEqual(holes)
        expect(tailSize).toBe(kept && !freeTail ? after.length % blockSize : 0)
      }
      const untrimmed = await mergedImage(stick, { format: 'same', trim: false })
      expect(untrimmed.plan.trim).toBeNull()
      sameBytes(await readFile(untrimmed.image), after)
      const old = await (await openSquashfs(memory(await readFile(untrimmed.output)))).open('/LiveOS/rootfs.img')
      expect(old.tailSize).toBe(kept ? after.length % blockSize : 0)
    })
})

it('what the filesystem keeps for itself is never free: journal, MMP, quota, reserved descriptors, inode tables', async () => {
  const file = await makeExt4(await path('kept'), 16, ['-t', 'ext4', '-b', '1024', '-O', '^metadata_csum,mmp,quota'])
  const image = new Uint8Array(await readFile(file))
  const free = await freeRuns(file)
  const found = await readFreeSpace(memory(image))
  if ('doubt' in found) throw new Error(found.doubt)
  expect(found.runs.bytes).toBe(free.reduce((sum, [from, to]) => sum + to - from, 0))
  for (const [from, to] of free) expect(found.runs.covers(from, to)).toBe(true)
  const volume = await openVolume(memory(image))
  const roles = new Map<string, number>()
  for await (const { role, start, group } of metadataRuns(volume)) if (group !== 1) roles.set(role, start / 1024)
  for (const role of ['journal', 'mmp', 'quota', 'reserved gdt', 'inode table']) {
    const block = roles.get(role)!
    const index = Math.floor((block - 1) / volume.superblock.blocksPerGroup)
    const { blockBitmap } = await volume.group(index)
    const changed = image.slice()
    const turn = (bit: number): void => {
      changed[blockBitmap * 1024 + (bit >>> 3)]! ^= 1 << (bit & 7)
    }
    const [unused] = free.find(([from]) => Math.floor((from / 1024 - 1) / volume.superblock.blocksPerGroup) === index)!
    // one block for another, so that the counts stay
    turn((block - 1) % volume.superblock.blocksPerGroup)
    turn((unused / 1024 - 1) % volume.superblock.blocksPerGroup)
    expect(await readFreeSpace(memory(changed)), role).toHaveProperty('doubt', expect.stringContaining('metadata'))
  }
})
