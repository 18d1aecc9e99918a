import { describe, expect, it } from 'vitest'
import type { Device } from '../../../../src/block/device.js'
import { memory } from '../../../../src/block/memory.js'
import { isLiveError, LiveError } from '../../../../src/error.js'
import { checkFat } from '../../../../src/fs/fat/check.js'
import { isFat } from '../../../../src/fs/fat/layout.js'
import { type Fat, openFat } from '../../../../src/fs/fat/reader.js'
import { walk } from '../../../../src/fs/walk.js'
import { deviceContract } from '../../../contract/device.js'
import { type FatImage, fatImage } from '../../../support/fat-image.js'
import { failure, sameBytes } from '../../../support/outcome.js'
import { random } from '../../../support/random.js'

type Variant = 12 | 16 | 32
const VARIANTS: readonly Variant[] = [12, 16, 32]
const DIRECTORY = 0x10

/** /FILE in clusters 5 6 9, /DIR with /DIR/INNER in clusters 20 to 22 and back at 4. */
const volume = (
  variant: Variant,
): FatImage & { readonly file: number; readonly dir: number; readonly inner: number } => {
  const image = fatImage(variant)
  const [file, dir] = image.directory(image.rootStart, [
    { short: 'FILE       ', cluster: 5, size: 1200 },
    { short: 'DIR        ', cluster: 10, attributes: DIRECTORY },
    { short: 'EMPTY      ' },
  ])
  image.chain(5, 6, 9)
  image.chain(10)
  image.chain(20, 21, 22, 4)
  const [, , inner] = image.directory(image.cluster(10), [
    { short: '.          ', cluster: 10, attributes: DIRECTORY },
    { short: '..         ', attributes: DIRECTORY },
    { short: 'INNER      ', cluster: 20, size: 2048, attributes: 0x21 },
  ])
  for (const cluster of [5, 6, 9, 20, 21, 22, 4])
    image.bytes.fill(cluster, image.cluster(cluster), image.cluster(cluster + 1))
  return { ...image, file: file!, dir: dir!, inner: inner! }
}
const opened = ({ bytes }: FatImage): Promise<Fat> => openFat(memory(bytes, 'volume'))
const codes = async (fat: Fat): Promise<readonly string[]> => (await checkFat(fat)).map(f => f.code)
const bytesOfFile = async (fat: Fat, path: string): Promise<Uint8Array> => {
  const device = await fat.open(path)
  return device.read(0, device.size)
}
const clustersOf = (...clusters: number[]): Uint8Array =>
  Buffer.concat(clusters.map(cluster => new Uint8Array(512).fill(cluster)))

