import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import type { Device } from '../../src/block/device.js'
import { linear } from '../../src/block/linear.js'
import { memory } from '../../src/block/memory.js'
import { snapshot } from '../../src/block/snapshot/snapshot.js'
import { statusLine } from '../../src/block/snapshot/status.js'
import { readStore } from '../../src/block/snapshot/store.js'
import { type KernelFixture, kernelFixtures } from '../support/kernel-fixtures.js'

const sha256 = async (device: Device): Promise<string> => {
  const hash = createHash('sha256')
  for (let offset = 0; offset < device.size; offset += 1 << 20)
    hash.update(await device.read(offset, Math.min(1 << 20, device.size - offset)))
  return hash.digest('hex')
}

/** Which images make a view, and under which names facts.json keeps what the kernel said of it. */
interface Pair {
  readonly origin: string
  readonly cow: string
  readonly hash: string
  readonly status?: string
  readonly exceptions?: string
}

const PAIRS: readonly Pair[] = [
  { origin: 'origin.img', cow: 'cow.img', hash: 'merged_sha256', status: 'status', exceptions: 'exceptions' },
  { origin: 'origin.img', cow: 'cow.img', hash: 'merged_sha256', status: 'status_before', exceptions: 'exceptions' },
  { origin: 'origin.img', cow: 'cow.img', hash: 'merged_sha256', status: 'status_reopened_readonly' },
  { origin: 'origin.img', cow: 'cow.img', hash: 'second_merged_sha256', status: 'second_status' },
  // Overflow is in the kernel's memory only; once activated again it says how much is used.
  { origin: 'origin.img', cow: 'cow.img', hash: 'merged_sha256_in_state', status: 'reactivate_status' },
  { origin: 'origin.img', cow: 'cow.img', hash: 'repaired_merged_sha256' },
  { origin: 'origin.img', cow: 'cow.img', hash: 'rec_sha256_before_fsck' },
  {
    origin: 'origin.img',
    cow: 'cow-repaired.img',
    hash: 'repaired_merged_sha256_after_write',
    status: 'repaired_status_after_write',
  },
  { origin: 'origin.img', cow: 'cow-recovered.img', hash: 'rec_sha256', status: 'rec_status' },
  {
    origin: 'origin-after.img',
    cow: 'cow-after.img',
    hash: 'snapshot_sha256_after',
    status: 'status_snapshot_after',
  },
  // A merge cut short and its store from before: the same view again.
  { origin: 'origin-after.img', cow: 'cow.img', hash: 'merged_sha256' },
]

const pairsOf = ({ name, images, facts }: KernelFixture): Pair[] =>
  PAIRS.filter(
    ({ origin, cow, hash }) =>
      images.includes(origin) &&
      images.includes(cow) &&
      typeof facts[hash] === 'string' &&
      // Its discards went through to the origin, and the kernel's hash is of the view after.
      !(name === 'discard' && origin === 'origin.img'),
  )

const fixtures = kernelFixtures()
// Of real sticks only the metadata is kept, without the base.
const whole = fixtures.filter(fixture => pairsOf(fixture).length > 0)
const images = new Map<string, Promise<Uint8Array>>()
const imageOf = (fixture: KernelFixture, image: string): Promise<Device> => {
  const key = `${fixture.name}/${image}`
  // Only the images of one fixture are kept: together they take more than a GiB.
  for (const other of images.keys()) if (!other.startsWith(`${fixture.name}/`)) images.delete(other)
  const bytes = images.get(key) ?? fixture.image(image)
  images.set(key, bytes)
  return bytes.then(known => memory(known, key))
}

test('there are fixtures of every kind', () => {
  expect(fixtures.length).toBeGreaterThanOrEqual(27)
  for (const { hash, cow } of PAIRS)
    expect(
      fixtures.some(fixture => pairsOf(fixture).some(pair => pair.hash === hash && pair.cow === cow)),
      `${cow} ${hash}`,
    ).toBe(true)
})

