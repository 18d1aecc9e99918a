import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Device, type Extent, extentsOf, isSparse, type WritableDevice } from '../../src/block/device.js'
import { failure, sameBytes } from '../support/outcome.js'

/** A device to judge, and all that it must read. */
export interface Subject<D extends Device = Device> {
  readonly device: D
  readonly bytes: Uint8Array
}

/** The promises of Device, for any implementation: `make` gives a device and a plain array of what it holds. */
export const deviceContract = (name: string, make: () => Promise<Subject>): void => {
  describe(`${name} keeps the contract of Device`, () => {
    let device: Device
    let bytes: Uint8Array
    beforeAll(async () => {
      ;({ device, bytes } = await make())
    })
    afterAll(async () => {
      await device.close()
    })
    const ranges = (): fc.Arbitrary<[number, number]> =>
      fc.tuple(fc.nat(bytes.length), fc.nat(bytes.length)).map(([a, b]) => [Math.min(a, b), Math.abs(a - b)])

    test('has a name and the size', () => {
      expect(device.name).not.toBe('')
      expect(device.size).toBe(bytes.length)
    })

    test('reads what a plain array holds', async () => {
      await fc.assert(
        fc.asyncProperty(ranges(), async ([offset, length]) => {
          sameBytes(await device.read(offset, length), bytes.subarray(offset, offset + length))
        }),
      )
      sameBytes(await device.read(0, bytes.length), bytes)
    })

    test('reads nothing, anywhere up to the end', async () => {
      for (const offset of [0, Math.floor(bytes.length / 2), bytes.length])
        expect((await device.read(offset, 0)).length).toBe(0)
    })

    test('refuses what lies outside', async () => {
      const { size } = device
      for (const [offset, length] of [
        [size, 1],
        [0, size + 1],
        [-1, 1],
        [0, -1],
        [size + 1, 0],
        [0.5, 1],
        [0, Number.NaN],
        [2 ** 53, 1],
      ] as const)
        expect((await failure(device.read(offset, length), 'OUT_OF_RANGE')).data.size).toBe(size)
    })

    test('agrees with itself when read concurrently', async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(ranges(), { minLength: 2, maxLength: 12 }), async asked => {
          const read = await Promise.all(asked.map(([offset, length]) => device.read(offset, length)))
          for (const [index, [offset, length]] of asked.entries())
            sameBytes(read[index]!, bytes.subarray(offset, offset + length))
        }),
        { numRuns: 25 },
      )
    })

    test('gives bytes away: changing them changes nothing', async () => {
      const length = Math.min(8192, bytes.length)
      const mine = await device.read(0, length)
      mine.fill(0xee)
      sameBytes(await device.read(0, length), bytes.subarray(0, length))
    })

    test('knows its holes: extents cover the range in order, and holes are zero', async () => {
      const check = async (offset: number, length: number): Promise<void> => {
        let at = offset
        const extents: Extent[] = []
        for await (const extent of extentsOf(device, offset, length)) extents.push(extent)
        for (const extent of extents) {
          expect(extent.offset).toBe(at)
          expect(extent.length).toBeGreaterThan(0)
          at += extent.length
          if (extent.kind === 'hole') expect(bytes.subarray(extent.offset, at).every(byte => byte === 0)).toBe(true)
        }
        expect(at).toBe(offset + length)
      }
      await check(0, device.size)
      await fc.assert(fc.asyncProperty(ranges(), ([offset, length]) => check(offset, length)))
      if (isSparse(device))
        await failure(
          (async () => {
            for await (const _ of extentsOf(device, device.size, 1)) break
          })(),
          'OUT_OF_RANGE',
        )
    })
  })
}

/** The promises of WritableDevice: `make` gives a fresh device for each test, which may be written to anywhere in its size. */
export const writableDeviceContract = (name: string, make: () => Promise<Subject<WritableDevice>>): void => {
  describe(`${name} keeps the contract of WritableDevice`, () => {
    test('reads what was written, and all else as it was', async () => {
      const { device, bytes } = await make()
      const model = new Uint8Array(bytes)
      await fc.assert(
        fc.asyncProperty(fc.nat(model.length), fc.uint8Array({ maxLength: 5000 }), async (offset, content) => {
          const part = content.subarray(0, model.length - offset)
          model.set(part, offset)
          await device.write(offset, part)
          sameBytes(await device.read(0, model.length), model)
        }),
        { numRuns: 50 },
      )
      await device.flush()
      sameBytes(await device.read(0, model.length), model)
      await device.close()
    })

    test('does not change what was read before', async () => {
      const { device, bytes } = await make()
      const length = Math.min(4096, bytes.length)
      const before = await device.read(0, length)
      const copy = new Uint8Array(before)
      await device.write(0, new Uint8Array(length).fill(0xdd))
      sameBytes(before, copy)
      await device.close()
    })

    test('writes nothing at the end', async () => {
      const { device, bytes } = await make()
      await device.write(device.size, new Uint8Array(0))
      expect(device.size).toBe(bytes.length)
      await device.close()
    })

    test('refuses to write at places that are none', async () => {
      const { device } = await make()
      await failure(device.write(-1, new Uint8Array(1)), 'OUT_OF_RANGE')
      await failure(device.write(2 ** 53, new Uint8Array(1)), 'OUT_OF_RANGE')
      await device.close()
    })
  })
}
