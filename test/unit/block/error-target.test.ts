import { expect, test } from 'vitest'
import { errorTarget } from '../../../src/block/error-target.js'
import { linear } from '../../../src/block/linear.js'
import { memory } from '../../../src/block/memory.js'
import { failure } from '../../support/outcome.js'

test('the error target fails every read, and says where', async () => {
  const device = errorTarget(4096, 'lost part')
  expect(device.size).toBe(4096)
  const error = await failure(device.read(512, 10), 'IO')
  expect(error.data).toEqual({ device: 'lost part', offset: 512, length: 10 })
  expect(error.message).toContain('lost part')
})

test('the error target still knows its range, and reading nothing is no error', async () => {
  const device = errorTarget(4096)
  await failure(device.read(4096, 1), 'OUT_OF_RANGE')
  await failure(device.read(0, 4097), 'OUT_OF_RANGE')
  expect((await device.read(4096, 0)).length).toBe(0)
})

test('a lost part hurts only reads that touch it', async () => {
  const device = linear(
    [
      { length: 100, device: memory(new Uint8Array(100)) },
      { length: 10, device: errorTarget(10) },
    ],
    'l',
  )
  expect((await device.read(0, 100)).length).toBe(100)
  await failure(device.read(90, 11), 'IO')
})
