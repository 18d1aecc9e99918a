import { describe, expect, it } from 'vitest'
import type { Device } from '../../../src/block/device.js'
import { memory } from '../../../src/block/memory.js'
import { snapshot } from '../../../src/block/snapshot/snapshot.js'
import { CRC32C_START, crc32c } from '../../../src/bytes/crc32c.js'
import { openReplayed } from '../../../src/fs/ext4/journal/replayed.js'
import { openVolume } from '../../../src/fs/ext4/volume.js'
import { readFreeSpace } from '../../../src/liveos/free-space.js'
import { holdsOverlay } from '../../../src/liveos/holds-overlay.js'
import { type MergedRoot, openMergedRoot } from '../../../src/liveos/merged-root.js'
import { goldenCsum, goldenOld } from '../../support/ext4-golden.js'
import { storeBetween } from '../../support/ext4-stick.js'
import { faultyDevice } from '../../support/faulty-device.js'
import { journalFileOf } from '../../support/journal-images.js'
import { kernelFixture } from '../../support/kernel-fixtures.js'
import { failure, sameBytes } from '../../support/outcome.js'
import { bytesOf } from '../../support/small-stick.js'
import { type ChangedChunk, storeOf } from '../../support/store-writer.js'

const codesOf = ({ findings }: MergedRoot): string[] => findings.map(({ code }) => code)
/** All bytes; not as a Buffer, of which slices would share them. */
const allOf = async (device: Device): Promise<Uint8Array> => new Uint8Array(await device.read(0, device.size))

/** An image with its superblock changed, and the checksum made right where there is one. */
const withSuper = (image: Uint8Array, change: (view: DataView) => void): Uint8Array => {
  const copy = image.slice()
  const view = new DataView(copy.buffer, copy.byteOffset + 1024, 1024)
  change(view)
  if (view.getUint32(100, true) & 0x400) view.setUint32(1020, crc32c(CRC32C_START, copy.subarray(1024, 2044)), true)
  return copy
}
const flag = (at: number, bits: number) => (view: DataView) =>
  view.setUint32(at, (view.getUint32(at, true) | bits) >>> 0, true)

/** Turns bits of a group's block bitmap round. */
const withBitmap = async (image: Uint8Array, blocks: readonly number[], group = 0): Promise<Uint8Array> => {
  const volume = await openVolume(memory(image))
  const { blockBitmap } = await volume.group(group)
  const copy = image.slice()
  for (const block of blocks) {
    const bit = block - volume.geometry.groupStart(group)
    copy[blockBitmap * volume.superblock.blockSize + (bit >>> 3)]! ^= 1 << (bit & 7)
  }
  return copy
}

const freeOf = async (image: Uint8Array): Promise<MergedRoot> => openMergedRoot(memory(image, 'image'))

describe('an ext4 in order', () => {
  it.each([
    ['metadata_csum, no journal', goldenCsum],
    ['ext2', goldenOld],
  ])('%s: what is free reads zero, all else as it is', async (_, golden) => {
    const image = golden()
    const root = await freeOf(image)
    expect(root.findings).toEqual([])
    expect(root.replayed.count).toBe(0)
    expect(root.free!.bytes).toBeGreaterThan(0)
    const shown = image.slice()
    for (let index = 0; index < root.free!.count; index++) shown.fill(0, root.free!.start(index), root.free!.end(index))
    sameBytes(await allOf(root.device), shown)
    const kept = await openMergedRoot(memory(image), { trim: false })
    expect(kept).toMatchObject({ free: undefined, findings: [] })
    sameBytes(await allOf(kept.device), image)
  })

  it('of too many free runs the longest are taken, and the rest is counted', async () => {
    const device = memory(await kernelFixture('fs-ext4').image('origin.img'))
    const all = await readFreeSpace(device)
    const some = await readFreeSpace(device, 1)
    if ('doubt' in all || 'doubt' in some) throw new Error('not free')
    expect(all.leftOut).toBe(0)
    expect(all.runs.count).toBeGreaterThan(1)
    expect(some.runs.count).toBe(1)
    expect(some.runs.bytes + some.leftOut).toBe(all.runs.bytes)
    expect(all.runs.covers(some.runs.start(0), some.runs.end(0))).toBe(true)
  })
})

