import { createHash } from 'node:crypto'
import { mkdir, open, readFile, truncate, writeFile } from 'node:fs/promises'
import { beforeAll, describe, expect, it } from 'vitest'
import { openFile } from '../../src/block/file.js'
import { memory } from '../../src/block/memory.js'
import { isLiveError } from '../../src/error.js'
import { checkFat } from '../../src/fs/fat/check.js'
import { type Fat, openFat } from '../../src/fs/fat/reader.js'
import { walk } from '../../src/fs/walk.js'
import { countingDevice } from '../support/counting-device.js'
import { filesBelow, fillVolume, makeTree, makeVolume, runFat, SHAPES } from '../support/fat-volumes.js'
import { needKernel, runInKernel } from '../support/kernel.js'
import { failure, sameBytes } from '../support/outcome.js'
import { random } from '../support/random.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const path = temporary()
const tools = needTools('mkfs.vfat', 'fsck.vfat', 'blkid', 'mcopy', 'mdel', 'mdir', 'mshowfat', 'mattrib', 'minfo')

const withFat = async <T>(file: string, use: (fat: Fat) => Promise<T>): Promise<T> => {
  const device = await openFile(file)
  try {
    return await use(await openFat(device))
  } finally {
    await device.close()
  }
}
const content = async (fat: Fat, name: string): Promise<Uint8Array> => {
  const device = await fat.open(name)
  return device.read(0, device.size)
}
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
const codes = async (fat: Fat): Promise<readonly string[]> => (await checkFat(fat)).map(f => f.code)
/** clusters of a volume, and how many of them fsck.vfat counts as used */
const fsck = async (file: string): Promise<{ used: number; total: number; text: string }> => {
  const text = await runFat(['fsck.vfat', '-n', file], true)
  const [, used, total] = /(\d+)\/(\d+) clusters/.exec(text) ?? []
  return { used: Number(used), total: Number(total), text }
}
const freeClusters = async (fat: Fat): Promise<number> => {
  let clusters = 0
  let last = -1
  for await (const { start, length } of fat.freeRuns()) {
    expect(start).toBeGreaterThan(last)
    expect(length).toBeGreaterThan(0)
    last = start + length
    clusters += length / fat.clusterSize
  }
  return clusters
}