describe.each(whole.map(fixture => [fixture.name, fixture] as const))('what the kernel made of %s', (_, fixture) => {
  const { facts } = fixture

  for (const [file, known] of Object.entries(facts.files))
    if (typeof known === 'object')
      test(`${file} is whole`, async () => {
        expect(await sha256(await imageOf(fixture, file))).toBe(known.sha256)
      })

  for (const { origin, cow, hash, status, exceptions } of pairsOf(fixture))
    test(`${origin} under ${cow} shows ${hash}${status && facts[status] ? `, and says ${status}` : ''}`, async () => {
      const base = await imageOf(fixture, origin)
      expect(base.size).toBe(facts.origin_sectors * 512)
      const view = await snapshot(base, await imageOf(fixture, cow), { ignoreInvalid: true })
      expect(await sha256(view)).toBe(facts[hash])
      const said = status && facts[status]
      // What the running kernel knew, and the store does not.
      if (typeof said === 'string' && !said.endsWith('Overflow'))
        expect(statusLine(view.store, base.size)).toBe(said.replace('snapshot-merge', 'snapshot'))
      if (exceptions && typeof facts[exceptions] === 'number')
        expect(view.store.exceptions.count).toBe(facts[exceptions])
      if (facts.chunk_sectors !== undefined) expect(view.store.chunkSectors).toBe(facts.chunk_sectors)
    })

  if (typeof facts.status_empty === 'string')
    test('an unused store has the status of a fresh one', async () => {
      const empty = memory(new Uint8Array((await imageOf(fixture, 'cow.img')).size))
      const store = await readStore(empty, { tableChunkSectors: facts.chunk_sectors })
      expect(statusLine(store, facts.origin_sectors * 512)).toBe(facts.status_empty)
    })

  for (const status of ['repaired_status', 'rec_status0'])
    if (typeof facts[status] === 'string')
      test(`enlarged and marked valid it has ${status}`, async () => {
        const cow = await imageOf(fixture, 'cow.img')
        const bytes = await cow.read(0, cow.size)
        bytes[4] = 1
        const sectors = Number(/\/(\d+)/.exec(String(facts[status]))?.[1])
        const grown = linear(
          [{ length: bytes.length, device: memory(bytes) }, { length: sectors * 512 - bytes.length }],
          'grown',
        )
        const store = await readStore(grown)
        expect(statusLine(store, facts.origin_sectors * 512)).toBe(facts[status])
        expect(store).toMatchObject({ state: 'ok', full: false })
        expect((await readStore(cow)).full).toBe(true)
      })
})

const byName = (name: string): KernelFixture => {
  const fixture = fixtures.find(each => each.name === name)
  if (!fixture) throw new Error(`no fixture ${name}`)
  return fixture
}

describe('what the kernel said of stores', () => {
  test.each(['invalid', 'fs-ext4-invalid'])('%s: Invalid', async name => {
    const fixture = byName(name)
    const store = await readStore(await imageOf(fixture, 'cow.img'))
    expect(store.state).toBe('invalid')
    expect(statusLine(store, fixture.facts.origin_sectors * 512)).toBe(fixture.facts.status)
  })

  test.each(['overflow', 'fs-ext4-overflow'])('%s: valid and full', async name => {
    const store = await readStore(await imageOf(byName(name), 'cow.img'))
    expect(store).toMatchObject({ state: 'ok', full: true, truncated: false })
  })

  test('chunk-override: the header counts, whatever the table says', async () => {
    const fixture = byName('chunk-override')
    const store = await readStore(await imageOf(fixture, 'cow.img'), { tableChunkSectors: 8 })
    expect(store.chunkSectors).toBe(16)
    expect(statusLine(store, fixture.facts.origin_sectors * 512)).toBe(fixture.facts.second_status)
  })

  test('reset-stale: a reset store is new, and its old areas count for nothing', async () => {
    const fixture = byName('reset-stale')
    const { facts } = fixture
    const cow = await imageOf(fixture, 'cow.img')
    const bytes = (await cow.read(0, cow.size)).fill(0, 0, 65_536)
    const view = await snapshot(await imageOf(fixture, 'origin.img'), memory(bytes))
    expect(view.store.state).toBe('new')
    expect(statusLine(view.store, view.size)).toBe(facts.status_after_reset)
    expect(await sha256(view)).toBe(facts.sha256_after_reset)
  })

  test.each(['live-a-vfat', 'live-a-ext4-frozen', 'live-b-overflow'])('%s: the numbers of a real stick', async name => {
    const fixture = byName(name)
    const { facts } = fixture
    const known = facts.skeleton as Record<'areas' | 'bytes' | 'chunk_sectors' | 'exceptions' | 'highest_chunk', number>
    const cow = await imageOf(fixture, 'overlay-metadata-only.img')
    expect(cow.size).toBe(facts.overlay_bytes)
    const store = await readStore(cow, { originSize: facts.origin_sectors * 512 })
    expect(store).toMatchObject({
      state: 'ok',
      chunkSectors: known.chunk_sectors,
      areaCount: known.areas,
      nextFreeChunk: known.highest_chunk + 1,
      totalSectors: known.bytes / 512,
      full: name === 'live-b-overflow',
    })
    expect(store.exceptions.count).toBe(known.exceptions)
    const said = /status (\d+\/\d+ \d+)/.exec(String(facts.how))?.[1]
    if (said) expect(statusLine(store, facts.origin_sectors * 512)).toBe(`0 ${facts.origin_sectors} snapshot ${said}`)
  })
})
