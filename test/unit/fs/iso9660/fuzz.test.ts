import { expect, test } from 'vitest'
import { memory } from '../../../../src/block/memory.js'
import { isLiveError, type LiveError } from '../../../../src/error.js'
import type { FileSystem } from '../../../../src/fs/filesystem.js'
import { readBootCatalog } from '../../../../src/fs/iso9660/boot-catalog.js'
import { readHybrid } from '../../../../src/fs/iso9660/hybrid.js'
import { checkIsoMd5, readIsoMd5 } from '../../../../src/fs/iso9660/media-check.js'
import { openIso9660 } from '../../../../src/fs/iso9660/reader.js'
import { countingDevice } from '../../../support/counting-device.js'
import { both, ce, directory, entry, isoImage, nm, px, ROCK_RIDGE, sp } from '../../../support/iso-builder.js'
import { random } from '../../../support/random.js'

const DIR = 0o40755
const FILE = 0o100644
const second = Buffer.concat([nm(' in another area'), entry('TF', [2], [120, 1, 1, 0, 0, 0, 0])])
const area = Buffer.concat([nm('continued', 1), ce(25, 64, second.length)])
const blocks: Record<number, Uint8Array> = {
  20: directory(
    20,
    [
      {
        name: 'A.;1',
        extent: 30,
        size: 3000,
        systemUse: [px(FILE, 1, 0, 0, 9), nm('file'), entry('TF', [2], [120, 1, 1, 0, 0, 0, 4])],
      },
      { name: 'B.;1', systemUse: [px(0o120777), nm('link'), entry('SL', [0], [8, 0], [0, 3], 'usr', [4, 0])] },
      { name: 'C.;1', extent: 33, size: 2048, flags: 0x80, systemUse: [px(FILE), nm('large')] },
      { name: 'C.;1', extent: 36, size: 10, systemUse: [px(FILE), nm('large')] },
      { name: 'D', extent: 21, size: 2048, flags: 2, systemUse: [px(DIR), nm('dir')] },
      { name: 'E.;1', systemUse: [px(0o20600), nm('null'), entry('PN', both(1, 4), both(3, 4))] },
      {
        name: 'F.;1',
        size: 100,
        extent: 38,
        systemUse: [px(FILE), nm('zip'), entry('ZF', 'pz', [4, 15], both(5000, 4))],
      },
      { name: 'G.;1', systemUse: [px(FILE), ce(24, 100, area.length)] },
      { name: 'H', extent: 22, size: 2048, flags: 2, systemUse: [px(DIR), nm('moved')] },
    ],
    { own: [sp(), px(DIR), ROCK_RIDGE] },
  ),
  21: directory(21, [{ name: 'I.;1', systemUse: [px(DIR), nm('child'), entry('CL', both(23, 4))] }], {
    own: [px(DIR)],
  }),
  22: directory(22, [{ name: 'I', extent: 23, size: 2048, flags: 2, systemUse: [px(DIR), nm('child'), entry('RE')] }], {
    own: [px(DIR)],
  }),
  23: directory(23, [{ name: 'J.;1', extent: 39, size: 5, systemUse: [px(FILE), nm('deep')] }], { own: [px(DIR)] }),
  24: Buffer.concat([Buffer.alloc(100), area]),
  25: Buffer.concat([Buffer.alloc(64), second]),
  26: directory(26, [{ name: Buffer.from('joliet', 'utf16le').swap16(), extent: 30, size: 3000 }]),
}
const catalog = Buffer.alloc(96)
catalog.set([1, 0], 0)
catalog.set([0xaa, 0x55, 0x55, 0xaa], 28)
catalog.set([0x88, 0, 0, 0, 0, 0, 4, 0, 30], 32)
catalog.writeUInt16LE(0x10000 - 1 - 0xaa55, 28)
const PARTS = {
  catalog: 27,
  root: { extent: 20 },
  jolietRoot: { extent: 26 },
  blocks: { ...blocks, 27: catalog },
  application: `ISO MD5SUM = ${'0'.repeat(32)};SKIPSECTORS = 1;`,
}

