import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { extentsOf } from '../../../src/block/device.js'
import { linear, type Segment, slice } from '../../../src/block/linear.js'
import { memory } from '../../../src/block/memory.js'
import { zero } from '../../../src/block/zero.js'
import { deviceContract } from '../../contract/device.js'
import { collect } from '../../support/collect.js'
import { countingDevice } from '../../support/counting-device.js'
import { faultyDevice } from '../../support/faulty-device.js'
import { failure, sameBytes } from '../../support/outcome.js'
import { random } from '../../support/random.js'

const content = random(2).bytes(20_000)

deviceContract('linear', async () => {
  const device = memory(content)
  const segments: Segment[] = [
    { length: 1, device },
    { length: 0, device, deviceOffset: 500 },
    { length: 4000 },
    { length: 5000, device, deviceOffset: 15_000 },
    { length: 0 },
    { length: 512, device: zero(1024), deviceOffset: 3 },
    { length: 7000, device, deviceOffset: 100 },
    { length: 77 },
  ]
  const bytes = Buffer.concat([
    content.subarray(0, 1),
    new Uint8Array(4000),
    content.subarray(15_000, 20_000),
    new Uint8Array(512),
    content.subarray(100, 7100),
    new Uint8Array(77),
  ])
  return { device: linear(segments, 'a few parts'), bytes }
})
deviceContract('linear of nothing', async () => ({ device: linear([], 'nothing'), bytes: new Uint8Array(0) }))
deviceContract('slice', async () => ({
  device: slice(memory(content), 1234, 9999),
  bytes: content.slice(1234, 1234 + 9999),
}))
deviceContract('slice of a linear with holes', async () => ({
  device: slice(
    linear([{ length: 3000 }, { length: 3000, device: memory(content) }, { length: 3000 }], 'l'),
    1000,
    7000,
  ),
  bytes: Buffer.concat([new Uint8Array(2000), content.subarray(0, 3000), new Uint8Array(2000)]),
}))

test('any segments read as their concatenation', async () => {
  const segment = fc.record({ length: fc.nat(300), deviceOffset: fc.nat(19_000), hole: fc.boolean() })
  await fc.assert(
    fc.asyncProperty(fc.array(segment, { maxLength: 40 }), async drawn => {
      const device = memory(content)
      const whole = Buffer.concat(
        drawn.map(({ length, deviceOffset, hole }) =>
          hole ? new Uint8Array(length) : content.subarray(deviceOffset, deviceOffset + length),
        ),
      )
      const line = linear(
        drawn.map(({ length, deviceOffset, hole }) => (hole ? { length } : { length, device, deviceOffset })),
        'drawn',
      )
      expect(line.size).toBe(whole.length)
      sameBytes(await line.read(0, line.size), whole)
    }),
  )
})

describe('linear', () => {
  test('hands a read inside one segment through, and asks only for what is needed', async () => {
    const device = countingDevice(memory(content))
    const line = linear(
      [
        { length: 100, device },
        { length: 100, device, deviceOffset: 500 },
      ],
      'two',
    )
    await line.read(110, 50)
    expect([device.reads, device.bytesRead]).toEqual([1, 50])
    await line.read(90, 20)
    expect([device.reads, device.bytesRead]).toEqual([3, 70])
  })

  test('starts at a segment with that segment', async () => {
    const line = linear([{ length: 10 }, { length: 10, device: memory(content) }], 'two')
    expect(await collect(extentsOf(line, 10, 5))).toEqual([{ offset: 10, length: 5, kind: 'data' }])
  })

  test('joins neighbouring extents of one kind', async () => {
    const device = memory(content)
    const line = linear(
      [{ length: 10, device }, { length: 20, device, deviceOffset: 50 }, { length: 5 }, { length: 6, device: zero(6) }],
      'four',
    )
    expect(await collect(extentsOf(line))).toEqual([
      { offset: 0, length: 30, kind: 'data' },
      { offset: 30, length: 11, kind: 'hole' },
    ])
  })

  test('refuses segments that leave their device, or are none', () => {
    const device = memory(content)
    expect(() => linear([{ length: 2, device, deviceOffset: 19_999 }], 'l')).toThrow(/outside/)
    expect(() => linear([{ length: -1 }], 'l')).toThrow(/outside/)
    expect(() => linear([{ length: 2 ** 53 }], 'l')).toThrow(/outside/)
    expect(() => slice(device, 20_001, 0)).toThrow(/outside/)
  })

  test('leaves its parts open when closed', async () => {
    const device = countingDevice(memory(content))
    await linear([{ length: 1, device }], 'l').close()
    await slice(device, 0, 1).close()
    expect(device.closes).toBe(0)
  })

  test('passes on what a part throws, and starts no further reads', async () => {
    const counted = countingDevice(memory(content))
    const bad = faultyDevice(counted, [{ from: 0, to: 10 }])
    const line = linear(
      Array.from({ length: 500 }, () => ({ length: 20, device: bad })),
      'bad',
    )
    expect((await failure(line.read(0, line.size), 'IO')).message).toContain('injected')
    expect(counted.reads).toBe(0)
  })

  test('reads a hundred thousand segments in order', async () => {
    const device = memory(content)
    const segments = Array.from({ length: 100_000 }, (_, index) => ({
      length: 3,
      device,
      deviceOffset: index % 19_000,
    }))
    const line = linear(segments, 'many')
    sameBytes(await line.read(3 * 77_777, 3), content.subarray(77_777 % 19_000, (77_777 % 19_000) + 3))
  })

  test('names a slice after its device and place', () => {
    expect(slice(memory(content, 'sdb'), 512, 10).name).toBe('sdb from byte 512')
    expect(slice(memory(content, 'sdb'), 512, 10, 'sdb1').name).toBe('sdb1')
  })
})
