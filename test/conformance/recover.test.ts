import { truncate, writeFile } from 'node:fs/promises'
import { expect } from 'vitest'
import { exceptionOffset } from '../../src/block/snapshot/layout.js'
import { statusLine } from '../../src/block/snapshot/status.js'
import { kernelFixture } from '../support/kernel-fixtures.js'
import { failure } from '../support/outcome.js'
import { random } from '../support/random.js'
import {
  fileHash,
  fsckCode,
  layPair,
  namesIn,
  type Pair,
  planned,
  recovered,
  takenBack,
  treeOf,
  viewHash,
  withView,
} from '../support/recovering.js'
import { sha256 } from '../support/small-stick.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const { it, describe } = needTools('e2fsck')
const path = temporary()

const pairOf = async (name: string, origin = 'origin.img', cow = 'cow.img'): Promise<Pair & { cow: Uint8Array }> => {
  const fixture = kernelFixture(name)
  const bytes = await fixture.image(cow)
  return { ...(await layPair(await path(name), await fixture.image(origin), bytes)), cow: bytes }
}

/** An undo gives back every byte, and leaves nothing. */
const expectUndone = async (pair: Pair, before: Uint8Array): Promise<void> => {
  await takenBack(pair)
  expect(await fileHash(pair.overlay)).toBe(sha256(before))
  expect(await namesIn(pair)).toEqual(['overlay', 'rootfs.img'])
  await failure(takenBack(pair), 'NOT_FOUND')
}

describe('filesystems that overflowed under the real kernel', () => {
  for (const [name, damage] of [
    ['fs-ext4-invalid', 'invalid'],
    ['fs-ext4-overflow', 'full'],
  ] as const)
    it(`${name} comes back whole, as it did in the kernel, and goes back`, async () => {
      const { facts } = kernelFixture(name)
      const pair = await pairOf(name)
      const plan = await planned(pair)
      expect(plan).toMatchObject({ damage, clearsInvalid: damage === 'invalid', list: { lost: 0, tear: null } })
      expect(plan.fsck?.program).toBe('e2fsck')
      const done = await recovered(pair)
      expect(done).toMatchObject({ changed: true, damage, fsck: { code: 1 }, undo: 'overlay.undo' })
      expect(done.fsck?.words).toContain('recovering journal')
      expect(done.fsck?.changes).toEqual([])
      expect(await fsckCode(pair)).toBe(0)
      expect(await treeOf(pair)).toEqual(facts.rec_tree)
      expect(facts.rec_good_files_lost_or_changed).toEqual([])
      await withView(pair, async (_root, store) => {
        expect(store).toMatchObject({ state: 'ok', full: false, cowSize: done.size.after })
        // what the kernel's own recovery took, e2fsck's blocks included
        expect(store.exceptions.count).toBeGreaterThanOrEqual(12288 / 8 - 2 - 6)
      })
      // a second one finds nothing to do
      expect(await recovered(pair)).toMatchObject({ changed: false, fsck: { code: 0 } })
      await expectUndone(pair, pair.cow)
    })

  it('a boot since then is seen, and undo refuses; without the check nothing of the filesystem changes', async () => {
    const pair = await pairOf('fs-ext4-overflow')
    const done = await recovered(pair, { fsck: false, size: 8 << 20 })
    expect(done).toMatchObject({ changed: true, fsck: null, size: { after: 8 << 20 } })
    expect(await viewHash(pair)).toBe(kernelFixture('fs-ext4-overflow').facts.rec_sha256_before_fsck)
    const { openWritableFile } = await import('../../src/block/file.js')
    const file = await openWritableFile(pair.overlay)
    const place = await withView(pair, async (_root, store) => store.exceptions.find(0)! * store.chunkSize)
    const old = await file.read(place + 1024 + 48, 4)
    // s_wtime of the superblock, as any mount sets it
    await file.write(place + 1024 + 48, new Uint8Array([1, 2, 3, 4]))
    expect((await failure(takenBack(pair), 'REFUSED')).message).toContain('has been written since the recover')
    await file.write(place + 1024 + 48, old)
    await file.close()
    await expectUndone(pair, pair.cow)
  })
})

