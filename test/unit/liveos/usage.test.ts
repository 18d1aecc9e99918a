import { describe, expect, it } from 'vitest'
import type { Device } from '../../../src/block/device.js'
import { memory } from '../../../src/block/memory.js'
import { LiveError } from '../../../src/error.js'
import { openReplayed } from '../../../src/fs/ext4/journal/replayed.js'
import { openVolume } from '../../../src/fs/ext4/volume.js'
import { attribute } from '../../../src/liveos/usage/attribute.js'
import { cutPieces, ROLES, type Role } from '../../../src/liveos/usage/pieces.js'
import { type CategoryUsage, type OverlayUsage, readOverlayUsage } from '../../../src/liveos/usage/usage.js'
import { faultyDevice } from '../../support/faulty-device.js'
import { kernelFixture } from '../../support/kernel-fixtures.js'
import { overlaidStack } from '../../support/overlay-stack.js'
import { random } from '../../support/random.js'
import { type ChangedChunk, storeOf } from '../../support/store-writer.js'

const sum = (categories: readonly CategoryUsage[], field: 'bytes' | 'identicalBytes' = 'bytes'): number =>
  categories.reduce((total, category) => total + category[field], 0)
const bytesOf = ({ categories }: OverlayUsage, category: string): CategoryUsage =>
  categories.find(found => found.category === category) ?? { category: 'unknown', bytes: 0, identicalBytes: 0 }

/** What holds for every answer. */
const expectWhole = (usage: OverlayUsage): void => {
  expect(sum(usage.categories)).toBe(usage.allocatedBytes)
  expect(bytesOf(usage, 'identical').bytes).toBe(sum(usage.categories, 'identicalBytes'))
  const owned = ['files', 'directories', 'maps', 'xattrs'].map(category => bytesOf(usage, category))
  const all = sum(owned) + sum(owned, 'identicalBytes')
  // Inodes of attributes have no path and are nobody's file.
  expect(usage.owners.reduce((total, { bytes }) => total + bytes, 0)).toBeLessThanOrEqual(all)
  for (const { bytes, identicalBytes } of usage.owners) expect(identicalBytes).toBeLessThanOrEqual(bytes)
}

/** A filesystem of the kernel with its changes, and the same without. */
const fixture = async (): Promise<{ origin: Uint8Array; merged: Uint8Array; cow: Uint8Array }> => {
  const images = kernelFixture('fs-ext4')
  const origin = await images.image('origin.img')
  const cow = await images.image('cow.img')
  const { root } = await overlaidStack(memory(origin), cow)
  return { origin, cow, merged: await root.read(0, root.size) }
}
let images: ReturnType<typeof fixture> | undefined
const ext4 = () => {
  images ??= fixture()
  return images
}

describe('pieces', () => {
  const stored = async (chunkSectors: number, oldChunks: readonly number[]) => {
    const content = new Uint8Array(chunkSectors * 512)
    const cow = storeOf(
      oldChunks.map(oldChunk => ({ oldChunk, content })),
      chunkSectors,
    )
    return (await overlaidStack(memory(new Uint8Array(1 << 20)), cow)).overlay.store
  }

  it('a chunk of several blocks has several owners', async () => {
    const { exceptions, chunkSize } = await stored(32, [3, 1])
    const pieces = cutPieces(exceptions, chunkSize, 4096)
    expect(pieces).toMatchObject({ unit: 4096, count: 8, piecesPerChunk: 4 })
    expect(Array.from({ length: 8 }, (_, n) => pieces.startOf(n) / 4096)).toEqual([4, 5, 6, 7, 12, 13, 14, 15])
    expect(pieces.claim(6 * 4096, 7 * 4096, 'files', 12)).toBe(3)
    expect(pieces.claim(0, 1 << 20, 'freed')).toBe(5)
    expect(Array.from({ length: 8 }, (_, n) => pieces.roleOf(n))).toEqual([
      ...['freed', 'freed', 'files', 'files', 'files', 'freed', 'freed', 'freed'],
    ])
    expect(pieces.inodeOf(4)).toBe(12)
  })

  it('a block of several chunks has one owner, who keeps what was given first', async () => {
    const { exceptions, chunkSize } = await stored(1, [7, 8, 9, 16])
    const pieces = cutPieces(exceptions, chunkSize, 4096)
    expect(pieces).toMatchObject({ unit: 512, count: 4, piecesPerChunk: 1 })
    expect(pieces.claim(4096, 4096, 'directories', 2)).toBe(2)
    expect(pieces.claim(0, 1 << 20, 'files', 3)).toBe(2)
    expect([0, 1, 2, 3].map(pieces.inodeOf)).toEqual([3, 2, 2, 3])
    expect(pieces.claim(1 << 19, 1 << 19, 'files', 3)).toBe(0)
  })
})