describe.each(SHAPES)('FAT$variant of mkfs.vfat $options', shape => {
  tools.describe('with files of mtools', () => {
    let image: string
    let tree: string
    let expected: ReadonlyMap<string, Uint8Array>
    beforeAll(async () => {
      const name = `fat${SHAPES.indexOf(shape)}`
      image = await path(name)
      tree = await path('tree')
      await makeTree(tree)
      await makeVolume(image, shape)
      const { clusterSize } = await withFat(image, async fat => fat)
      const scratch = await path(`${name}-scratch`)
      await fillVolume(image, tree, scratch, clusterSize)
      const pieces = await filesBelow(scratch)
      expected = new Map([
        ...(await filesBelow(tree)),
        ...[...pieces].filter(([file]) => !/^\/hole\d*[02468]$/.test(file)),
      ])
    }, 120_000)

    it('names, content, sizes and times', async () => {
      await withFat(image, async fat => {
        expect(fat.variant).toBe(shape.variant)
        const found = new Map<string, number>()
        for await (const { path: name, stat } of walk(fat)) {
          if (stat.kind === 'directory') continue
          found.set(name, stat.mtime)
          sameBytes(await content(fat, name), expected.get(name)!)
          expect(stat.size).toBe(expected.get(name)!.length)
          expect([stat.mode, stat.uid, stat.gid, stat.linkCount]).toEqual([0o755, 0, 0, 1])
        }
        expect([...found.keys()].sort()).toEqual([...expected.keys()].sort())
        expect(found.get('/UPPER.TXT')).toBe(315_532_800)
        expect(found.get('/lower.BIN')).toBe(2_147_483_646)
        expect(found.get('/Long Name with Blanks.config')).toBe(951_782_400)
      })
      const listed = (await runFat(['mdir', '-b', '-a', '-/', '-i', image, '::'])).trim().split('\n')
      const files = listed.filter(name => !name.endsWith('/')).map(name => name.slice('::'.length))
      expect(files.sort()).toEqual([...expected.keys()].sort())
    })

    it('label and id as blkid tells them, and in order as fsck.vfat says', async () => {
      const probed = await runFat(['blkid', '-p', '-o', 'export', image])
      await withFat(image, async fat => {
        expect(`${probed}\n`).toContain(`\nUUID=${fat.uuid}\n`)
        expect(`${probed}\n`).toContain(`\nLABEL=${fat.label!.replace(' ', '\\ ')}\n`)
        expect([fat.uuid, fat.label, fat.type, fat.dirty]).toEqual(['1A2B-3C4D', 'TEST VOL', 'vfat', false])
        expect(await checkFat(fat)).toEqual([])
      })
    })

    it('extents as mshowfat tells them, in pieces too', async () => {
      await withFat(image, async fat => {
        const { dataStart, clusterSize } = fat.volume.boot
        let pieces = 0
        for (const name of ['/pieces one', '/pieces two', '/readme.txt', '/LiveOS/squashfs.img', '/empty']) {
          const shown = await runFat(['mshowfat', '-i', image, `::${name}`])
          const clusters = [...shown.matchAll(/<(\d+)(?:-(\d+))?>/g)].map(([, a, b]) => [Number(a), Number(b ?? a)])
          const runs = await fat.extents(name)
          pieces = Math.max(pieces, runs.length)
          const cluster = (byte: number): number => 2 + (byte - dataStart) / clusterSize
          expect(
            runs.map(({ start, length }) => [cluster(start), cluster(start) + Math.ceil(length / clusterSize) - 1]),
            name,
          ).toEqual(clusters)
          expect(runs.reduce((sum, { length }) => sum + length, 0)).toBe(expected.get(name)!.length)
        }
        expect(pieces).toBeGreaterThan(5)
      })
    })

    it('free clusters as fsck.vfat counts them', async () => {
      const { used, total } = await fsck(image)
      await withFat(image, async fat => {
        expect(fat.volume.boot.clusterCount).toBe(total)
        expect(await freeClusters(fat)).toBe(total - used)
      })
    })

    it('finds names in any case, by their short name and with dots behind', async () => {
      await withFat(image, async fat => {
        const { inode } = await fat.stat('/Long Name with Blanks.config')
        for (const other of ['/LONG NAME WITH blanks.CONFIG', '/longna~1.con', '/Long Name with Blanks.config..'])
          expect((await fat.stat(other)).inode, other).toBe(inode)
        expect((await fat.stat('/GRÜSSE É.TXT').catch(() => undefined))?.inode).toBeUndefined()
        expect((await fat.stat('/GRÜßE É.TXT')).inode).toBe((await fat.stat('/Grüße é.txt')).inode)
        for (const missing of ['/..', '/...', '/../readme.txt', '/no such', '/readme.txt/below', '/readme.tx'])
          await failure(fat.stat(missing), 'NOT_FOUND')
        await failure(fat.list('/readme.txt'), 'NOT_FOUND')
        for (const other of ['/', '/many', '/no such']) await failure(fat.open(other), 'NOT_FOUND')
        for (const other of ['/', '/readme.txt', '/no such']) await failure(fat.readLink(other), 'NOT_FOUND')
        expect((await fat.stat('//deep/./er//')).inode).toBe((await fat.stat('/deep/er')).inode)
      })
    })

    it('read-only, hidden and system files', async () => {
      const file = await path('attributes')
      await runFat(['cp', '--sparse=always', image, file])
      await runFat(['mattrib', '+r', '+h', '+s', '-i', file, '::/readme.txt'])
      await runFat(['mattrib', '+r', '-i', file, '::/many'], true)
      await withFat(file, async fat => {
        expect((await fat.stat('/readme.txt')).mode).toBe(0o555)
        expect((await fat.stat('/many')).mode).toBe(0o755)
        expect((await fat.lookup('/readme.txt'))!.attributes & 7).toBe(7)
        expect(await checkFat(fat)).toEqual([])
      })
    })

    // The bytes of a large volume are too many to copy at each turn.
    if (shape.size > 64 << 20) return
    it('bits that flip give a value or a LiveError', async () => {
      const bytes = new Uint8Array(await readFile(image))
      const { boot, position, chain } = await withFat(image, async fat => ({
        boot: fat.volume.boot,
        position: (await fat.lookup('/LiveOS'))!.position,
        chain: (await fat.extents('/pieces one'))[0]!.start,
      }))
      const numbers = random()
      const regions = [
        { at: 0, length: 90 },
        { at: boot.fatStart, length: 600 },
        {
          at: boot.fatStart + Math.floor(((chain - boot.dataStart) / boot.clusterSize) * (boot.variant / 8)),
          length: 60,
        },
        { at: position - 512, length: 1024 },
        { at: boot.dataStart, length: 4096 },
      ]
      let walked = 0
      for (let turn = 0; turn < 12; turn++) {
        const changed = bytes.slice()
        for (let flips = 1 + numbers.below(6); flips > 0; flips--) {
          const region = regions[numbers.below(regions.length)]!
          changed[region.at + numbers.below(region.length)]! ^= 1 << numbers.below(8)
        }
        const name = `seed ${numbers.seed} turn ${turn}`
        const device = memory(changed, name)
        try {
          const fat = await openFat(device)
          await checkFat(fat)
          await freeClusters(fat)
          for await (const { path: file, stat } of walk(fat, '/', { onFinding: () => {} }))
            if (stat.kind === 'file') {
              walked++
              const runs = await fat.extents(file)
              for (const { start, length } of runs) expect(start + length, name).toBeLessThanOrEqual(device.size)
              await content(fat, file)
            }
        } catch (error) {
          if (!isLiveError(error)) throw new Error(name, { cause: error })
        }
      }
      expect(walked).toBeGreaterThan(50)
    })
  })
})