describe('nothing is trimmed, the bytes stay as they are, and a finding says why', () => {
  /** Gives what is said; the view must be the bytes given. */
  const untrimmed = async (image: Uint8Array, code = 'NOT_TRIMMED'): Promise<string> => {
    const root = await freeOf(image)
    expect(codesOf(root)).toEqual([code])
    expect(root.free).toBeUndefined()
    sameBytes(await allOf(root.device), image)
    return root.findings[0]!.message
  }

  it.each([
    ['errors in the state', (view: DataView) => view.setUint16(58, 3, true), 'ROOT_HAS_ERRORS', 'mark of errors'],
    ['errors that were counted', (view: DataView) => view.setUint32(404, 1, true), 'ROOT_HAS_ERRORS', '1 counted'],
    [
      'no clean end, no journal',
      (view: DataView) => view.setUint16(58, 0, true),
      'NOT_TRIMMED',
      'not unmounted cleanly',
    ],
    ['an unknown incompatible feature', flag(96, 2 ** 30), 'NOT_TRIMMED', 'bit 30'],
    ['an unknown read-only feature', flag(100, 2 ** 31), 'NOT_TRIMMED', 'bit 31'],
    ['snapshots in free blocks', flag(100, 0x80), 'NOT_TRIMMED', 'snapshot_bitmap'],
    ['an unknown compatible feature', flag(92, 2 ** 29), 'NOT_TRIMMED', 'bit 29'],
    ['lazy_bg', flag(92, 0x40), 'NOT_TRIMMED', 'lazy_bg'],
  ] as const)('%s', async (_, change, code, words) => {
    for (const golden of [goldenCsum(), goldenOld()])
      expect(await untrimmed(withSuper(golden, change), code)).toContain(words)
  })

  it('a bitmap with a wrong checksum', async () => {
    const { free } = await freeOf(goldenCsum())
    const block = free!.start(0) / 1024
    expect(await untrimmed(await withBitmap(goldenCsum(), [block]))).toContain('checksum of the block bitmap')
  })

  it('a descriptor with a wrong checksum', async () => {
    const image = goldenCsum()
    image[2048 + 12]! ^= 1
    expect(await untrimmed(image)).toContain('bg_checksum')
  })

  it('an inode with a wrong checksum', async () => {
    const image = goldenCsum()
    const { inodeTable } = await (await openVolume(memory(image))).group(0)
    image[inodeTable * 1024 + 11 * 256 + 4]! ^= 1
    expect(await untrimmed(image)).toContain('i_checksum')
  })

  it('without checksums: a count that is not that of the bitmap', async () => {
    const { free } = await freeOf(goldenOld())
    const block = free!.start(0) / 1024
    expect(await untrimmed(await withBitmap(goldenOld(), [block]))).toContain('free clusters of group 0')
  })

  it('without checksums: a stale bitmap of the same count, by the file that owns what it calls free', async () => {
    const { free } = await freeOf(goldenOld())
    const unused = free!.start(0) / 1024
    const volume = await openVolume(memory(goldenOld()))
    // the block before the first free one is a file's
    expect(await untrimmed(await withBitmap(goldenOld(), [unused, unused - 1]))).toMatch(/blocks of inode \d+/)
    const { inodeTable } = await volume.group(0)
    expect(await untrimmed(await withBitmap(goldenOld(), [unused, inodeTable]))).toContain('metadata')
  })

  it('without checksums: an inode bitmap that is not the one of the descriptor', async () => {
    const image = goldenOld()
    const { inodeBitmap } = await (await openVolume(memory(image))).group(0)
    image[inodeBitmap * 1024 + 2]! ^= 0x80
    expect(await untrimmed(image)).toMatch(/free inodes of group 0/)
  })

  it('an external journal that is to be replayed', async () => {
    const image = withSuper(goldenCsum(), view => {
      flag(92, 4)(view)
      flag(96, 4)(view)
      view.setUint32(224, 0, true)
      view.setUint32(228, 0x801, true)
    })
    expect(await untrimmed(image, 'JOURNAL_NOT_REPLAYED')).toContain('lies on another device')
  })

  it('other filesystems, and what is none', async () => {
    const xfs = kernelFixture('fs-xfs')
    const root = await snapshot(memory(await xfs.image('origin.img')), memory(await xfs.image('cow.img')))
    const merged = await openMergedRoot(root, { store: root.store })
    expect(codesOf(merged)).toEqual(['NOT_TRIMMED'])
    expect(merged.device).toBe(root)
    expect(codesOf(await openMergedRoot(root, { trim: false }))).toEqual([])
    expect(await untrimmed(bytesOf(5, 100_000), 'ROOT_UNKNOWN')).toContain('no kind')
    expect(await untrimmed(new Uint8Array(100), 'ROOT_UNKNOWN')).toContain('no kind')
  })

  it('but a medium that can’t be read fails', async () => {
    const { inodeTable, blockBitmap } = await (await openVolume(memory(goldenOld()))).group(0)
    for (const block of [blockBitmap, inodeTable])
      await failure(
        openMergedRoot(faultyDevice(memory(goldenOld()), [{ from: block * 1024, to: block * 1024 + 1 }])),
        'IO',
      )
  })
})

