import { expect, test } from 'vitest'
import { gather } from '../../../src/block/gather.js'
import { memory } from '../../../src/block/memory.js'
import { parallel } from '../../../src/block/parallel.js'
import { countingDevice } from '../../support/counting-device.js'
import { sameBytes } from '../../support/outcome.js'
import { random } from '../../support/random.js'

test('gather reads at most 16 parts at a time', async () => {
  const content = random(6).bytes(10_000)
  const device = countingDevice(memory(content))
  const parts = Array.from({ length: 1000 }, (_, index) => ({ device, offset: index * 10, length: 10 }))
  sameBytes(await gather(parts, 10_000), content)
  expect(device.mostAtOnce).toBe(16)
})

test('gather takes no short read for the whole', async () => {
  const short = { ...memory(new Uint8Array(10)), read: async () => new Uint8Array(3) }
  await expect(
    gather(
      [
        { device: short, offset: 0, length: 5 },
        { offset: 0, length: 5 },
      ],
      10,
    ),
  ).rejects.toThrow('liveos bug')
})

test('parallel starts nothing after a failure', async () => {
  const started: number[] = []
  const running = parallel(100, 3, async index => {
    started.push(index)
    await new Promise(setImmediate)
    if (index === 1) throw new Error('one')
  })
  await expect(running).rejects.toThrow('one')
  await new Promise(setImmediate)
  expect(started.length).toBeLessThanOrEqual(5)
})
