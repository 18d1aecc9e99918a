import { expect, test } from 'vitest'
import { memory } from '../../../src/block/memory.js'
import { deviceContract, writableDeviceContract } from '../../contract/device.js'
import { failure } from '../../support/outcome.js'
import { random } from '../../support/random.js'

const make = async () => {
  const bytes = random(1).bytes(10_000)
  return { device: memory(new Uint8Array(bytes)), bytes }
}
deviceContract('memory', make)
deviceContract('memory over a Buffer', async () => {
  const { bytes } = await make()
  return { device: memory(Buffer.from(bytes)), bytes }
})
deviceContract('empty memory', async () => ({ device: memory(new Uint8Array(0)), bytes: new Uint8Array(0) }))
writableDeviceContract('memory', make)

test('memory is as large as its array and does not grow', async () => {
  const device = memory(new Uint8Array(10), 'ten bytes')
  const error = await failure(device.write(8, new Uint8Array(3)), 'OUT_OF_RANGE')
  expect(error.message).toContain('ten bytes')
})
