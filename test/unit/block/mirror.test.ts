import { describe, expect, test } from 'vitest'
import { errorTarget } from '../../../src/block/error-target.js'
import { linear } from '../../../src/block/linear.js'
import { memory } from '../../../src/block/memory.js'
import { mirror, readMirrorLog } from '../../../src/block/mirror.js'
import { deviceContract } from '../../contract/device.js'
import { faultyDevice } from '../../support/faulty-device.js'
import { failure, sameBytes } from '../../support/outcome.js'
import { random } from '../../support/random.js'

const SIZE = 40_000
const REGION = 1024
const content = random(7).bytes(SIZE)
/** The content behind some other bytes. */
const leg = (lead: number, bytes = content) => ({
  device: memory(Buffer.concat([new Uint8Array(lead).fill(0xaa), bytes, new Uint8Array(100)])),
  deviceOffset: lead,
})
const other = random(8).bytes(SIZE)
const options = { size: SIZE, regionSize: REGION }

deviceContract('mirror', async () => ({ device: mirror([leg(512), leg(0)], options), bytes: content }))
deviceContract('mirror of legs that differ', async () => ({
  device: mirror([leg(3), leg(0, other)], { ...options, inSync: () => true }),
  bytes: content,
}))
deviceContract('mirror with bad places on both legs', async () => ({
  device: mirror(
    [
      { ...leg(0), device: faultyDevice(leg(0).device, [{ from: 3000, to: 3001 }]) },
      { ...leg(0), device: faultyDevice(leg(0).device, [{ from: 9000, to: 9500 }]) },
    ],
    { ...options, inSync: () => true },
  ),
  bytes: content,
}))
deviceContract('mirror whose first leg is gone', async () => ({
  device: mirror([{ device: errorTarget(SIZE), deviceOffset: 0 }, leg(77)], { ...options, inSync: async () => true }),
  bytes: content,
}))
deviceContract('mirror of sparse legs', async () => {
  const bytes = new Uint8Array(SIZE)
  bytes.set(content.subarray(0, 4096), 8192)
  const sparse = linear(
    [{ length: 8192 }, { length: 4096, device: memory(content) }, { length: SIZE - 8192 - 4096 }],
    'sparse',
  )
  return { device: mirror([{ device: sparse, deviceOffset: 0 }, leg(0, bytes)], options), bytes }
})

describe('mirror', () => {
  const broken = { ...leg(0), device: faultyDevice(leg(0).device, [{ from: 5000, to: 5001 }]) }

  test('takes no other leg where regions are not known to be alike', async () => {
    const device = mirror([broken, leg(0, other)], { ...options, name: 'm' })
    sameBytes(await device.read(0, 5000), content.subarray(0, 5000))
    const error = await failure(device.read(0, SIZE), 'IO')
    expect(error.message).toContain('not known to hold the same')
    expect(error.data).toEqual({ device: 'm', offset: 4096, length: 1024 })
  })

  test('asks of the region that failed, and of no other', async () => {
    const asked: number[] = []
    const inSync = (region: number): boolean => {
      asked.push(region)
      return region === 4
    }
    const device = mirror([broken, leg(0)], { ...options, inSync })
    sameBytes(await device.read(4500, 1000), content.subarray(4500, 5500))
    expect(asked.sort()).toEqual([4, 5])
  })

  test('fails where no leg can be read, with the first error as cause', async () => {
    const gone = { device: errorTarget(SIZE, 'gone'), deviceOffset: 0 }
    const error = await failure(mirror([broken, gone], { ...options, inSync: () => true }).read(4999, 2), 'IO')
    expect(String(error.cause)).toContain('injected EIO')
    expect(error.message).toContain('any leg')
  })

  test('refuses a leg that is too short', () => {
    expect(() => mirror([leg(0), { device: memory(content), deviceOffset: 1 }], options)).toThrow(/outside/)
  })
})

describe('the log of a mirror', () => {
  const log = (magic: number, version: number, regions: bigint, bits: readonly number[], size = 4096) => {
    const bytes = new Uint8Array(size)
    const view = new DataView(bytes.buffer)
    view.setUint32(0, magic, true)
    view.setUint32(4, version, true)
    view.setBigUint64(8, regions, true)
    bytes.set(bits, 1024)
    return memory(bytes, 'log')
  }
  const regionsOf = async (device: ReturnType<typeof log>, count: number): Promise<readonly number[]> => {
    const inSync = await readMirrorLog(device, count)
    const found: number[] = []
    for (let region = 0; region < count + 3; region++) if (await inSync(region)) found.push(region)
    return found
  }

  test('tells the regions whose bit is set, up to the ones it speaks of', async () => {
    expect(await regionsOf(log(0x4d695272, 2, 12n, [0b10000001, 0xff]), 20)).toEqual([0, 7, 8, 9, 10, 11])
    expect(await regionsOf(log(0x4d695272, 2, 12n, [0b10000001, 0xff]), 9)).toEqual([0, 7, 8])
    expect(await regionsOf(log(0x4d695272, 2, 2n ** 64n - 1n, [0xff, 0xff]), 9)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8])
  })

  test('knows of none where it is new', async () => {
    expect(await regionsOf(log(0, 2, 12n, [0xff, 0xff]), 12)).toEqual([])
  })

  test('of another version or cut short it is CORRUPT', async () => {
    const { data } = await failure(readMirrorLog(log(0x4d695272, 3, 12n, []), 12), 'CORRUPT')
    expect(data).toMatchObject({ field: 'version', offset: 4, found: 3 })
    await failure(readMirrorLog(log(0x4d695272, 2, 12n, [], 1025), 9), 'CORRUPT')
    await failure(readMirrorLog(memory(new Uint8Array(0)), 2 ** 43), 'CORRUPT')
  })
})
