import { createHash } from 'node:crypto'
import { expect, test } from 'vitest'
import type { Device } from '../../../../src/block/device.js'
import { memory } from '../../../../src/block/memory.js'
import { checkIsoMd5, readIsoMd5 } from '../../../../src/fs/iso9660/media-check.js'
import { countingDevice } from '../../../support/counting-device.js'
import { directory, isoImage } from '../../../support/iso-builder.js'

const image = (application: string, sectors = 64): Uint8Array =>
  isoImage({ application, sectors, root: { extent: 20 }, blocks: { 20: directory(20, []) } })
const sums = async (application: string) => readIsoMd5(memory(image(application)))
const MD5 = '0123456789abcdef0123456789abcdef'

test('the text is read whatever its order, and only where it is whole', async () => {
  expect(await sums(`ISO MD5SUM = ${MD5};SKIPSECTORS = 15;RHLISOSTATUS=1;THIS IS NOT`)).toEqual({
    md5: MD5,
    skipSectors: 15,
    size: 49 * 2048,
    supported: true,
    fragmentSums: [],
    offset: 32_768 + 883,
  })
  const digits = '0123456789ab'.repeat(5)
  const fragments = await sums(
    `FRAGMENT COUNT = 5;FRAGMENT SUMS = ${digits};SKIPSECTORS = 0;ISO MD5SUM = ${MD5};RHLISOSTATUS=0;`,
  )
  expect(fragments).toMatchObject({ supported: false, fragmentSums: Array.from({ length: 5 }, () => '0123456789ab') })
  for (const text of [
    '',
    `ISO MD5SUM = ${MD5};`,
    'SKIPSECTORS = 1;',
    `ISO MD5SUM = ${MD5.slice(1)};SKIPSECTORS = 1;`,
    `ISO MD5SUM = ${MD5};SKIPSECTORS = 65;`,
    `ISO MD5SUM = ${MD5};SKIPSECTORS = -1;`,
  ])
    expect(await sums(text), text).toBeUndefined()
  for (const count of [0, 61, 999_999_999])
    expect(
      (await sums(`ISO MD5SUM = ${MD5};SKIPSECTORS = 1;FRAGMENT SUMS = ${digits};FRAGMENT COUNT = ${count};`))!
        .fragmentSums,
    ).toEqual([])
})

test('blanks stand in for the text, and the last sectors do not count', async () => {
  const bytes = image('', 3000)
  const md5 = createHash('md5')
    .update(bytes.subarray(0, 2990 * 2048))
    .digest('hex')
  // One fragment whose sum has more digits than a sum has bytes.
  const text = `ISO MD5SUM = ${md5};SKIPSECTORS = 10;FRAGMENT SUMS = ${'0'.repeat(60)};FRAGMENT COUNT = 1;`
  const implanted = image(text, 3000)
  implanted.fill(7, 2990 * 2048)
  const device: Device = countingDevice(memory(implanted))
  const found = (await readIsoMd5(device))!
  const result = await checkIsoMd5(device, found)
  expect([result.ok, result.missing, result.checked]).toEqual([true, 0, 2990 * 2048])
  implanted[2990 * 2048 - 1]! ^= 1
  expect((await checkIsoMd5(device, found)).ok).toBe(false)
})

test('it can be stopped', async () => {
  const device = memory(image(`ISO MD5SUM = ${MD5};SKIPSECTORS = 0;`, 3000))
  const stop = new AbortController()
  const work = checkIsoMd5(device, (await readIsoMd5(device))!, {
    signal: stop.signal,
    onProgress: () => stop.abort(new Error('enough')),
  })
  await expect(work).rejects.toThrow('enough')
})
