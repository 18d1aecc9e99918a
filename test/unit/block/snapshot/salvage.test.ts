import { describe, expect, it } from 'vitest'
import { memory } from '../../../../src/block/memory.js'
import { areaChunk, encodeArea, exceptionOffset } from '../../../../src/block/snapshot/layout.js'
import { type Salvage, salvageStore } from '../../../../src/block/snapshot/salvage.js'
import { readStore } from '../../../../src/block/snapshot/store.js'
import { kernelFixtures } from '../../../support/kernel-fixtures.js'
import { random } from '../../../support/random.js'
import { storeOf } from '../../../support/store-writer.js'

const chunk = (length: number, value: number) => new Uint8Array(length).fill(value)
/** A store of `count` exceptions: origin chunk 5000 - n holds n. */
const store = (count: number, chunkSectors = 1, slack = 3) =>
  storeOf(
    Array.from({ length: count }, (_, n) => ({ oldChunk: 5000 - n, content: chunk(chunkSectors * 512, n & 0xff) })),
    chunkSectors,
    slack,
  )
const ORIGIN = 6000 * 512
const salvage = (bytes: Uint8Array, options: Parameters<typeof salvageStore>[1] = { originSize: ORIGIN }) =>
  salvageStore(memory(bytes, 'store'), options)
const kept = ({ store: found }: Salvage) => [...(found?.exceptions.stored() ?? [])].map(({ oldChunk }) => oldChunk)
const putEntry = (
  bytes: Uint8Array,
  index: number,
  oldChunk: number | bigint,
  newChunk: number | bigint,
  size = 512,
) => {
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  const at = exceptionOffset(index, size)
  view.setBigUint64(at, BigInt(oldChunk), true)
  view.setBigUint64(at + 8, BigInt(newChunk), true)
}

describe('what the kernel left', () => {
  it.each(
    kernelFixtures().flatMap(fixture =>
      fixture.images
        .filter(name => name.startsWith('cow') || name.startsWith('overlay'))
        .map(image => [`${fixture.name}/${image}`, fixture, image] as const),
    ),
  )('%s is whole, as the reader finds it', async (name, fixture, image) => {
    const bytes = await fixture.image(image)
    const originSize = fixture.facts.origin_sectors ? fixture.facts.origin_sectors * 512 : undefined
    const cow = memory(bytes, name)
    const known = await readStore(cow, { originSize, ignoreInvalid: true })
    const found = await salvageStore(cow, { originSize })
    const partial = image.startsWith('overlay-metadata')
    expect(found.tear, name).toBeUndefined()
    expect(found.damage).toBe(
      known.state === 'invalid' ? 'invalid' : known.state === 'new' ? 'new' : known.full ? 'full' : 'clean',
    )
    if (partial) return
    const { exceptions, ...rest } = found.store!
    const { exceptions: wanted, ...others } = known
    expect({ ...rest, state: known.state }).toEqual(others)
    expect([...exceptions.stored()]).toEqual([...wanted.stored()])
    if (fixture.name === 'reset-stale') expect(found.staleBehind).toBe(true)
  })
})

