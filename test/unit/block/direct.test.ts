import { constants } from 'node:fs'
import promises, { truncate, writeFile } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { describe, expect, test } from 'vitest'
import { openReadBack } from '../../../src/block/direct.js'
import { deviceContract } from '../../contract/device.js'
import { failure, sameBytes } from '../../support/outcome.js'
import { random } from '../../support/random.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()
const content = random(8).bytes(3_000_123)
const written = async (bytes: Uint8Array, name: string): Promise<string> => {
  const file = await path(name)
  await writeFile(file, bytes, { flush: true })
  return file
}

for (const length of [0, 1, 4095, 4096, 4097, 70_000])
  deviceContract(`read-back of ${length} bytes`, async () => ({
    device: await openReadBack(await written(content.subarray(0, length), `file${length}`)),
    bytes: content.subarray(0, length),
  }))

describe('openReadBack', () => {
  test('reads more than one piece, from anywhere to anywhere', async () => {
    const device = await openReadBack(await written(content, 'large'), { name: 'the stick' })
    expect(device.name).toBe('the stick')
    sameBytes(await device.read(0, content.length), content)
    sameBytes(await device.read(4097, 2_500_000), content.subarray(4097, 2_504_097))
    await device.close()
  })

  test('says where its bytes come from', async () => {
    const onDisk = await openReadBack(await written(content, 'said'))
    expect(['medium', 'page cache']).toContain(onDisk.from)
    await onDisk.close()
  })

  const refusing = async <T>(refuse: 'open' | 'read', errno: string, work: () => Promise<T>): Promise<T> => {
    const { open } = promises
    const refused = (): never => {
      throw Object.assign(new Error(`${errno}: injected`), { code: errno })
    }
    promises.open = async (file, flags, mode) => {
      const direct = typeof flags === 'number' && (flags & constants.O_DIRECT) !== 0
      if (direct && refuse === 'open') refused()
      const handle = await open(file, flags, mode)
      if (direct) handle.read = async () => refused()
      return handle
    }
    syncBuiltinESMExports()
    try {
      return await work()
    } finally {
      promises.open = open
      syncBuiltinESMExports()
    }
  }

  for (const refuse of ['open', 'read'] as const)
    test(`goes through the page cache where direct ${refuse} is refused, and says so`, async () => {
      const file = await written(content.subarray(0, 9999), 'cached')
      for (const errno of ['EINVAL', 'EOPNOTSUPP', 'ENOTSUP']) {
        const device = await refusing(refuse, errno, () => openReadBack(file))
        expect(device.from).toBe('page cache')
        sameBytes(await device.read(1, 9998), content.subarray(1, 9999))
        await failure(device.read(9999, 1), 'OUT_OF_RANGE')
        await device.close()
      }
    })

  test('takes no other error for a refusal', async () => {
    const file = await written(content.subarray(0, 9999), 'broken')
    await refusing('read', 'EIO', () => failure(openReadBack(file), 'IO'))
  })

  test('gives IO, not short data, where the file has become shorter', async () => {
    const file = await written(content.subarray(0, 100_000), 'shrinks')
    const device = await openReadBack(file)
    await truncate(file, 50_000)
    const error = await failure(device.read(49_000, 2000), 'IO')
    expect(error.message).toContain(file)
    sameBytes(await device.read(0, 50_000), content.subarray(0, 50_000))
    await device.close()
  })

  test('closes after the reads that were asked before', async () => {
    const device = await openReadBack(await written(content, 'closing'))
    const [read] = await Promise.all([device.read(0, content.length), device.close()])
    sameBytes(read, content)
  })

  test('fails as openFile does', async () => {
    await failure(openReadBack(await path('missing')), 'NOT_FOUND')
    await failure(openReadBack('/'), 'USAGE')
  })
})