/** Everything that can be asked of a filesystem, failures in the place of values. */
const walk = async (fs: FileSystem): Promise<{ paths: number; failures: LiveError[] }> => {
  const failures: LiveError[] = []
  let paths = 0
  const tried = async <T>(work: Promise<T>): Promise<T | undefined> => {
    try {
      return await work
    } catch (error) {
      if (!isLiveError(error)) throw error
      failures.push(error)
      return undefined
    }
  }
  const visit = async (path: string): Promise<void> => {
    paths++
    const stat = await tried(fs.stat(path))
    if (stat?.kind === 'symlink') await tried(fs.readLink(path))
    if (stat?.kind === 'file') {
      const file = await tried(fs.open(path))
      if (file) await tried(file.read(0, Math.min(file.size, 10_000)))
    }
    if (stat?.kind !== 'directory') return
    for (const { name } of (await tried(fs.list(path))) ?? []) {
      expect(name).not.toMatch(/^\.{0,2}$|[/\0]/)
      await visit(`${path === '/' ? '' : path}/${name}`)
    }
  }
  await visit('/')
  return { paths, failures }
}

const askAll = async (image: Uint8Array): Promise<{ paths: number; failures: LiveError[]; bytesRead: number }> => {
  const device = countingDevice(memory(image, 'damaged'))
  const failures: LiveError[] = []
  let paths = 0
  for (const tree of [undefined, 'joliet', 'primary'] as const)
    try {
      const found = await walk(await openIso9660(device, tree && { tree }))
      paths += found.paths
      failures.push(...found.failures)
    } catch (error) {
      if (!isLiveError(error)) throw error
      failures.push(error)
    }
  for (const ask of [
    () => readBootCatalog(device),
    () => readHybrid(device),
    async () => {
      const sums = await readIsoMd5(device)
      if (sums) await checkIsoMd5(device, sums)
    },
  ])
    try {
      await ask()
    } catch (error) {
      if (!isLiveError(error)) throw error
      failures.push(error)
    }
  return { paths, failures, bytesRead: device.bytesRead }
}

const codes = (failures: readonly LiveError[]): Set<string> => new Set(failures.map(({ code }) => code))

test('the undamaged image is read in full', async () => {
  const { paths, failures } = await askAll(isoImage(PARTS))
  // zisofs, which is not supported
  expect(failures.map(({ data, message }) => data.feature ?? message)).toEqual(['zisofs'])
  expect(paths).toBe(11 + 2 + 12)
})

test('cut short anywhere it is a value or a LiveError', async () => {
  const image = isoImage(PARTS)
  const lengths = [0, 1, 511, 512]
  for (let sector = 16; sector <= 40; sector++) for (const less of [1, 0]) lengths.push(sector * 2048 - less)
  for (let at = 20 * 2048; at < 26 * 2048; at += 101) lengths.push(at)
  for (const length of lengths) {
    const { failures } = await askAll(image.slice(0, length))
    for (const code of codes(failures)) expect(['CORRUPT', 'UNSUPPORTED', 'NOT_FOUND']).toContain(code)
    if (length <= 33 * 2048) expect(failures.length, `cut to ${length}`).toBeGreaterThan(1)
  }
})

test('with bits flipped it is a value or a LiveError, and no more is read than a few times the image', async () => {
  const { seed, below } = random()
  const original = isoImage(PARTS)
  // Where the structures are; the rest is zero.
  const used = [...original.keys()].filter(at => original[at] !== 0)
  let damaged = 0
  for (let n = 0; n < 500; n++) {
    const image = original.slice()
    const flips: string[] = []
    for (let count = 1 + below(3); count > 0; count--) {
      const at = used[below(used.length)]! + (below(4) === 0 ? below(4) : 0)
      const bit = below(8)
      image[at]! ^= 1 << bit
      flips.push(`byte ${at} bit ${bit}`)
    }
    const words = `seed ${seed}, image ${n}: ${flips.join(', ')}`
    const { failures, bytesRead } = await askAll(image).catch((error: unknown) => {
      throw new Error(words, { cause: error })
    })
    for (const code of codes(failures)) expect(['CORRUPT', 'UNSUPPORTED', 'NOT_FOUND'], words).toContain(code)
    expect(bytesRead, words).toBeLessThan(original.length * 30)
    if (failures.length > 1) damaged++
  }
  expect(damaged, `seed ${seed}`).toBeGreaterThan(100)
})