describe.each(VARIANTS)('FAT%i', variant => {
  deviceContract(`a file of FAT${variant}`, async () => ({
    device: await (await opened(volume(variant))).open('/dir/inner'),
    bytes: clustersOf(20, 21, 22, 4),
  }))

  it('tells what it is', async () => {
    const fat = await opened(volume(variant))
    expect(fat).toMatchObject({
      type: 'vfat',
      variant,
      clusterSize: 512,
      uuid: 'ABCD-0123',
      label: undefined,
      dirty: false,
      name: 'volume',
    })
    expect(fat.findings()).toEqual([])
    expect(await checkFat(fat)).toEqual([])
  })

  it('reads files and tells where they lie', async () => {
    const image = volume(variant)
    image.entry(30, 1)
    const fat = await opened(image)
    sameBytes(await bytesOfFile(fat, '/FILE'), clustersOf(5, 6, 9).subarray(0, 1200))
    sameBytes(await bytesOfFile(fat, '/EMPTY'), new Uint8Array(0))
    expect(await fat.extents('/EMPTY')).toEqual([])
    expect(await fat.extents('/FILE')).toEqual([
      { offset: 0, length: 1024, start: image.cluster(5) },
      { offset: 1024, length: 176, start: image.cluster(9) },
    ])
    const free: string[] = []
    for await (const { start, length } of fat.freeRuns())
      free.push(`${2 + (start - image.cluster(2)) / 512}+${length / 512}`)
    const last = fat.volume.boot.clusterCount + 1
    const start = variant === 32 ? ['3+1'] : ['2+2']
    expect(free).toEqual([...start, '7+2', '11+9', '23+7', `31+${last - 30}`])
  })

  it('stats as a mount shows them', async () => {
    const image = volume(variant)
    const fat = await opened(image)
    const shared = { uid: 0, gid: 0, mtimeNanoseconds: 0 }
    const mtime = Date.UTC(2000, 0, 1) / 1000
    expect(await fat.stat('/FILE')).toEqual({
      kind: 'file',
      inode: image.file,
      mode: 0o755,
      size: 1200,
      linkCount: 1,
      mtime,
      ...shared,
    })
    expect((await fat.stat('/dir/INNER')).mode).toBe(0o555)
    expect(await fat.stat('/DIR')).toEqual({
      kind: 'directory',
      inode: image.dir,
      mode: 0o755,
      size: 512,
      linkCount: 2,
      mtime,
      ...shared,
    })
    expect(await fat.stat('/')).toMatchObject({
      kind: 'directory',
      inode: 1,
      size: variant === 32 ? 512 : 1024,
      linkCount: 3,
    })
  })

  const BAD = { 12: 0xff7, 16: 0xfff7, 32: 0x0ffffff7 }[variant]
  const LAST = { 12: 0xfff, 16: 0xffff, 32: 0x0fffffff }[variant]
  it.each<[string, (image: ReturnType<typeof volume>) => void, string]>([
    ['a chain back to its start', image => image.entry(9, 5), 'chain'],
    ['a chain to itself', image => image.entry(6, 6), 'table entry of cluster 6'],
    ['a free cluster', image => image.entry(6, 0), 'table entry of cluster 6'],
    ['a bad cluster', image => image.entry(6, BAD), 'table entry of cluster 6'],
    ['cluster 1', image => image.entry(6, 1), 'table entry of cluster 6'],
    [
      'a cluster behind the end',
      image => image.entry(6, variant === 12 ? 202 : variant === 16 ? 5002 : 302),
      'table entry of cluster 6',
    ],
    ['a chain too short', image => image.entry(6, LAST), 'chain'],
    ['a chain too long', image => image.chain(5, 6, 9, 30), 'chain'],
    ['no first cluster', image => image.bytes.fill(0, image.file + 26, image.file + 28), 'first cluster'],
    [
      'a first cluster behind the end',
      image => image.bytes.fill(0xee, image.file + 26, image.file + 28),
      'first cluster',
    ],
    ['a size beyond the volume', image => image.bytes.fill(0x7f, image.file + 28, image.file + 32), 'DIR_FileSize'],
    ['a size of 0 with clusters', image => image.bytes.fill(0, image.file + 28, image.file + 32), 'first cluster'],
  ])('a file with %s is corrupt, and told by a check', async (_, damage, field) => {
    const image = volume(variant)
    damage(image)
    const fat = await opened(image)
    for (const ask of [fat.open, fat.extents]) {
      const { data } = await failure(ask('/FILE'), 'CORRUPT')
      expect(data.field).toMatch(new RegExp(`^${field} of .*FILE`))
      expect(data.device).toBe('volume')
      const offset = data.offset as number
      expect(offset >= image.fatStart && offset < image.bytes.length).toBe(true)
    }
    // the others are not touched by it
    sameBytes(await bytesOfFile(fat, '/DIR/INNER'), clustersOf(20, 21, 22, 4))
    expect(await codes(fat)).toContain('FAT_CHAIN_DAMAGED')
  })

  it('finds clusters of two files and names both', async () => {
    const image = volume(variant)
    image.entry(6, 22)
    image.bytes.set([2048 & 255, 2048 >> 8], image.file + 28)
    const fat = await opened(image)
    // each alone is a chain like any other
    sameBytes(await bytesOfFile(fat, '/FILE'), clustersOf(5, 6, 22, 4))
    const findings = await checkFat(fat)
    expect(findings.map(f => f.code).sort()).toEqual(['FAT_CROSS_LINKED', 'FAT_LOST_CLUSTERS'])
    const { message, found } = findings.find(f => f.code === 'FAT_CROSS_LINKED')!
    expect([found, message]).toEqual([22, expect.stringMatching(/\/FILE.*\/DIR\/INNER|\/DIR\/INNER.*\/FILE/)])
  })

  it.each([
    ['itself', 10],
    ['the root', 2],
  ])('a directory that holds %s is corrupt, and every walk ends', async (what, cluster) => {
    const image = volume(variant)
    const target = what === 'the root' && variant !== 32 ? 0 : cluster
    image.directory(image.cluster(10), [{ short: 'LOOP       ', cluster: target, attributes: DIRECTORY }])
    const fat = await opened(image)
    await failure(fat.list('/DIR/LOOP'), 'CORRUPT')
    await failure(fat.stat('/DIR/LOOP/LOOP'), 'CORRUPT')
    const found: string[] = []
    const walked: string[] = []
    for await (const { path } of walk(fat, '/', { onFinding: ({ code }) => found.push(code) })) walked.push(path)
    expect(walked.length).toBeLessThan(10)
    expect(found).toEqual(['WALK_CORRUPT'])
    expect(await codes(fat)).toContain('FAT_DIRECTORY_DAMAGED')
  })

  it('a directory with two names is entered by the first that is asked for', async () => {
    const image = volume(variant)
    image.directory(image.rootStart + 96, [{ short: 'TWIN       ', cluster: 10, attributes: DIRECTORY }])
    const fat = await opened(image)
    expect((await fat.list('/TWIN')).length).toBe(1)
    await failure(fat.list('/DIR'), 'CORRUPT')
    await failure(fat.stat('/DIR/INNER'), 'CORRUPT')
    expect((await codes(fat)).filter(code => code === 'FAT_CROSS_LINKED').length).toBe(1)
  })

  it('directories and files that share one tail cost no more than the volume', async () => {
    // 100 directories and 100 files run into the one chain of 60 clusters full of entries
    const image = fatImage(variant)
    const tail = Array.from({ length: 60 }, (_, n) => 130 + n)
    image.chain(...tail)
    for (const cluster of tail)
      image.directory(
        image.cluster(cluster),
        Array.from({ length: 16 }, (_, n) => ({
          short: `N${cluster}${n}`.padEnd(11),
          cluster: tail[0]!,
          size: 60 * 512,
        })),
      )
    const top = Array.from({ length: 31 }, (_, n) => ({
      short: `D${n}`.padEnd(11),
      cluster: 20 + n,
      attributes: DIRECTORY,
    }))
    image.directory(image.rootStart, variant === 32 ? top.slice(0, 15) : top)
    for (const { cluster } of top) {
      image.chain(cluster, tail[0]!)
      image.entry(tail[0]!, tail[1]!)
      image.bytes.fill(0xe5, image.cluster(cluster), image.cluster(cluster + 1))
    }
    const fat = await opened(image)
    let listed = 0
    for await (const _ of walk(fat, '/', { onFinding: () => {} })) listed++
    expect(listed).toBeLessThan(1 + 31 + 960 + 1)
    let followed = 0
    const counting: Fat = {
      ...fat,
      async *follow(entry) {
        for await (const run of fat.follow(entry)) {
          followed++
          yield run
        }
      },
    }
    expect((await checkFat(counting)).length).toBeGreaterThan(30)
    expect(followed).toBeLessThan(3 * 1000)
  })

  it('a directory that never ends is bounded', async () => {
    const image = volume(variant)
    image.entry(10, 11)
    image.entry(11, 10)
    const { data } = await failure((await opened(image)).list('/DIR'), 'CORRUPT')
    expect(data.expected).toBe('a chain that ends')
  })

  it('tells lost clusters, tables that differ and names that are there twice', async () => {
    const image = volume(variant)
    image.chain(40, 41)
    image.entry(42, BAD)
    image.entry(100, BAD, 1)
    image.directory(image.rootStart + 96, [{ short: 'FILE       ' }])
    const findings = await checkFat(await opened(image))
    expect(findings.map(f => f.code)).toEqual(['FAT_DOUBLE_NAME', 'FAT_LOST_CLUSTERS', 'FAT_TABLES_DIFFER'])
    expect(findings[1]!.found).toBe(2)
    expect(findings[2]!.found).toBe(image.fatStart + image.fatSize + Math.floor((100 * variant) / 8))
  })

  it('a volume that is cut tells so; what is left can be read', async () => {
    const image = volume(variant)
    const fat = await openFat(memory(image.bytes.subarray(0, image.cluster(15) + 100), 'volume'))
    expect(fat.findings().map(f => f.code)).toEqual(['FAT_BEYOND_DEVICE'])
    sameBytes(await bytesOfFile(fat, '/FILE'), clustersOf(5, 6, 9).subarray(0, 1200))
    const error = await failure(fat.open('/DIR/INNER'), 'CORRUPT')
    expect(error.data.field).toBe('clusters of /DIR/INNER')
    for await (const { start, length } of fat.freeRuns()) expect(start + length).toBeLessThanOrEqual(image.cluster(15))
    expect(await codes(fat)).toEqual(['FAT_BEYOND_DEVICE', 'FAT_CHAIN_DAMAGED'])
  })

  it('every truncation is a value or a LiveError', async () => {
    const { bytes, fatStart, rootStart } = volume(variant)
    const sizes = [0, 1, 11, 36, 62, 90, 511, 512, fatStart, fatStart + 1, rootStart - 1, rootStart, rootStart + 33]
    for (const size of sizes) {
      try {
        await checkFat(await openFat(memory(bytes.subarray(0, size))))
      } catch (error) {
        expect(isLiveError(error), String(error)).toBe(true)
      }
    }
  })

  it.each([
    [
      'the boot sector',
      (image: FatImage) => image.bytes.fill(1, variant === 32 ? 65 : 37, variant === 32 ? 66 : 38),
      true,
    ],
    ['the table', (image: FatImage) => image.entry(1, LAST & ~(1 << (variant === 32 ? 27 : 15))), variant !== 12],
  ])('is dirty where %s says so', async (_, change, dirty) => {
    const image = volume(variant)
    change(image)
    const fat = await opened(image)
    expect(fat.dirty).toBe(dirty)
    expect(fat.findings().map(f => f.code)).toEqual(dirty ? ['FAT_DIRTY'] : [])
  })

  it('bits flipped anywhere give a value or a LiveError, never bytes outside', async () => {
    const numbers = random()
    const { bytes, cluster } = volume(variant)
    const used = cluster(11)
    for (let turn = 0; turn < 250; turn++) {
      const changed = bytes.slice()
      for (let flips = 1 + numbers.below(8); flips > 0; flips--)
        changed[turn % 2 ? numbers.below(100) : numbers.below(used)]! ^= 1 << numbers.below(8)
      const device = memory(changed, `seed ${numbers.seed} turn ${turn}`)
      try {
        const fat = await openFat(device)
        await checkFat(fat)
        for await (const { path, stat } of walk(fat, '/', { onFinding: () => {} }))
          if (stat.kind === 'file') await bytesOfFile(fat, path)
      } catch (error) {
        if (!isLiveError(error)) throw new Error(device.name, { cause: error })
        expect(error.code, `${device.name} ${error.message}`).toBe('CORRUPT')
      }
    }
  })
})

