import { expect, test } from 'vitest'
import { extentsOf } from '../../../src/block/device.js'
import { zero } from '../../../src/block/zero.js'
import { deviceContract } from '../../contract/device.js'
import { collect } from '../../support/collect.js'

deviceContract('zero', async () => ({ device: zero(10_000), bytes: new Uint8Array(10_000) }))

test('zero is one hole, however large', async () => {
  const size = 2 ** 50
  const extents = await collect(extentsOf(zero(size)))
  expect(extents).toEqual([{ offset: 0, length: size, kind: 'hole' }])
})