/** A base, and a store over it that was cut while the kernel wrote to its ext4: 43 transactions wait in the journal. */
const cutFixture = async (): Promise<{ base: Uint8Array; overlay: Uint8Array }> => {
  const fixture = kernelFixture('fs-ext4-overflow')
  const [base, overlay] = await Promise.all([fixture.image('origin.img'), fixture.image('cow.img')])
  // a Buffer's slices share its bytes
  return { base: new Uint8Array(base), overlay: new Uint8Array(overlay) }
}

const CHUNK = 4096

/** The chunks of a store with some of them changed, or more. */
const changed = async (
  base: Uint8Array,
  overlay: Uint8Array,
  changes: ReadonlyMap<number, Uint8Array>,
): Promise<Uint8Array> => {
  const root = await snapshot(memory(base), memory(overlay))
  const all: ChangedChunk[] = []
  for (const { oldChunk } of root.store.exceptions.range())
    if (!changes.has(oldChunk)) all.push({ oldChunk, content: await root.read(oldChunk * CHUNK, CHUNK) })
  for (const [oldChunk, content] of changes) all.push({ oldChunk, content })
  return storeOf(all, CHUNK / 512)
}

const openRoot = async (base: Uint8Array, overlay: Uint8Array, trim = true): Promise<MergedRoot> => {
  const root = await snapshot(memory(base, 'base'), memory(overlay))
  return openMergedRoot(root, { trim, store: root.store })
}