tools.describe('labels and ids', () => {
  it.each([
    ['none', [], undefined],
    ['lower', ['-n', 'FIRST'], 'FIRST'],
  ])('%s', async (name, options, label) => {
    const file = await path(`label-${name}`)
    await writeFile(file, '')
    await truncate(file, 4 << 20)
    await runFat(['mkfs.vfat', ...options, file])
    const probed = await runFat(['blkid', '-p', '-o', 'export', file])
    await withFat(file, async fat => {
      expect(fat.label).toBe(label)
      expect(/^LABEL=(.*)$/m.exec(probed)?.[1]).toBe(label)
      expect(/^UUID=(.*)$/m.exec(probed)?.[1]).toBe(fat.uuid)
    })
  })

  it('the root directory wins over the boot sector', async () => {
    const file = await path('label-root')
    await writeFile(file, '')
    await truncate(file, 4 << 20)
    await runFat(['mkfs.vfat', '-n', 'FIRST', file])
    const device = await open(file, 'r+')
    await device.write(Buffer.from('BOOTSECTOR1'), 0, 11, 43)
    await device.close()
    await withFat(file, async fat => expect(fat.label).toBe('FIRST'))
    expect(await runFat(['blkid', '-p', '-o', 'export', file])).toContain('\nLABEL=FIRST\n')
  })
})

tools.describe('a volume that is dirty', () => {
  it.each([12, 16, 32])('FAT%i: fsck.vfat says so too', async variant => {
    const file = await path(`dirty${variant}`)
    await makeVolume(file, SHAPES.find(s => s.variant === variant)!)
    const device = await open(file, 'r+')
    await device.write(Uint8Array.of(1), 0, 1, variant === 32 ? 65 : 37)
    await device.close()
    expect(await runFat(['fsck.vfat', '-n', file], true)).toMatch(/dirty bit is set/i)
    await withFat(file, async fat => {
      expect(fat.dirty).toBe(true)
      expect(await codes(fat)).toEqual(['FAT_DIRTY'])
    })
  })
})

tools.describe('what an open costs', () => {
  it('a large volume is opened and listed with few bytes', async () => {
    const file = await path('large')
    await writeFile(file, '')
    await truncate(file, 32 * 2 ** 30)
    await runFat(['mkfs.vfat', '-F', '32', '-s', '8', file])
    await runFat(['mmd', '-i', file, '::/LiveOS'])
    const device = await openFile(file)
    const counting = countingDevice(device)
    const fat = await openFat(counting)
    expect(fat.volume.boot.clusterCount).toBeGreaterThan(8_000_000)
    expect((await fat.list('/')).map(e => e.name)).toEqual(['LiveOS'])
    expect(counting.bytesRead).toBeLessThan(1 << 20)
    expect(await freeClusters(fat)).toBe(fat.volume.boot.clusterCount - 2)
    await device.close()
  })
})