describe('classes', () => {
  it('clean, new, full, invalid', async () => {
    expect((await salvage(store(40))).damage).toBe('clean')
    expect((await salvage(new Uint8Array(100 * 4096))).damage).toBe('new')
    expect((await salvage(store(40, 1, 0))).damage).toBe('full')
    const invalid = store(40)
    invalid[4] = 0
    const found = await salvage(invalid)
    expect({
      damage: found.damage,
      header: found.header,
      count: kept(found).length,
      state: found.store?.state,
    }).toEqual({
      damage: 'invalid',
      header: 'invalid',
      count: 40,
      state: 'ok',
    })
  })

  it('truncated: data chunks, or the next area, past the end', async () => {
    const whole = store(100)
    // chunk 60 holds exception 57: chunks 1 and 34 are areas
    const found = await salvage(whole.subarray(0, 60 * 512))
    expect({ damage: found.damage, kept: kept(found).length, lost: found.lost[0], lostCount: found.lostCount }).toEqual(
      {
        damage: 'truncated',
        kept: 57,
        lost: { index: 57, oldChunk: 5000 - 57, newChunk: 60 },
        lostCount: 7,
      },
    )
    // the last list that is there is full, and went on past the end
    expect(found.lostAtLeast).toBe(true)
    const ends = await salvage(store(60).subarray(0, 60 * 512))
    expect([ends.damage, ends.lostCount, ends.lostAtLeast]).toEqual(['truncated', 3, false])
    const border = await salvage(whole.subarray(0, 34 * 512))
    expect({ damage: border.damage, kept: kept(border).length, tear: border.tear?.field }).toEqual({
      damage: 'truncated',
      kept: 32,
      tear: 'size',
    })
    expect([border.lostCount, border.lostAtLeast]).toEqual([0, true])
    expect(border.store).toMatchObject({ truncated: true, full: true })
    expect((await salvage(whole.subarray(0, 512))).damage).toBe('too small')
    expect((await salvage(whole.subarray(0, 100))).damage).toBe('too small')
  })

  it('wrong base: chunks past the end of the base', async () => {
    const found = await salvage(store(40), { originSize: 4990 * 512 })
    expect({ damage: found.damage, kept: kept(found).length, field: found.tear?.field }).toEqual({
      damage: 'wrong base',
      kept: 0,
      field: 'old_chunk',
    })
  })

  it.each<[string, (bytes: Uint8Array) => void]>([
    ['a chunk past 2^53', bytes => putEntry(bytes, 50, 1n, 2n ** 60n)],
    ['an origin chunk past 2^53', bytes => putEntry(bytes, 50, 2n ** 60n, 53)],
    ['one chunk past the end of the base', bytes => putEntry(bytes, 50, 7000, 53)],
    ['a chunk of a list', bytes => putEntry(bytes, 50, 1, 34)],
    ['a chunk far from the last', bytes => putEntry(bytes, 50, 1, 100_000)],
    ['a chunk taken twice', bytes => putEntry(bytes, 50, 1, 52)],
    ['an origin chunk twice in the area', bytes => putEntry(bytes, 50, 5000 - 49, 53)],
    ['a free entry before others', bytes => putEntry(bytes, 50, 0, 0)],
  ])('torn: %s', async (_what, damage) => {
    const bytes = store(100)
    damage(bytes)
    const found = await salvage(bytes)
    expect({ damage: found.damage, kept: kept(found) }).toEqual({
      damage: 'torn',
      kept: Array.from({ length: 50 }, (_, n) => 5000 - n),
    })
    expect(found.tear!.index).toBe(50)
    expect(found.lostAtLeast).toBe(false)
    expect(found.lostCount).toBeGreaterThanOrEqual(49)
    expect(found.lost.map(({ index }) => index)).toContain(51)
  })

  it('stale area: a list of an earlier life that the full one runs into', async () => {
    const bytes = store(64)
    // the next list was not cleared: it has chunks that the one before has, too
    bytes.set(
      encodeArea(
        Array.from({ length: 20 }, (_, n) => ({ old_chunk: 7 + (n < 10 ? n : 4993 - 2 * n), new_chunk: 68 + n })),
        512,
      ),
      areaChunk(2, 32) * 512,
    )
    const grown = new Uint8Array(bytes.length + 40 * 512)
    grown.set(bytes)
    const found = await salvage(grown)
    expect({ damage: found.damage, kept: kept(found).length }).toEqual({ damage: 'stale area', kept: 64 })
  })

  it('a list behind the end is left alone, and told', async () => {
    const bytes = store(40, 1, 40)
    bytes.set(encodeArea([{ old_chunk: 3, new_chunk: 68 }], 512), areaChunk(2, 32) * 512)
    const found = await salvage(bytes)
    expect({ damage: found.damage, kept: kept(found).length, stale: found.staleBehind }).toEqual({
      damage: 'clean',
      kept: 40,
      stale: true,
    })
  })

  it('a header that is gone: the chunk size is found by trying, and told as a guess', async () => {
    for (const chunkSectors of [1, 2, 8, 16, 64]) {
      const bytes = store(300, chunkSectors)
      bytes.fill(0x33, 0, 512)
      const found = await salvage(bytes, { originSize: 6000 * chunkSectors * 512 })
      expect({
        damage: found.damage,
        header: found.header,
        size: found.store?.chunkSectors,
        kept: kept(found).length,
      }).toEqual({
        damage: 'header',
        header: 'guessed',
        size: chunkSectors,
        kept: 300,
      })
    }
    expect(await salvage(random(3).bytes(200_000))).toMatchObject({ damage: 'header', store: undefined })
    const cleared = store(300, 8)
    cleared.fill(0, 0, 512)
    expect(await salvage(cleared, {})).toMatchObject({ damage: 'header', header: 'guessed' })
  })

  it('numbers within a window may go back and forth, as old kernels wrote them', async () => {
    const bytes = store(60)
    putEntry(bytes, 10, 4990, 13)
    putEntry(bytes, 11, 4989, 12)
    expect(await salvage(bytes)).toMatchObject({ damage: 'clean' })
  })
})