describe('a base and the overlay that was merged into it', async () => {
  const { base, overlay } = await cutFixture()
  const merged = await openRoot(base, overlay)
  const kept = await openRoot(base, overlay, false)
  const fresh = await allOf(merged.device)
  const raw = await allOf(await snapshot(memory(base), memory(overlay)))
  const holds = (image: Uint8Array, store: Uint8Array) => holdsOverlay(memory(image, 'new base'), memory(store))
  const chunkOf = (image: Uint8Array, chunk: number) => image.slice(chunk * CHUNK, (chunk + 1) * CHUNK)

  it('is what it should be: replayed, with free space that is not empty', async () => {
    expect(codesOf(merged)).toEqual(['JOURNAL_REPLAYED'])
    expect(merged.replayed.count).toBeGreaterThan(5)
    expect(Buffer.compare(fresh, await allOf(kept.device))).not.toBe(0)
  })

  it('is held: trimmed, untrimmed, or merged as it stood', async () => {
    expect(await holds(fresh, overlay)).toBe(true)
    expect(await holds(await allOf(kept.device), overlay)).toBe(true)
    expect(await holds(raw, overlay)).toBe(true)
  })

  it('may have bad places where nothing is kept', async () => {
    const { free } = merged
    const largest = Array.from({ length: free!.count }, (_, n) => n).sort(
      (a, b) => free!.end(b) - free!.start(b) - (free!.end(a) - free!.start(a)),
    )[0]!
    const [from, to] = [free!.start(largest) + 65_536, free!.end(largest) - 65_536]
    const root = await snapshot(faultyDevice(memory(base), [{ from, to }]), memory(overlay))
    sameBytes(await allOf((await openMergedRoot(root)).device), fresh)
  })

  it('shows the same under the overlay as the old base did, and with it the old base is not needed', async () => {
    for (const image of [fresh, raw]) {
      const again = await openRoot(image, overlay)
      sameBytes(await allOf(again.device), fresh)
    }
  })

  it('is not held by the old base, by another one, or by half a base', async () => {
    expect(await holds(base, overlay)).toBe(false)
    expect(await holds(bytesOf(3, base.length), overlay)).toBe(false)
    expect(await holds(new Uint8Array(base.length), overlay)).toBe(false)
    expect(await holds(fresh.slice(0, 1 << 20), overlay)).toBe(false)
    const { exceptions } = (await snapshot(memory(base), memory(overlay))).store
    const middle = exceptions.oldChunkAt(exceptions.count >> 1) * CHUNK
    const half = fresh.slice()
    half.set(base.subarray(middle), middle)
    expect(await holds(half, overlay)).toBe(false)
  })

  it('a store that is empty is held by any base; one that is invalid, cut or damaged by none', async () => {
    expect(await holds(base, storeOf([], 8))).toBe(true)
    const invalid = overlay.slice()
    invalid[4] = 0
    expect(await holds(fresh, invalid)).toBe(false)
    expect(await holds(fresh, overlay.slice(0, 100_000))).toBe(false)
    expect(await holds(fresh, bytesOf(8, 100_000))).toBe(false)
  })

  it('blocks that were only replayed, never written in place, are compared as well', async () => {
    // the overlay brings the same, but the base lacks what its journal puts in places where the overlay has nothing
    const { store } = await snapshot(memory(base), memory(overlay))
    const { replacedBlocks, blockSize } = await openReplayed(memory(raw))
    const all = new Set(Array.from(replacedBlocks(), ({ block }) => Math.floor((block * blockSize) / CHUNK)))
    // the superblock's chunk says that there is something to replay
    all.delete(0)
    expect(all.size).toBeGreaterThan(5)
    for (const chunk of all) {
      const chunks: ChangedChunk[] = []
      for (const { oldChunk } of store.exceptions.range())
        if (oldChunk !== chunk) chunks.push({ oldChunk, content: chunkOf(raw, oldChunk) })
      const without = storeOf(chunks, 8)
      const [replaced] = [...replacedBlocks()].filter(({ block }) => Math.floor((block * blockSize) / CHUNK) === chunk)
      const wrong = fresh.slice()
      wrong[replaced!.block * blockSize + 777]! ^= 1
      expect(await holds(fresh, without), `chunk ${chunk}`).toBe(true)
      expect(await holds(wrong, without), `chunk ${chunk}`).toBe(false)
    }
  })

  it('an overlay that was written to later is not held, in whatever used block; one is that differs in free blocks alone', async () => {
    const { free } = merged
    const { exceptions } = (await snapshot(memory(base), memory(overlay))).store
    const used: number[] = []
    for (let chunk = 0; chunk < base.length / CHUNK; chunk++)
      if (!free!.touches(chunk * CHUNK, (chunk + 1) * CHUNK) && !exceptions.touches(chunk, chunk + 1)) used.push(chunk)
    for (const chunk of [used[3]!, used[used.length >> 1]!, used.at(-1)!]) {
      const content = chunkOf(fresh, chunk)
      content[777]! ^= 0x10
      expect(await holds(fresh, await changed(base, overlay, new Map([[chunk, content]]))), `chunk ${chunk}`).toBe(
        false,
      )
    }
    const chunk = Math.ceil(free!.start(0) / CHUNK)
    expect(free!.covers(chunk * CHUNK, (chunk + 1) * CHUNK)).toBe(true)
    expect(await holds(fresh, await changed(base, overlay, new Map([[chunk, bytesOf(9, CHUNK)]])))).toBe(true)
  })

  it('a mount later, and nothing else: the superblock alone makes the difference', async () => {
    const fixture = kernelFixture('fs-ext4')
    const origin = new Uint8Array(await fixture.image('origin.img'))
    const store = new Uint8Array(await fixture.image('cow.img'))
    const view = await allOf(await snapshot(memory(origin), memory(store)))
    const image = await allOf((await openRoot(origin, store)).device)
    expect(await holds(image, store)).toBe(true)
    const mounted = withSuper(view, bytes => bytes.setUint32(44, bytes.getUint32(44, true) + 1000, true))
    expect(await holds(image, await changed(origin, store, new Map([[0, chunkOf(mounted, 0)]])))).toBe(false)
  })

  it('an overlay that says all is free hides nothing', async () => {
    // bitmaps of zeros with right checksums and counts; what they called used is data in the base
    const volume = await openVolume(memory(fresh))
    const changes = new Map<number, Uint8Array>()
    for (let index = 0; index < volume.geometry.groupCount; index++) {
      const { blockBitmap } = await volume.group(index)
      const at = Math.floor((blockBitmap * volume.superblock.blockSize) / CHUNK)
      changes.set(at, new Uint8Array(CHUNK))
    }
    expect(
      await holds(
        fresh,
        storeOf(
          Array.from(changes, ([oldChunk, content]) => ({ oldChunk, content })),
          8,
        ),
      ),
    ).toBe(false)
    expect(await holds(fresh, await changed(base, overlay, changes))).toBe(false)
  })

  it('a wrong checksum in the journal: merged as it stands, and held so', async () => {
    const { runs, blockSize } = await journalFileOf(raw)
    const torn = raw.slice()
    // the first block behind the journal's superblock is a descriptor
    torn[runs[0]!.start + blockSize + 20]! ^= 1
    const store = storeBetween(base, torn)
    const root = await openRoot(base, store)
    expect(codesOf(root)).toEqual(['JOURNAL_NOT_REPLAYED'])
    sameBytes(await allOf(root.device), torn)
    expect(await holds(torn, store)).toBe(true)
    expect(await holds(fresh, store)).toBe(false)
  })

  it('errors noted in the filesystem: replayed, not trimmed, and held so', async () => {
    const marked = withSuper(raw, view => view.setUint16(58, view.getUint16(58, true) | 2, true))
    const store = storeBetween(base, marked)
    const root = await openRoot(base, store)
    // the journal may bring another superblock
    expect(codesOf(root)[0]).toBe('JOURNAL_REPLAYED')
    const image = await allOf(root.device)
    expect(await holds(image, store)).toBe(true)
  })

  describe('a journal that stands in the base', () => {
    const replacedChunk = async (): Promise<number> => {
      const { replacedBlocks, blockSize } = await openReplayed(memory(raw))
      const chunks = Array.from(replacedBlocks(), ({ block }) => Math.floor((block * blockSize) / CHUNK))
      // the superblock's chunk would say that there is nothing to replay
      return chunks.find(chunk => chunk > 0)!
    }

    it('is not replayed over what an overlay without it brings', async () => {
      const chunk = await replacedChunk()
      const store = storeOf([{ oldChunk: chunk, content: chunkOf(raw, chunk) }], 8)
      const root = await openRoot(raw, store)
      expect(codesOf(root)).toEqual(['JOURNAL_NOT_REPLAYED'])
      expect(root.findings[0]!.message).toContain('stands in the base')
      sameBytes(await allOf(root.device), raw)
      expect(await holds(raw, store)).toBe(true)
      // this is what replaying it would have come to
      expect(await holds(fresh, store)).toBe(false)
    })

    it('is replayed where the overlay brings nothing else there', async () => {
      const chunk = await replacedChunk()
      for (const store of [
        storeOf([{ oldChunk: chunk, content: chunkOf(fresh, chunk) }], 8),
        storeOf([{ oldChunk: Math.ceil(merged.free!.start(0) / CHUNK), content: bytesOf(4, CHUNK) }], 8),
      ]) {
        const root = await openRoot(raw, store)
        expect(codesOf(root)).toEqual(['JOURNAL_REPLAYED'])
        const image = await allOf(root.device)
        expect(await holds(image, store)).toBe(true)
        sameBytes(await allOf((await openRoot(image, store)).device), image)
      }
    })
  })
})