/** The real kernel writes, and tells what it sees with the mask that a mount has by default. */
const SCRIPT = `
set -euo pipefail
for module in fat vfat nls_cp437 nls_iso8859-1 nls_ascii nls_utf8; do modprobe -d /run/modules $module 2>/dev/null || true; done
n=0
for disk in $DISKS; do
  n=$((n+1))
  mkdir -p mnt
  mount -t vfat -o umask=022,tz=UTC,utf8=1 $disk mnt
  export LC_ALL=C.UTF-8 TZ=UTC
  mkdir "mnt/🐧 directory" mnt/lower mnt/UPPER "mnt/Mixed.Dir" mnt/many
  echo emoji >"mnt/🐧 directory/🎉🎊.txt"
  echo long >"mnt/$(printf 'ä%.0s' $(seq 240)).longest"
  for name in a.txt B.TXT c.TXT D.txt e F 'g h' 'i.j.k' 'é.txt' ÄÖ.TXT '+,;=[]' '.dot' 'dot.' ; do echo "$name" >"mnt/lower/$name"; done
  for i in $(seq 600); do echo $i >"mnt/many/entry with a long name number $i"; done
  rm mnt/many/*[147]
  for i in $(seq 15); do head -c 7000 /dev/urandom >>mnt/one; head -c 9000 /dev/urandom >>mnt/two; done
  chmod a-w mnt/one
  touch -d '2001-02-03 04:05:06' mnt/two
  touch -d '2099-12-31 23:59:58' mnt/lower
  umount mnt
  mount -t vfat -o ro,umask=022,tz=UTC,utf8=1 $disk mnt
  (cd mnt; find . -mindepth 1 -printf '%P\\t%y\\t%m\\t%s\\t%T@\\t%n\\0') >$OUT/find$n
  (cd mnt; find . -type f -print0 | xargs -0 sha256sum -z) >$OUT/sums$n
  for name in LOWER/A.TXT lower/E upper/../LOWER/f "Mixed.DIR" lower/dot MANY; do test -e "mnt/$name" && echo "$name"; done >$OUT/case$n || true
  umount mnt
done
`

needKernel('mkfs.vfat', 'fsck.vfat').describe('volumes that the Linux kernel wrote', () => {
  const shapes = [SHAPES[0]!, SHAPES[2]!, SHAPES[4]!]
  let images: readonly string[]
  let outDir: string
  beforeAll(async () => {
    images = await Promise.all(shapes.map((_, n) => path(`kernel${n}`)))
    for (const [n, shape] of shapes.entries()) await makeVolume(images[n]!, shape)
    const scratch = await path('kernel-scratch')
    await mkdir(scratch)
    const run = await runInKernel({ script: SCRIPT, scratch, disks: images, seconds: 280 })
    expect(run.rc, run.log).toBe(0)
    outDir = run.outDir
  }, 300_000)

  it.each([1, 2, 3])('every name, mode, size, time, link count and content of volume %i', async n => {
    const found = (await readFile(`${outDir}/find${n}`, 'utf8')).split('\0').filter(line => line !== '')
    const sums = (await readFile(`${outDir}/sums${n}`, 'utf8')).split('\0').filter(line => line !== '')
    await withFat(images[n - 1]!, async fat => {
      const ours: string[] = []
      const hashes: string[] = []
      for await (const { path: name, stat } of walk(fat)) {
        if (name === '/') continue
        const { kind, mode, size, mtime, linkCount } = stat
        ours.push([name.slice(1), kind[0], mode.toString(8), size, `${mtime}.0000000000`, linkCount].join('\t'))
        if (kind === 'file') hashes.push(`${sha256(await content(fat, name))}  .${name}`)
      }
      expect(ours.sort()).toEqual([...found].sort())
      expect(hashes.sort()).toEqual([...sums].sort())
      expect(await checkFat(fat)).toEqual([])
      expect(fat.dirty).toBe(false)
      for (const name of (await readFile(`${outDir}/case${n}`, 'utf8')).trim().split('\n'))
        if (!name.includes('..')) await fat.stat(`/${name}`)
      const { used, total, text } = await fsck(images[n - 1]!)
      expect(text).not.toMatch(/dirty|differ|wrong/i)
      expect(await freeClusters(fat)).toBe(total - used)
    })
  })
})