describe('numbers farther off than the window', () => {
  /** A store whose list has its entries in pieces, each from a place to another, in another order than that of their chunks. */
  const inPieces = (count: number, pieces: readonly (readonly [number, number])[]): Uint8Array => {
    const bytes = store(count)
    const view = new DataView(bytes.buffer)
    const entries = Array.from({ length: count }, (_, n) => {
      const at = exceptionOffset(n, 512)
      return [view.getBigUint64(at, true), view.getBigUint64(at + 8, true)] as const
    })
    let next = 0
    for (const [from, to] of pieces)
      for (const [oldChunk, newChunk] of entries.slice(from, to)) putEntry(bytes, next++, oldChunk, newChunk)
    for (; next < count; next++) putEntry(bytes, next, 0, 0)
    return bytes
  }

  it.each<[string, readonly (readonly [number, number])[], number]>([
    [
      'a run that came late',
      [
        [1500, 4500],
        [0, 1500],
      ],
      4500,
    ],
    [
      'one that never came',
      [
        [0, 100],
        [2000, 4500],
      ],
      2600,
    ],
    [
      'runs in any order',
      [
        [3000, 4500],
        [0, 200],
        [1600, 3000],
        [200, 1600],
      ],
      4500,
    ],
    [
      'a single one that was late, all others being there',
      [
        [0, 7],
        [8, 3000],
        [7, 8],
        [3000, 4500],
      ],
      4500,
    ],
  ])('%s: our earlier writers left such lists, which are whole', async (_what, pieces, count) => {
    const found = await salvage(inPieces(4500, pieces))
    expect({ damage: found.damage, kept: kept(found).length }).toEqual({ damage: 'clean', kept: count })
  })

  it.each<[string, (bytes: Uint8Array) => void, number]>([
    // entry 50 has chunk 53; 4641 is the last chunk that is listed
    ['a bit too many', bytes => putEntry(bytes, 50, 4950, 53 + 4096), 50],
    ['a bit too few', bytes => putEntry(bytes, 4400, 600, 4500 - 4096), 4400],
    ['a chunk behind all others', bytes => putEntry(bytes, 50, 4950, 4643), 50],
  ])('%s: a number that is damaged stands alone', async (_what, damage, index) => {
    const bytes = store(4500)
    damage(bytes)
    const found = await salvage(bytes)
    expect({ damage: found.damage, kept: kept(found).length }).toEqual({ damage: 'torn', kept: index })
  })

  it('a sector of numbers of which all have a bit too many', async () => {
    const bytes = store(2000, 1, 6000)
    const view = new DataView(bytes.buffer)
    for (let n = 320; n < 352; n++) {
      const at = exceptionOffset(n, 512) + 8
      view.setBigUint64(at, view.getBigUint64(at, true) | 4096n, true)
    }
    expect(await salvage(bytes)).toMatchObject({ damage: 'torn', tear: { index: 320 } })
  })
})

it('any damage of one entry keeps all before it, or is none that can be seen', async () => {
  const { seed, below, bytes: draw } = random()
  for (let round = 0; round < 400; round++) {
    const count = 1 + below(200)
    const bytes = store(count)
    const at = below(count)
    const offset = exceptionOffset(at, 512)
    const before = bytes.slice(offset, offset + 16)
    bytes.set(draw(16).subarray(0, 1 + below(16)), offset + below(4))
    const found = await salvage(bytes)
    const list = kept(found)
    const wanted = Array.from({ length: count }, (_, n) => 5000 - n)
    const words = `seed ${seed}, round ${round}: entry ${at} of ${count}, ${Buffer.from(before).toString('hex')} is ${Buffer.from(bytes.subarray(offset, offset + 16)).toString('hex')}`
    const whole = list.length === count && !found.tear
    // a repeated chunk that comes before its twin damages the later one, which was right
    const repeated = found.tear && (found.tear.kind === 'stale area' || /earlier/.test(found.tear.expected))
    if (!whole && !repeated) {
      expect(list, words).toEqual(wanted.slice(0, at))
      expect(found.tear?.index, words).toBe(at)
    }
    for (const [n, oldChunk] of list.entries()) if (n !== at) expect(oldChunk, words).toBe(wanted[n])
    expect(new Set(list).size, words).toBe(list.length)
  }
})

it('random bytes in lists, headers and sizes give a store that is in order, or none', async () => {
  const { seed, below, bytes: draw } = random()
  for (let round = 0; round < 150; round++) {
    const whole = store(below(150), [1, 2, 8][below(3)])
    const bytes = whole.slice(0, below(4) ? whole.length : below(whole.length))
    for (let n = below(6); n > 0; n--) {
      const length = 1 + below(600)
      bytes.set(draw(length).subarray(0, Math.max(0, bytes.length - 1)), below(Math.max(1, bytes.length - length)))
    }
    const { store: found } = await salvage(bytes)
    if (!found) continue
    const areaChunks = found.chunkSize / 16 + 1
    const seen = new Set<number>()
    for (const { oldChunk, newChunk } of found.exceptions.stored()) {
      expect(newChunk * found.chunkSize + found.chunkSize, `seed ${seed}`).toBeLessThanOrEqual(bytes.length)
      expect(newChunk % areaChunks).not.toBe(1)
      expect(oldChunk * found.chunkSize).toBeLessThan(ORIGIN)
      expect(seen.has(newChunk)).toBe(false)
      seen.add(newChunk)
    }
  }
})

it('a list whose lists can not be read ends there', async () => {
  const bytes = store(100)
  const cow = memory(bytes, 'store')
  const broken = {
    ...cow,
    read: async (offset: number, length: number) => {
      if (offset <= areaChunk(1, 32) * 512 && offset + length > areaChunk(1, 32) * 512) {
        const { LiveError } = await import('../../../../src/error.js')
        throw new LiveError('IO', 'a bad sector')
      }
      return cow.read(offset, length)
    },
  }
  const found = await salvageStore(broken, { originSize: ORIGIN })
  expect({ damage: found.damage, kept: kept(found).length, field: found.tear?.field }).toEqual({
    damage: 'torn',
    kept: 32,
    field: 'area',
  })
  expect(found.lostAtLeast).toBe(true)
})
