import { expect, test } from 'vitest'
import { memory } from '../../../../src/block/memory.js'
import { readHybrid } from '../../../../src/fs/iso9660/hybrid.js'

const disk = (text: string, sector: bigint, mark: readonly number[] = []): Uint8Array => {
  const bytes = Buffer.alloc(65_536)
  bytes.write(text, 100, 'latin1')
  bytes.writeBigUInt64LE(sector, 432)
  bytes.set([0x55, 0xaa], 510)
  bytes.set(mark, 40_960 + 64)
  return bytes
}
const ISOLINUX = 'isolinux.bin missing or corrupt.'
const MARK = [0xfb, 0xc0, 0x78, 0x70]
const GRUB = 'GRUB \0Geom\0Hard Disk\0Read\0 Error'

test('only what is there for sure is told', async () => {
  const told = async (bytes: Uint8Array) => readHybrid(memory(bytes))
  expect(await told(disk(ISOLINUX, 80n, MARK))).toEqual({ loader: 'isolinux', loads: 40_960 })
  expect(await told(disk(GRUB, 80n))).toEqual({ loader: 'grub2', loads: 40_960 })
  // the code is there, but not what it loads
  expect(await told(disk(ISOLINUX, 80n))).toBeUndefined()
  expect(await told(disk(ISOLINUX, 81n, MARK))).toBeUndefined()
  expect(await told(disk(GRUB, 1n))).toBeUndefined()
  for (const sector of [0n, 128n, 1n << 63n])
    for (const text of [ISOLINUX, GRUB]) expect(await told(disk(text, sector, MARK))).toBeUndefined()
  expect(await told(disk('some other code', 80n, MARK))).toBeUndefined()
  const unsigned = disk(ISOLINUX, 80n, MARK)
  unsigned[511] = 0
  expect(await told(unsigned)).toBeUndefined()
  expect(await told(new Uint8Array(100))).toBeUndefined()
})
