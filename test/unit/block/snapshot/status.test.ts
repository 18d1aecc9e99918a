import { expect, test } from 'vitest'
import { memory } from '../../../../src/block/memory.js'
import { statusLine } from '../../../../src/block/snapshot/status.js'
import { readStore } from '../../../../src/block/snapshot/store.js'
import { storeOf } from '../../../support/store-writer.js'

test('statusLine speaks as dmsetup does', async () => {
  const bytes = storeOf([{ oldChunk: 3, content: new Uint8Array(0) }], 8, 5)
  expect(statusLine(await readStore(memory(bytes)), 98_304 * 512)).toBe('0 98304 snapshot 24/64 16')
  bytes[4] = 0
  expect(statusLine(await readStore(memory(bytes)), 98_304 * 512)).toBe('0 98304 snapshot Invalid')
  bytes.fill(0, 0, 4)
  expect(statusLine(await readStore(memory(bytes)), 98_304 * 512 + 511)).toBe('0 98304 snapshot 16/64 16')
})
