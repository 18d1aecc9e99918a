import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { copyData } from '../../../src/block/copy.js'
import { createFile, openFile } from '../../../src/block/file.js'
import { linear } from '../../../src/block/linear.js'
import { memory } from '../../../src/block/memory.js'
import { zero } from '../../../src/block/zero.js'
import { countingDevice } from '../../support/counting-device.js'
import { faultyDevice, faultyWritable } from '../../support/faulty-device.js'
import { failure, sameBytes } from '../../support/outcome.js'
import { random } from '../../support/random.js'
import { type LogEntry, recordingDevice } from '../../support/recording-device.js'
import { temporary } from '../../support/temporary.js'

const target = (size: number) => {
  const bytes = new Uint8Array(size)
  const log: LogEntry[] = []
  const writes = () =>
    log.flatMap(entry => (entry.kind === 'write' ? [[entry.offset, entry.bytes.length] as const] : []))
  return { bytes, writes, device: recordingDevice(memory(bytes), log) }
}

describe('copyData', () => {
  test('copies anything', async () => {
    const part = fc.record({ length: fc.nat(20_000), empty: fc.boolean(), known: fc.boolean() })
    await fc.assert(
      fc.asyncProperty(
        fc.array(part, { maxLength: 8 }),
        fc.integer({ min: 1, max: 30_000 }),
        async (parts, pieceSize) => {
          const source = linear(
            parts.map(({ length, empty, known }) =>
              empty && known ? { length } : { length, device: memory(new Uint8Array(length).fill(empty ? 0 : 7)) },
            ),
            'source',
          )
          const to = target(source.size)
          await copyData(source, to.device, { pieceSize })
          sameBytes(to.bytes, await source.read(0, source.size))
        },
      ),
      { numRuns: 60 },
    )
  })

  test('writes neither holes nor empty blocks', async () => {
    const data = new Uint8Array(40_960)
    data[4096 + 5] = 1
    data[8192] = 1
    data[40_959] = 1
    const to = target(1000 * 4096 + data.length)
    const source = linear(
      [
        { length: 1000 * 4096, device: zero(1000 * 4096) },
        { length: data.length, device: memory(data) },
      ],
      's',
    )
    const written = await copyData(source, to.device, { pieceSize: 16_384 })
    expect(to.writes()).toEqual([
      [1001 * 4096, 8192],
      [1009 * 4096, 4096],
    ])
    expect(written).toBe(12_288)
  })

  test('counts blocks from the start of the device, wherever its data starts', async () => {
    const data = new Uint8Array(12_288).fill(1)
    data.fill(0, 4096 - 100, 8192 - 100)
    const to = target(100 + data.length)
    const source = linear([{ length: 100 }, { length: data.length, device: memory(data) }], 's')
    await copyData(source, to.device)
    expect(to.writes()).toEqual([
      [100, 3996],
      [8192, 4196],
    ])
  })

  test('reads no hole, and reads the next piece while it writes', async () => {
    const data = countingDevice(memory(random(4).bytes(100_000)))
    const to = target(300_000)
    let writing = false
    let readsWhileWriting = 0
    const spied = {
      ...data,
      size: data.size,
      async read(offset: number, length: number) {
        const bytes = await data.read(offset, length)
        await new Promise(setImmediate)
        if (writing) readsWhileWriting++
        return bytes
      },
    }
    const slow = {
      ...to.device,
      async write(offset: number, bytes: Uint8Array) {
        writing = true
        for (let turns = 0; turns < 3; turns++) await new Promise(setImmediate)
        await to.device.write(offset, bytes)
        writing = false
      },
    }
    const source = linear([{ length: 200_000 }, { length: 100_000, device: spied }], 's')
    await copyData(source, slow, { pieceSize: 10_000 })
    expect(data.bytesRead).toBe(100_000)
    expect(data.mostAtOnce).toBe(1)
    // All but the first, which nothing precedes.
    expect(readsWhileWriting).toBe(9)
  })

  test('tells its progress, up to all', async () => {
    const told: number[] = []
    const source = linear([{ length: 3000, device: memory(new Uint8Array(3000).fill(1)) }, { length: 5000 }], 's')
    await copyData(source, target(8000).device, {
      pieceSize: 1000,
      onProgress: (done, total) => {
        expect(total).toBe(8000)
        told.push(done)
      },
    })
    expect(told).toEqual([1000, 2000, 3000, 8000])
  })

  test('stops when cancelled', async () => {
    const source = memory(new Uint8Array(100_000).fill(1))
    const to = target(100_000)
    const controller = new AbortController()
    const copying = copyData(source, to.device, {
      pieceSize: 1000,
      signal: controller.signal,
      onProgress: done => {
        if (done === 5000) controller.abort()
      },
    })
    await failure(copying, 'CANCELLED')
    expect(to.writes().length).toBeLessThanOrEqual(6)
    await failure(copyData(source, to.device, { signal: AbortSignal.abort() }), 'CANCELLED')
  })

  test('fails as either device does, also when both do', async () => {
    const good = memory(new Uint8Array(10_000).fill(1))
    const bad = faultyDevice(good, [{ from: 5000, to: 5001 }])
    await failure(copyData(bad, target(10_000).device, { pieceSize: 1000 }), 'IO')
    const full = faultyWritable(memory(new Uint8Array(10_000)), [{ from: 4500, to: 4501 }])
    await failure(copyData(bad, full, { pieceSize: 1000 }), 'IO')
    await failure(copyData(good, memory(new Uint8Array(9999)), { pieceSize: 1000 }), 'OUT_OF_RANGE')
    await new Promise(setImmediate)
  })

  const path = temporary()
  test('makes a sparse file of a sparse file', async () => {
    const size = 64 << 20
    const source = linear([{ length: size - 4096 }, { length: 4096, device: memory(random(5).bytes(4096)) }], 's')
    const file = await createFile(await path('copy'))
    await file.truncate(size)
    expect(await copyData(source, file)).toBe(4096)
    await file.flush()
    await file.close()
    const again = await openFile(file.path)
    expect(again.size).toBe(size)
    sameBytes(await again.read(size - 4096, 4096), await source.read(size - 4096, 4096))
    if (again.hasHoles) expect(again.allocated).toBeLessThan(1 << 20)
    await again.close()
  })
})
