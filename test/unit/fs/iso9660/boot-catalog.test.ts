import { expect, test } from 'vitest'
import type { Device } from '../../../../src/block/device.js'
import { memory } from '../../../../src/block/memory.js'
import { parseCatalog, readBootCatalog } from '../../../../src/fs/iso9660/boot-catalog.js'
import { directory, isoImage } from '../../../support/iso-builder.js'
import { failure, sameBytes } from '../../../support/outcome.js'
import { random } from '../../../support/random.js'

const PLACE = { device: 'catalog', base: 0 }

const validation = (platform = 0, id = 'maker'): Buffer => {
  const bytes = Buffer.alloc(32)
  bytes.set([1, platform])
  bytes.write(id, 4, 'latin1')
  bytes.set([0x55, 0xaa], 30)
  let sum = 0
  for (let at = 0; at < 32; at += 2) sum += bytes.readUInt16LE(at)
  bytes.writeUInt16LE(-sum & 0xffff, 28)
  return bytes
}
const bootEntry = (media: number, sectors: number, block: number, indicator = 0x88): Buffer => {
  const bytes = Buffer.alloc(32)
  bytes.set([indicator, media, 0xc0, 0x07, 0x0c])
  bytes.writeUInt16LE(sectors, 6)
  bytes.writeUInt32LE(block, 8)
  return bytes
}
const section = (indicator: number, platform: number, count: number): Buffer => {
  const bytes = Buffer.alloc(32)
  bytes.set([indicator, platform, count & 0xff, count >> 8])
  return bytes
}
const extension = (more: number): Buffer => Buffer.concat([Uint8Array.of(0x44, more), Buffer.alloc(30)])
const parsed = (...parts: Buffer[]) => parseCatalog(Buffer.concat([...parts, Buffer.alloc(32)]), PLACE)

const image = (catalog: Buffer, sectors = 64): Device =>
  memory(
    isoImage({
      catalog: 19,
      sectors,
      root: { extent: 20 },
      blocks: {
        19: catalog,
        20: directory(20, [
          { name: 'EFI.IMG;1', extent: 30, size: 5000 },
          { name: 'FLOPPY.IMG;1', extent: 40, size: 1 },
        ]),
        30: random(4).bytes(5000),
      },
    }),
    'image',
  )

test('default and section entries, extensions passed over', () => {
  const { id, entries } = parsed(
    validation(),
    bootEntry(0, 4, 30),
    section(0x90, 0xef, 2),
    bootEntry(0x20, 10, 31),
    extension(0x20),
    extension(0),
    bootEntry(4, 1, 32, 0),
    section(0x91, 2, 1),
    bootEntry(0x20, 1, 33),
  )
  expect(id).toBe('maker')
  expect(entries.map(e => [e.platform, e.bootable, e.media, e.sectorCount, e.offset / 2048, e.at / 32])).toEqual([
    ['x86', true, 'none', 4, 30, 1],
    ['efi', true, 'none', 10, 31, 3],
    ['efi', false, 'hard disk', 1, 32, 6],
    ['mac', true, 'none', 1, 33, 8],
  ])
  expect([entries[0]!.loadSegment, entries[0]!.systemType]).toEqual([0x7c0, 0x0c])
  expect(parsed(validation(0x33), bootEntry(0, 1, 1)).entries[0]!.platform).toBe(0x33)
})

test('what is wrong with a catalog is told', async () => {
  const field = async (work: () => unknown): Promise<unknown> =>
    (await failure((async () => work())(), 'CORRUPT')).data.field
  for (let at = 0; at < 32; at++) {
    const bytes = validation()
    bytes[at]! ^= 0x10
    expect(await field(() => parsed(bytes, bootEntry(0, 1, 1)))).toMatch(/^validation entry/)
  }
  expect(await field(() => parsed(validation(), bootEntry(0, 1, 1, 0x77)))).toBe('boot indicator')
  expect(await field(() => parsed(validation(), bootEntry(5, 1, 1)))).toBe('boot media type')
  expect(await field(() => parseCatalog(validation(), PLACE))).toBe('boot entry')
  // A section of more entries than there are: the bytes end, or something else comes.
  const claimed = [validation(), bootEntry(0, 1, 1), section(0x91, 0, 0xffff), bootEntry(0, 1, 1)]
  expect(await field(() => parsed(...claimed))).toBe('boot entry')
  expect(await field(() => parsed(...claimed, Buffer.alloc(32, 7)))).toBe('boot indicator')
})

test('an image is as long as its file, its medium, its sectors, or the volume', async () => {
  const device = image(
    Buffer.concat([
      validation(0xef),
      bootEntry(0, 1, 30),
      section(0x91, 0xef, 4),
      bootEntry(0, 0, 41),
      bootEntry(0, 1, 42),
      bootEntry(0, 3, 50),
      bootEntry(0, 0, 64),
    ]),
  )
  const { entries, offset } = (await readBootCatalog(device))!
  expect(offset).toBe(19 * 2048)
  expect(entries.map(entry => [entry.path, entry.length])).toEqual([
    ['/efi.img', 5000],
    [undefined, 23 * 2048],
    [undefined, 22 * 2048],
    [undefined, 1536],
    [undefined, 0],
  ])
  sameBytes(await entries[0]!.image.read(0, 5000), random(4).bytes(5000))
  const floppy = image(Buffer.concat([validation(), bootEntry(2, 1, 40)]), 1000)
  expect((await readBootCatalog(floppy))!.entries[0]).toMatchObject({ length: 1_474_560, path: '/floppy.img' })
})

test('images and catalogs outside the device are damage', async () => {
  const field = async (device: Device): Promise<unknown> =>
    (await failure(readBootCatalog(device), 'CORRUPT')).data.field
  expect(await field(image(Buffer.concat([validation(), bootEntry(0, 4, 65)])))).toBe('load RBA')
  expect(await field(image(Buffer.concat([validation(), bootEntry(0, 5, 63)])))).toBe('end of a boot image')
  expect(await field(image(Buffer.concat([validation(), bootEntry(1, 5, 63)])))).toBe('end of a boot image')
  const lost = isoImage({ catalog: 64, root: { extent: 20 }, blocks: { 20: directory(20, []) } })
  expect(await field(memory(lost))).toBe('boot catalog')
})