describe('boot sectors', () => {
  const put16 = (at: number, value: number) => (bytes: Uint8Array) => bytes.set([value & 255, value >> 8], at)
  it.each<[string, Variant, (bytes: Uint8Array) => void]>([
    ['BS_OEMName', 16, bytes => bytes.set(Buffer.from('NTFS    '), 3)],
    ['BS_OEMName', 16, bytes => bytes.set(Buffer.from('EXFAT   '), 3)],
    ['signature of the boot sector', 16, bytes => bytes.fill(0, 510) && bytes.fill(0, 0, 1)],
    ['BPB_BytsPerSec', 16, put16(11, 0)],
    ['BPB_BytsPerSec', 16, put16(11, 256)],
    ['BPB_BytsPerSec', 16, put16(11, 8192)],
    ['BPB_SecPerClus', 16, bytes => bytes.fill(0, 13, 14)],
    ['BPB_SecPerClus', 16, bytes => bytes.fill(3, 13, 14)],
    ['BPB_RsvdSecCnt', 16, put16(14, 0)],
    ['BPB_NumFATs', 16, bytes => bytes.fill(0, 16, 17)],
    ['BPB_RootEntCnt', 16, put16(17, 0)],
    ['BPB_RootEntCnt', 16, put16(17, 17)],
    ['BPB_Media', 16, bytes => bytes.fill(0xf1, 21, 22)],
    ['BPB_FATSz32', 32, bytes => bytes.fill(0, 36, 40)],
    ['total sectors', 16, put16(19, 40)],
    ['total sectors', 16, put16(19, 0)],
    ['BPB_ExtFlags', 32, put16(40, 0x82)],
    ['tables and root directory', 16, put16(14, 0xffff)],
  ])('with a wrong %s are corrupt', async (field, variant, change) => {
    const { bytes } = fatImage(variant)
    expect(isFat(bytes)).toBe(true)
    change(bytes)
    if (field === 'tables and root directory') new DataView(bytes.buffer).setUint16(19, 0, true)
    if (field === 'tables and root directory') new DataView(bytes.buffer).setUint32(32, 100_000, true)
    const { data } = await failure(openFat(memory(bytes)), 'CORRUPT')
    expect(data.field).toBe(field)
  })

  it('an MBR, an ext4 and zeros are none', () => {
    const mbr = new Uint8Array(512)
    mbr.set([0xeb, 0x63, 0x90])
    mbr.set([0x55, 0xaa], 510)
    expect(isFat(mbr)).toBe(false)
    expect(isFat(new Uint8Array(512))).toBe(false)
    expect(isFat(new Uint8Array(3))).toBe(false)
  })

  it('a table alone counts where FAT32 says that it does', async () => {
    const image = volume(32)
    image.entry(6, 0, 0)
    await failure((await opened(image)).open('/FILE'), 'CORRUPT')
    image.bytes[40] = 0x81
    sameBytes(await bytesOfFile(await opened(image), '/FILE'), clustersOf(5, 6, 9).subarray(0, 1200))
    expect(await codes(await opened(image))).toEqual([])
  })

  it('the upper bits of FAT32 table entries mean nothing, those of FAT16 first clusters neither', async () => {
    const wide = volume(32)
    for (const [cluster, next] of [
      [5, 6],
      [6, 9],
    ] as const)
      wide.entry(cluster, 0xa0000000 + next)
    expect((await bytesOfFile(await opened(wide), '/FILE')).length).toBe(1200)
    const narrow = volume(16)
    narrow.bytes.fill(0xab, narrow.file + 20, narrow.file + 22)
    expect((await bytesOfFile(await opened(narrow), '/FILE')).length).toBe(1200)
  })

  it('a root that can not be read leaves the volume open, and errors of the medium pass', async () => {
    const image = volume(32)
    image.entry(2, 0)
    const fat = await opened(image)
    expect(fat.findings().map(f => f.code)).toEqual(['FAT_ROOT_DAMAGED'])
    await failure(fat.list('/'), 'CORRUPT')
    const good = memory(volume(16).bytes)
    const broken: Device = {
      ...good,
      read: async (offset, length) => {
        if (offset > 0) throw new LiveError('IO', 'bad sector')
        return good.read(offset, length)
      },
    }
    await failure(openFat(broken), 'IO')
  })

  it('the state of errors, the backup of the boot sector and the free count are told', async () => {
    const image = volume(32)
    const view = new DataView(image.bytes.buffer)
    view.setUint16(48, 1, true)
    view.setUint16(50, 6, true)
    image.bytes.set(image.bytes.subarray(0, 512), 6 * 512)
    view.setUint32(512, 0x41615252, true)
    view.setUint32(512 + 484, 0x61417272, true)
    view.setUint32(512 + 488, 291, true)
    expect(await codes(await opened(image))).toEqual([])
    view.setUint32(512 + 488, 5, true)
    image.bytes[6 * 512 + 3]! ^= 1
    image.entry(1, 0x0bffffff)
    expect(await checkFat(await opened(image))).toMatchObject([
      { code: 'FAT_IO_ERRORS', severity: 'warning' },
      { code: 'FAT_FREE_COUNT', severity: 'note', expected: 291, found: 5 },
      { code: 'FAT_BACKUP_BOOT_DIFFERS', severity: 'note' },
    ])
  })
})