describe('the usage of an overlay', () => {
  it('random chunks of random sizes over no filesystem: all bytes are counted, and those of the base are found', async () => {
    const noise = random()
    for (let turn = 0; turn < 40; turn++) {
      const chunkSectors = 2 ** noise.below(8)
      const chunkSize = chunkSectors * 512
      const origin = noise.bytes(chunkSize * (2 + noise.below(40)) - noise.below(2) * 300)
      const chunkCount = Math.ceil(origin.length / chunkSize)
      const changes: ChangedChunk[] = []
      let same = 0
      for (const oldChunk of Array.from({ length: chunkCount }, (_, n) => n).sort(() => noise.below(3) - 1)) {
        const kind = noise.below(3)
        if (kind === 0) continue
        const content = new Uint8Array(chunkSize)
        const old = origin.subarray(oldChunk * chunkSize, (oldChunk + 1) * chunkSize)
        content.set(old)
        if (kind === 1) same += chunkSize
        else content[noise.below(old.length)]! ^= 1 + noise.below(255)
        changes.push({ oldChunk, content })
      }
      const usage = await readOverlayUsage(
        await overlaidStack(memory(origin), storeOf(changes, chunkSectors, noise.below(5))),
      )
      const told = `seed ${noise.seed}, turn ${turn}`
      expect(sum(usage.categories), told).toBe(usage.allocatedBytes)
      expect(bytesOf(usage, 'identical').bytes, told).toBe(same)
      expect(bytesOf(usage, 'unknown').bytes, told).toBe(changes.length * chunkSize - same)
      expect(usage).toMatchObject({ owners: [], space: undefined, findings: [{ code: 'ROOT_UNSUPPORTED' }] })
    }
  })

  it('a filesystem that the kernel changed: files by their paths', async () => {
    const { origin, cow } = await ext4()
    const usage = await readOverlayUsage(await overlaidStack(memory(origin), cow))
    expectWhole(usage)
    expect(usage.findings).toEqual([])
    const paths = usage.owners.map(({ path }) => path)
    expect(paths).not.toContain(undefined)
    for (let n = 0; n < 20; n++) expect(paths).toContain(`/new${n}.txt`)
    expect(bytesOf(usage, 'journal').bytes).toBeGreaterThan(0)
    expect(bytesOf(usage, 'unknown')).toMatchObject({ bytes: 0, identicalBytes: 0 })
    expect(bytesOf(usage, 'header').bytes).toBe(4096)
  })

  it('random chunks of random sizes over a filesystem: each block counts for whom it belongs to', async () => {
    const { merged } = await ext4()
    const volume = await openVolume(await openReplayed(memory(merged)))
    const { blockSize } = volume.superblock
    // Each block by itself, from a store that holds all of them: what any other store holds of it must be the same.
    const whole = (await wholeStore(merged, blockSize)).overlay.store
    const blocks = cutPieces(whole.exceptions, whole.chunkSize, blockSize)
    await attribute(volume, blocks)
    const noise = random()
    for (let turn = 0; turn < 6; turn++) {
      const chunkSectors = 2 ** noise.below(10)
      const chunkSize = chunkSectors * 512
      const changes: ChangedChunk[] = []
      const expected = new Map<Role, number>(ROLES.map(role => [role, 0]))
      const unit = Math.min(chunkSize, blockSize)
      const few = chunkSize < blockSize ? 40 : 3
      for (let oldChunk = 0; oldChunk * chunkSize < merged.length; oldChunk++) {
        if (noise.below(few) !== 0) continue
        const content = new Uint8Array(chunkSize)
        content.set(merged.subarray(oldChunk * chunkSize, (oldChunk + 1) * chunkSize))
        changes.push({ oldChunk, content })
        for (let skip = 0; skip < chunkSize; skip += unit) {
          const block = Math.floor((oldChunk * chunkSize + skip) / blockSize)
          const role = block < blocks.count ? blocks.roleOf(block) : 'outside'
          expected.set(role, expected.get(role)! + unit)
        }
      }
      // Where the base has ones everywhere, nothing is the same as in the base.
      const base = new Uint8Array(merged.length).fill(0xff)
      const stack = await overlaidStack(memory(base), storeOf(changes, chunkSectors))
      const usage = await readOverlayUsage({ ...stack, root: memory(merged) })
      expectWhole(usage)
      const told = `seed ${noise.seed}, turn ${turn}, chunks of ${chunkSize}`
      for (const [role, bytes] of expected) {
        const found = bytesOf(usage, role)
        expect(found.bytes + found.identicalBytes, `${role}, ${told}`).toBe(bytes)
      }
    }
  })

  it('identical goes before everything else, and both numbers are told', async () => {
    const { merged } = await ext4()
    const stack = await wholeStore(merged, 4096)
    const usage = await readOverlayUsage(stack)
    expectWhole(usage)
    expect(bytesOf(usage, 'identical').bytes).toBe(merged.length)
    expect(bytesOf(usage, 'freed')).toMatchObject({ bytes: 0 })
    expect(bytesOf(usage, 'freed').identicalBytes).toBe(usage.space!.freeBytes)
  })

  it('a device may go on behind its filesystem', async () => {
    const { merged } = await ext4()
    const base = new Uint8Array(merged.length + 65_536 + 300)
    base.set(merged)
    const chunks = merged.length / 4096
    const changes = [chunks - 1, chunks, chunks + 3, chunks + 16].map(oldChunk => ({
      oldChunk,
      content: new Uint8Array(4096).fill(7),
    }))
    const usage = await readOverlayUsage(await overlaidStack(memory(base), storeOf(changes, 8)))
    expectWhole(usage)
    expect(bytesOf(usage, 'outside').bytes).toBe(3 * 4096)
  })

  it('an invalid, a new and a cut store', async () => {
    const { origin, cow } = await ext4()
    const invalid = new Uint8Array(cow)
    invalid[4] = 0
    const usage = await readOverlayUsage(await overlaidStack(memory(origin), invalid))
    expectWhole(usage)
    expect(usage.findings).toMatchObject([{ code: 'OVERLAY_INVALID', severity: 'error' }])
    expect(usage.owners.length).toBeGreaterThan(20)
    const fresh = await readOverlayUsage(await overlaidStack(memory(origin), new Uint8Array(1 << 20)))
    expect(fresh).toMatchObject({ allocatedBytes: 8192, unusedBytes: (1 << 20) - 8192, owners: [], findings: [] })
    expectWhole(fresh)
    const content = new Uint8Array(512)
    // 32 exceptions fill the only area, and the store ends where the next one would be.
    const full = storeOf(
      Array.from({ length: 32 }, (_, oldChunk) => ({ oldChunk, content })),
      1,
      0,
    ).subarray(0, 34 * 512)
    const cut = await readOverlayUsage(await overlaidStack(memory(new Uint8Array(1 << 16)), full))
    expect(cut.findings.map(({ code }) => code)).toContain('OVERLAY_INVALID')
    expect(cut).toMatchObject({ allocatedBytes: full.length, unusedBytes: 0 })
    expectWhole(cut)
  })

  it('chunks that no exception names are gaps', async () => {
    const content = new Uint8Array(512)
    const changes = Array.from({ length: 5 }, (_, oldChunk) => ({ oldChunk, content }))
    const cow = storeOf(changes, 1)
    // The list goes on at chunk 20: as after a merge that was interrupted.
    new DataView(cow.buffer).setBigUint64(512 + 4 * 16 + 8, 20n, true)
    const grown = new Uint8Array(64 * 512)
    grown.set(cow)
    const usage = await readOverlayUsage(await overlaidStack(memory(new Uint8Array(1 << 16)), grown))
    expectWhole(usage)
    expect(usage.allocatedBytes).toBe(21 * 512)
    expect(bytesOf(usage, 'gaps').bytes).toBe((21 - 2 - 5) * 512)
  })
})

