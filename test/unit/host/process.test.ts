import { expect, it } from 'vitest'
import { startFed } from '../../../src/host/process.js'
import { failure } from '../../support/outcome.js'

it('a program that ends before it has read all is no success, whatever it says itself', async () => {
  const write = async (): Promise<void> => {
    const fed = await startFed('true', [])
    for (let n = 0; n < 100; n++) await fed.write(new Uint8Array(1 << 20))
  }
  expect((await failure(write(), 'IO')).message).toContain('ended before')
})

it('a program that reads all is one', async () => {
  const fed = await startFed('cat', [])
  for (let n = 0; n < 10; n++) await fed.write(new Uint8Array(100_000))
  await fed.finish()
})