describe('stores without a filesystem', () => {
  for (const name of ['invalid', 'overflow'])
    it(`${name}: the view is the one that the kernel showed after its repair`, async () => {
      const { facts } = kernelFixture(name)
      const pair = await pairOf(name)
      const done = await recovered(pair, { size: 2 << 20 })
      expect(done).toMatchObject({ changed: true, fsck: null, clearedInvalid: name === 'invalid' })
      expect(done.findings.map(({ code }) => code)).toEqual(['FSCK_UNKNOWN'])
      expect(await viewHash(pair)).toBe(facts.repaired_merged_sha256)
      await withView(pair, async (root, store) => expect(statusLine(store, root.size)).toBe(facts.repaired_status))
      await expectUndone(pair, pair.cow)
    })

  for (const [name, origin, cow, hash] of [
    ...[
      'area255',
      'area256',
      'area257',
      'area512',
      'chunk1',
      'chunk16',
      'chunk64',
      'chunk-override',
      'reset-stale',
    ].map(fixture => [fixture, 'origin.img', 'cow.img', 'merged_sha256'] as const),
    ['discard', 'origin-after.img', 'cow.img', 'merged_sha256'] as const,
    ['merge-interrupted', 'origin-after.img', 'cow-after.img', 'merged_sha256'] as const,
  ])
    it(`${name}: there is nothing to recover, or only room to be made, and the view stays`, async () => {
      const pair = await pairOf(name, origin, cow)
      const { full } = await withView(pair, async (_root, store) => store)
      const done = await recovered(pair)
      expect(done.changed).toBe(full)
      expect(await viewHash(pair)).toBe(kernelFixture(name).facts[hash])
      if (full) await expectUndone(pair, pair.cow)
    })

  it('live-b-overflow: the list of a real stick that overflowed', async () => {
    const fixture = kernelFixture('live-b-overflow')
    const cow = await fixture.image('overlay-metadata-only.img')
    const pair = await layPair(await path('live-b'), new Uint8Array(0), cow)
    await truncate(pair.base, 4194304 * 512)
    const before = await withView(pair, async (_root, store) => [...store.exceptions.stored()])
    const done = await recovered(pair)
    expect(done).toMatchObject({ changed: true, damage: 'full' })
    expect(await withView(pair, async (_root, store) => [...store.exceptions.stored()])).toEqual(before)
    await expectUndone(pair, cow)
  })
})

describe('lists that are cut off or torn', () => {
  it('a file that was cut off keeps what its list still leads to, says what is lost, and is checked', async () => {
    const pair = await pairOf('fs-ext4-overflow')
    const cut = pair.cow.subarray(0, 3 << 20)
    await writeFile(pair.overlay, cut)
    const plan = await planned(pair)
    expect(plan.damage).toBe('truncated')
    expect(plan.list.lost).toBeGreaterThan(0)
    expect(plan.list.content.unknown).toBeNull()
    const done = await recovered(pair)
    expect(done.list.lost).toBe(plan.list.lost)
    expect(await fsckCode(pair)).toBe(0)
    const tree = await treeOf(pair)
    expect(tree['etc/hostname']).toBe(
      (kernelFixture('fs-ext4-overflow').facts.rec_tree as Record<string, string>)['etc/hostname'],
    )
    await expectUndone(pair, cut)
  })

  it('any entry that is spoilt: checked and clean afterwards, and back again to the byte', async () => {
    const { seed, below, bytes } = random()
    for (let round = 0; round < 5; round++) {
      const pair = await pairOf('fs-ext4-overflow')
      const spoilt = pair.cow.slice()
      const at = below(1500)
      spoilt.set(bytes(16), exceptionOffset(at, 4096))
      if (round % 2) spoilt[4] = 0
      await writeFile(pair.overlay, spoilt)
      const words = `seed ${seed}, entry ${at}`
      const done = await recovered(pair)
      expect({ kept: done.list.kept, changed: done.changed }, words).toEqual({ kept: at, changed: true })
      expect(await fsckCode(pair), words).toBe(0)
      await expectUndone(pair, spoilt)
    }
  })

  it('a header that is gone is told, and taken only by option', async () => {
    const pair = await pairOf('fs-ext4')
    const { facts } = kernelFixture('fs-ext4')
    const spoilt = pair.cow.slice()
    spoilt.fill(0xee, 0, 512)
    await writeFile(pair.overlay, spoilt)
    const told = await failure(planned(pair), 'REFUSED')
    expect(told.message).toContain('--chunk 8')
    const done = await recovered(pair, { chunkSectors: 8 })
    expect(done).toMatchObject({ changed: true, damage: 'header' })
    expect(await viewHash(pair)).toBe(facts.merged_sha256)
    await expectUndone(pair, spoilt)
  })

  it('an overlay of another base is refused', async () => {
    const pair = await pairOf('fs-ext4-overflow')
    await truncate(pair.base, 8 << 20)
    expect((await failure(planned(pair), 'REFUSED')).message).toContain('belongs to another base')
  })
})