const wholeStore = async (merged: Uint8Array, chunkSize: number) =>
  overlaidStack(
    memory(merged),
    storeOf(
      Array.from({ length: Math.ceil(merged.length / chunkSize) }, (_, oldChunk) => {
        const content = new Uint8Array(chunkSize)
        content.set(merged.subarray(oldChunk * chunkSize, (oldChunk + 1) * chunkSize))
        return { oldChunk, content }
      }),
      chunkSize / 512,
    ),
  )

describe('damage', () => {
  it('flipped bits in metadata take away names, never bytes', async () => {
    const { origin, cow } = await ext4()
    const noise = random()
    for (let turn = 0; turn < 25; turn++) {
      const broken = new Uint8Array(origin)
      const start = noise.below(2) === 0 ? 0 : 1024
      for (let n = 0; n < 1 + noise.below(30); n++)
        broken[start + noise.below(turn % 2 === 0 ? 4096 : 8 << 20)]! ^= 1 << noise.below(8)
      const usage = await readOverlayUsage(await overlaidStack(memory(broken), cow))
      try {
        expectWhole(usage)
      } catch (error) {
        throw new Error(`seed ${noise.seed}, turn ${turn}`, { cause: error })
      }
    }
  })

  it('a bad spot of the base is told once, and its chunks count as changed', async () => {
    const origin = random(1).bytes(64 * 4096)
    const changes = [3, 4, 40].map(oldChunk => ({
      oldChunk,
      content: origin.slice(oldChunk * 4096, (oldChunk + 1) * 4096),
    }))
    const cow = storeOf(changes, 8)
    const faulty: Device = faultyDevice(memory(origin), [{ from: 40 * 4096, to: 40 * 4096 + 1 }])
    const usage = await readOverlayUsage(await overlaidStack(faulty, cow))
    expect(bytesOf(usage, 'identical').bytes).toBe(2 * 4096)
    expect(bytesOf(usage, 'unknown').bytes).toBe(4096)
    expect(usage.findings.map(({ code }) => code)).toContain('COMPARE_UNREADABLE')
  })

  it('a directory that can not be read costs the names in it', async () => {
    const { origin, cow } = await ext4()
    const stack = await overlaidStack(memory(origin), cow)
    const intact = await readOverlayUsage(stack)
    const [{ physical }] = await rootBlocks(stack.root)
    const usage = await readOverlayUsage({
      ...stack,
      root: faultyDevice(stack.root, [{ from: physical, to: physical + 1 }]),
    })
    expectWhole(usage)
    expect(usage.findings.map(({ code }) => code)).toEqual(['ROOT_DAMAGED'])
    expect(usage.owners.filter(({ path }) => path === undefined).length).toBeGreaterThan(20)
    expect(usage.categories).toEqual(intact.categories)
  })

  it('stops where it is told to', async () => {
    const { origin, cow } = await ext4()
    const stop = new AbortController()
    stop.abort()
    await expect(
      readOverlayUsage(await overlaidStack(memory(origin), cow), { signal: stop.signal }),
    ).rejects.toMatchObject({ code: 'CANCELLED' })
    await expect(
      readOverlayUsage(
        await overlaidStack(
          memory(new Uint8Array(1 << 16)),
          storeOf([{ oldChunk: 1, content: new Uint8Array(512) }], 1),
        ),
        { signal: stop.signal },
      ),
    ).rejects.toBeInstanceOf(LiveError)
  })
})

const rootBlocks = async (root: Device): Promise<[{ physical: number }]> => {
  const { ownedRuns } = await import('../../../src/fs/ext4/sweep.js')
  const { readInode } = await import('../../../src/fs/ext4/inode.js')
  const volume = await openVolume(await openReplayed(root))
  const [run] = await ownedRuns(volume, await readInode(volume, 2))
  return [{ physical: run!.start }]
}
