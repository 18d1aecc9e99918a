import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { lstat, mkdir, open, readdir, readFile, readlink, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { beforeAll, expect, it } from 'vitest'
import { openFile } from '../../src/block/file.js'
import { memory } from '../../src/block/memory.js'
import { readBootCatalog } from '../../src/fs/iso9660/boot-catalog.js'
import { readHybrid } from '../../src/fs/iso9660/hybrid.js'
import { checkIsoMd5, readIsoMd5 } from '../../src/fs/iso9660/media-check.js'
import { type Iso9660, type Iso9660Options, openIso9660 } from '../../src/fs/iso9660/reader.js'
import { deviceContract } from '../contract/device.js'
import { fileSystemContract, type KnownPath } from '../contract/filesystem.js'
import { countingDevice } from '../support/counting-device.js'
import {
  differences,
  LINKS_BEYOND_GENISOIMAGE,
  listFs,
  listTree,
  makeIso,
  makeIsoTree,
  makeSmallIsoTree,
  ODD_LINKS,
} from '../support/iso-images.js'
import { kernelLine, listByKernel } from '../support/iso-kernel.js'
import { needKernel } from '../support/kernel.js'
import { failure, sameBytes } from '../support/outcome.js'
import { bytesOf } from '../support/small-stick.js'
import { temporary } from '../support/temporary.js'
import { gate, needTools } from '../support/tools.js'

const run = promisify(execFile)
const path = temporary()
const tools = needTools('xorriso', 'genisoimage', 'blkid', 'isosize')

const withIso = async <T>(file: string, work: (iso: Iso9660) => Promise<T>, options?: Iso9660Options): Promise<T> => {
  const image = await openFile(file)
  try {
    return await work(await openIso9660(image, options))
  } finally {
    await image.close()
  }
}

/** Options that keep away from genisoimage what it can't write. */
const without = (names: readonly string[]): readonly string[] => names.flatMap(name => ['-m', name])

/** Label and id of an image as blkid tells them. */
const blkid = async (file: string): Promise<{ label: string | undefined; uuid: string | undefined }> => {
  const { stdout } = await run('blkid', ['-p', '-o', 'udev', file], { encoding: 'latin1' })
  const told = (key: string): string | undefined => {
    const encoded = new RegExp(`^${key}_ENC=(.*)$`, 'm').exec(stdout)?.[1]
    const bytes = encoded?.replace(/\\x(..)/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
    return bytes === undefined ? undefined : Buffer.from(bytes, 'latin1').toString()
  }
  return { label: told('ID_FS_LABEL'), uuid: told('ID_FS_UUID') }
}

tools.describe('ISO 9660, read', () => {
  let tree: string
  let truth: ReadonlyMap<string, string>
  const images = new Map<string, string>()
  beforeAll(async () => {
    tree = await path('tree')
    await mkdir(tree)
    await makeIsoTree(tree)
    truth = await listTree(tree)
    const words: Readonly<Record<string, string[]>> = {
      'rock ridge': ['-R'],
      both: ['-R', '-J', '-joliet-long', '-V', 'A label'],
      joliet: ['-J', '-joliet-long'],
      plain: ['-iso-level', '1'],
      'plain, level 3': ['-iso-level', '3', '-V', 'SOME_LABEL'],
    }
    for (const [name, options] of Object.entries(words)) {
      const rock = name === 'rock ridge' || name === 'both' ? [] : ['--norock']
      // One image of each has the large directory; that is enough, and the kernel takes its time.
      if (name !== 'both') options.push('-m', 'many')
      const file = await path(`${name}.iso`)
      images.set(`xorriso ${name}`, await makeIso('xorriso', tree, `${file}.x`, [...options, ...rock]))
      const kept = ['-input-charset', 'utf-8', ...without(LINKS_BEYOND_GENISOIMAGE)]
      images.set(`genisoimage ${name}`, await makeIso('genisoimage', tree, `${file}.g`, [...options, ...kept]))
    }
  })

  it.each(['xorriso rock ridge', 'xorriso both', 'genisoimage rock ridge', 'genisoimage both'])(
    'reads the tree that %s was made of',
    async name => {
      const expected = new Map([...truth].filter(([at]) => name.endsWith('both') || !at.startsWith('/many')))
      if (name.startsWith('genisoimage')) for (const link of LINKS_BEYOND_GENISOIMAGE) expected.delete(`/links/${link}`)
      await withIso(images.get(name)!, async iso => {
        expect(iso.tree).toBe('rockridge')
        const found = new Map(await listFs(iso))
        // genisoimage and xorriso keep the moved directories there
        if (found.delete('/rr_moved')) expect(await iso.list('/rr_moved')).toEqual([])
        expect(differences(found, expected)).toEqual([])
      })
    },
  )

  it('tells label, id and size as blkid and isosize do', async () => {
    const labelled = async (program: 'xorriso' | 'genisoimage', label: string, ...words: string[]) =>
      makeIso(program, join(tree, 'sizes'), await path(`label-${images.size}-${Math.random()}`), [
        '-V',
        label,
        ...words,
      ])
    for (const file of [
      ...images.values(),
      await labelled('xorriso', 'Mixed Case label', '-J'),
      await labelled('xorriso', 'Sixteen and more letters here', '-J'),
      await labelled('xorriso', 'Grüße_an alle', '-J'),
      await labelled('genisoimage', 'lower_case', '-J'),
      await labelled('genisoimage', 'ISO only'),
      await labelled('xorriso', 'DATED', '--modification-date=1999123123595912'),
    ]) {
      const facts = await blkid(file)
      const { stdout } = await run('isosize', [file])
      await withIso(file, async ({ label, uuid, volumeSize }) => {
        expect({ label, uuid }, file).toEqual(facts)
        expect(volumeSize).toBe(Number(stdout))
      })
    }
  })

  it('tells odd labels and dates as blkid does', async () => {
    const original = await readFile(images.get('xorriso both')!)
    const primary = 32_768
    const joliet = original.indexOf(Buffer.from('\x02CD001', 'latin1'))
    const wide = (text: string): Buffer => Buffer.from(text.padEnd(16), 'utf16le').swap16()
    const labels = (plain: string, unicode: string) => (image: Buffer) => {
      image.write(plain.padEnd(32), primary + 40, 'latin1')
      image.set(wide(unicode).subarray(0, 32), joliet + 40)
    }
    const dates = (modified: string, created: string, zone: number) => (image: Buffer) => {
      image.write(created, primary + 813, 'latin1')
      image.write(modified, primary + 830, 'latin1')
      image[primary + 846] = zone
    }
    const unset = '0'.repeat(16)
    const set = '1999010203040506'
    const file = await path('odd.iso')
    for (const [name, change] of Object.entries({
      'a pair of surrogates': labels('A_B', 'a😀b'),
      'letters of two cases': labels('ABC DEF', 'aBc dEf'),
      'small letters in the plain one': labels('abc', 'ABC'),
      'another name': labels('ABC', 'xyz'),
      'what ASCII has not': labels('A_C', 'aéc'),
      'a longer plain one': labels('ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnop'),
      'a zero byte': labels('ABC\0DEF', 'ABC\0DEF'),
      blanks: labels('', ''),
      'a modification date': dates(set, unset, 0),
      'a creation date': dates(unset, set, 0),
      'no date': dates(unset, unset, 0),
      'no date in a zone': dates(unset, set, 4),
      'zero bytes': dates('\0'.repeat(16), set, 0),
      letters: dates('20x0010203040506', set, 0),
    })) {
      const image = Buffer.from(original)
      change(image)
      await writeFile(file, image)
      const facts = await blkid(file)
      await withIso(file, async ({ label, uuid }) => expect({ label, uuid }, name).toEqual(facts))
    }
  })

  it('takes the tree that is asked for, and says where there is none', async () => {
    await withIso(images.get('xorriso both')!, async iso => expect(iso.tree).toBe('joliet'), { tree: 'joliet' })
    await withIso(images.get('xorriso joliet')!, async iso => expect(iso.tree).toBe('joliet'))
    await withIso(images.get('genisoimage plain')!, async iso => expect(iso.tree).toBe('primary'))
    for (const wanted of ['rockridge', 'joliet'] as const)
      await failure(
        withIso(images.get('genisoimage plain')!, async iso => iso.tree, { tree: wanted }),
        'NOT_FOUND',
      )
  })

  needKernel().it('shows every tree as the kernel does, inode numbers too', async () => {
    const cases = [...images].map(([name, file]) => ({ name, path: file, options: '', tree: undefined }))
    const both = [...images].filter(([name]) => name.endsWith('both'))
    const forced = both.flatMap(([name, file]) => [
      { name, path: file, options: ',norock', tree: 'joliet' as const },
      { name, path: file, options: ',norock,nojoliet', tree: 'primary' as const },
    ])
    const all = [...cases, ...forced]
    const scratch = await path('kernel')
    await mkdir(scratch)
    const theirs = await listByKernel(all, scratch)
    for (const [n, { name, path: file, tree: wanted }] of all.entries())
      await withIso(
        file,
        async iso => {
          const ours = await listFs(iso, (stats, content) =>
            // up to 6.13 the kernel kept dates in 32 bits
            kernelLine({ ...stats, mtime: stats.mtime | 0 }, content, Math.floor(stats.inode / 32)),
          )
          // Of a directory whose children it moved away, genisoimage writes two dates; the kernel takes the one within.
          const same = ([at]: [string, string]): boolean => iso.tree === 'rockridge' || !at.endsWith('/level7')
          const [found, shown] = [ours, theirs[n]!].map(listing => new Map([...listing].filter(same)))
          expect(differences(found!, shown!), `${name} ${wanted ?? ''}`).toEqual([])
          expect(ours.size).toBeGreaterThan(name.endsWith('both') ? 3000 : 30)
        },
        wanted && { tree: wanted },
      )
  })

  it('keeps names of 255 bytes and names that are no UTF-8', async () => {
    const long = await path('long')
    await mkdir(long)
    const names = ['n'.repeat(255), 'ä'.repeat(127)]
    for (const name of names) await writeFile(join(long, name), name)
    await writeFile(Buffer.concat([Buffer.from(`${long}/`), Buffer.from([0x62, 0xff, 0x6b, 0xe4])]), 'bytes')
    for (const program of ['xorriso', 'genisoimage'] as const) {
      const charset = program === 'xorriso' ? ['-file_name_limit', '255'] : ['-input-charset', 'iso8859-1']
      const file = await makeIso(program, long, `${long}.${program}`, ['-R', ...charset])
      await withIso(file, async iso => {
        const found = (await iso.list('/')).map(({ name }) => name)
        expect(found.sort()).toEqual([...names, 'b\udcffk\udce4'].sort())
        for (const name of names) expect((await iso.stat(`/${name}`)).size).toBe(Buffer.byteLength(name))
        expect((await iso.stat('/b\udcffk\udce4')).size).toBe(5)
      })
    }
  })

  it('reads a directory beside a symlink that genisoimage spoiled, but not that one', async () => {
    const links = await path('spoiled')
    await mkdir(links)
    await symlink(ODD_LINKS['long path']!, join(links, 'a'))
    await writeFile(join(links, 'b'), 'b')
    // What spoils the link is a fault of its memory, by which it dies in some runs.
    const make = (tries: number): Promise<string> =>
      makeIso('genisoimage', links, `${links}.iso`, ['-R']).catch((error: { signal?: string }) => {
        if (!error.signal || tries === 1) throw error
        return make(tries - 1)
      })
    const file = await make(10)
    await withIso(file, async iso => {
      expect((await iso.list('/')).map(({ name, kind }) => [name, kind])).toEqual([
        ['a', 'symlink'],
        ['b', 'file'],
      ])
      expect((await iso.stat('/b')).size).toBe(1)
      for (const ask of [() => iso.stat('/a'), () => iso.readLink('/a')]) await failure(ask(), 'CORRUPT')
    })
  })

  it('numbers hard links alike where the image does', async () => {
    const file = await path('numbered.iso')
    const script = ['-outdev', file, '-hardlinks', 'on', '-compliance', 'new_rr', '-map', tree, '/', '-commit']
    await run('xorriso', script, { maxBuffer: 1 << 26 })
    await withIso(file, async iso => {
      const [one, other] = [await iso.stat('/sizes/2049'), await iso.stat('/modes/hard link')]
      expect(one.inode).toBe(other.inode)
      expect(one.linkCount).toBe(2)
      expect((await iso.stat('/sizes/2048')).inode).not.toBe(one.inode)
      expect(differences(await listFs(iso), truth)).toEqual([])
    })
  })

  it('stats a compressed file, and refuses to read it by the name of what is missing', async () => {
    const small = await path('zisofs')
    await mkdir(small)
    await writeFile(join(small, 'file'), Buffer.alloc(100_000, 'text '))
    await writeFile(join(small, 'other'), 'plain')
    const file = `${small}.iso`
    const filter = ['-find', '/file', '-exec', 'set_filter', '--zisofs', '--']
    await run('xorriso', ['-outdev', file, '-map', small, '/', ...filter, '-commit'])
    await withIso(file, async iso => {
      expect((await iso.stat('/file')).size).toBe(100_000)
      for (const failing of [iso.open('/file'), iso.extents('/file')])
        expect((await failure(failing, 'UNSUPPORTED')).data.feature).toBe('zisofs')
      expect((await iso.open('/other')).size).toBe(5)
    })
  })

  it('reads a file of more than 4 GiB, which stands in several records, where xorriso says', async () => {
    const large = await path('large')
    await mkdir(large)
    const size = 4 * 2 ** 30 + 12_345
    await writeFile(join(large, 'large'), '')
    await truncate(join(large, 'large'), size)
    await writeFile(join(large, 'other'), '')
    const file = `${large}.iso`
    // The directories come first, and the file's data are all zero: a hole does for them.
    await run('bash', [
      '-c',
      `xorriso -as mkisofs -quiet -iso-level 3 -R -o - ${large} 2>/dev/null | head -c 1M >${file}`,
    ])
    await truncate(file, size + 2 ** 20)
    const { stdout } = await run('xorriso', ['-indev', file, '-find', '/large', '-exec', 'report_lba', '--'])
    const parts = [...stdout.matchAll(/^File data lba: +\d+ , +(\d+) , +(\d+) , +(\d+) , '\/large'$/gm)]
    expect(parts).toHaveLength(2)
    const marks = await open(file, 'r+')
    const [first, second] = parts.map(part => Number(part[1]) * 2048) as [number, number]
    await marks.write('start', first)
    await marks.write('middle', second)
    await marks.close()
    await withIso(file, async iso => {
      expect((await iso.stat('/large')).size).toBe(size)
      expect((await iso.list('/')).map(({ name }) => name).sort()).toEqual(['large', 'other'])
      const device = await iso.open('/large')
      const firstLength = Number(parts[0]![2]) * 2048
      expect(device.size).toBe(size)
      expect(Buffer.from(await device.read(0, 6)).toString()).toBe('start\0')
      expect(Buffer.from(await device.read(firstLength - 1, 8)).toString()).toBe('\0middle\0')
      expect((await device.read(size - 5, 5)).length).toBe(5)
      const runs = await iso.extents('/large')
      // The two touch: one run.
      expect(second).toBe(first + firstLength)
      expect(runs).toEqual([{ offset: 0, length: size, start: first }])
    })
    await rm(file)
  })

  it('reads a directory once, however many of its files are asked for', async () => {
    const image = await openFile(images.get('genisoimage both')!)
    const counting = countingDevice(image)
    const iso = await openIso9660(counting)
    const names = (await iso.list('/many')).map(({ name }) => name)
    const { reads } = counting
    for (const name of names) expect((await iso.stat(`/many/${name}`)).kind).toBe('file')
    expect(counting.reads).toBe(reads)
    expect(reads).toBeLessThan(20)
    await image.close()
  })
})

needTools('xorriso', 'mkfs.vfat', 'implantisomd5', 'checkisomd5').describe(
  'ISO 9660, what starts and proves it',
  () => {
    const ISOLINUX = '/usr/lib/ISOLINUX'
    const boot = async (name: string, ...words: readonly string[]): Promise<string> => {
      const tree = await path(name)
      await mkdir(join(tree, 'isolinux'), { recursive: true })
      await mkdir(join(tree, 'images'), { recursive: true })
      await run('cp', [`${ISOLINUX}/isolinux.bin`, join(tree, 'isolinux')])
      await writeFile(join(tree, 'images/efiboot.img'), new Uint8Array(1 << 20))
      await run('mkfs.vfat', ['-n', 'ESP', join(tree, 'images/efiboot.img')])
      await writeFile(join(tree, 'data'), bytesOf(3, 3_000_000))
      return makeIso('xorriso', tree, `${tree}.iso`, ['-R', ...words])
    }
    const bios = ['-b', 'isolinux/isolinux.bin', '-c', 'isolinux/boot.cat', '-no-emul-boot', '-boot-load-size', '4']
    const table = ['-boot-info-table']
    const efi = ['-eltorito-alt-boot', '-e', 'images/efiboot.img', '-no-emul-boot']
    const isohybrid = ['-isohybrid-mbr', `${ISOLINUX}/isohdpfx.bin`]

    const isolinux = gate(existsSync(ISOLINUX) ? undefined : `needs ${ISOLINUX}: apt-get install isolinux`)
    isolinux.it('reads the boot catalog as xorriso reports it, and the marks of isohybrid', async () => {
      const file = await boot('hybrid', ...bios, ...table, ...isohybrid, ...efi, '-isohybrid-gpt-basdat')
      const { stdout } = await run('xorriso', ['-indev', file, '-report_el_torito', 'plain'])
      const theirs = [
        ...stdout.matchAll(/^El Torito boot img : +\d+ +(\S+) +(\S) +(\S+) +(\S+) +(\S+) +(\d+) +(\d+)$/gm),
      ]
      const paths = [...stdout.matchAll(/^El Torito img path : +\d+ +(.*)$/gm)].map(match => match[1])
      const image = await openFile(file)
      const catalog = (await readBootCatalog(image))!
      expect(stdout).toContain(`El Torito cat path : /isolinux/boot.cat`)
      expect(catalog.offset).toBe(Number(/^El Torito catalog +: +(\d+)/m.exec(stdout)![1]) * 2048)
      expect(
        catalog.entries.map(({ platform, bootable, media, loadSegment, systemType, sectorCount, offset }) => [
          platform === 'x86' ? 'BIOS' : 'UEFI',
          bootable ? 'y' : 'n',
          media,
          loadSegment,
          systemType,
          sectorCount,
          offset / 2048,
        ]),
      ).toEqual(
        theirs.map(([, platform, bootable, media, segment, type, count, lba]) => [
          platform,
          bootable,
          media,
          Number(segment),
          Number(type),
          Number(count),
          Number(lba),
        ]),
      )
      expect(catalog.entries.map(entry => entry.path)).toEqual(paths)
      const iso = await openIso9660(image)
      for (const { path: name, image: device } of catalog.entries) {
        const known = await iso.open(name!)
        sameBytes(await device.read(0, device.size), await known.read(0, known.size))
      }
      // An EFI image is a FAT filesystem.
      expect(Buffer.from(await catalog.entries[1]!.image.read(82 - 28, 8)).toString()).toBe('FAT12   ')
      expect(await readHybrid(image)).toEqual({ loader: 'isolinux', loads: catalog.entries[0]!.offset })
      await image.close()
    })

    it('tells an image without boot catalog and hybrid marks', async () => {
      const image = await openFile(await boot('plain'))
      expect(await readBootCatalog(image)).toBeUndefined()
      expect(await readHybrid(image)).toBeUndefined()
      expect(await readIsoMd5(image)).toBeUndefined()
      await image.close()
    })

    it('takes the sectors where the image is no file of the tree', async () => {
      const tree = await path('appended-tree')
      await mkdir(tree)
      await writeFile(join(tree, 'data'), bytesOf(3, 100_000))
      const esp = await path('appended.img')
      await writeFile(esp, bytesOf(5, 1 << 20))
      const words = [
        '-append_partition',
        '2',
        '0xef',
        esp,
        '-e',
        '--interval:appended_partition_2:all::',
        '-no-emul-boot',
      ]
      const image = await openFile(await makeIso('xorriso', tree, `${tree}.iso`, ['-R', ...words]))
      const [entry] = (await readBootCatalog(image))!.entries
      expect([entry!.platform, entry!.path, entry!.length]).toEqual(['efi', undefined, 1 << 20])
      sameBytes(await entry!.image.read(0, 1 << 20), await readFile(esp))
      await image.close()
    })

    const GRUB = '/usr/lib/grub/i386-pc'
    needTools('grub-mkrescue').it('knows the boot record of grub-mkrescue', async () => {
      const tree = await path('grub')
      await mkdir(tree)
      await writeFile(join(tree, 'file'), 'file')
      await run('grub-mkrescue', ['-d', GRUB, '-o', `${tree}.iso`, tree], { maxBuffer: 1 << 26 })
      const image = await openFile(`${tree}.iso`)
      const hybrid = await readHybrid(image)
      const catalog = await readBootCatalog(image)
      const bios = catalog!.entries.find(({ platform }) => platform === 'x86')!
      // GRUB's first sectors on a CD (cdboot.img) are of no use on a disk
      expect(hybrid).toEqual({ loader: 'grub2', loads: bios.offset + 2048 })
      await image.close()
    })

    it('checks what implantisomd5 implanted, as checkisomd5 does', async () => {
      const tree = await path('sums')
      await mkdir(tree)
      await writeFile(join(tree, 'file'), bytesOf(9, 5_000_000))
      const file = await makeIso('xorriso', tree, `${tree}.iso`, ['-R'])
      const { stdout: told } = await run('implantisomd5', ['--supported-iso', file])
      const image = await openFile(file)
      const sums = (await readIsoMd5(image))!
      expect(sums.md5).toBe(/^md5 = (.*)$/m.exec(told)![1])
      expect(sums.fragmentSums.join('')).toBe(/^fragmd5 = (.*)$/m.exec(told)![1])
      expect(sums.fragmentSums).toHaveLength(Number(/^frags = (.*)$/m.exec(told)![1]))
      expect(sums.supported).toBe(true)
      await run('checkisomd5', [file])
      const progress: number[] = []
      const result = await checkIsoMd5(image, sums, { onProgress: done => progress.push(done) })
      expect(result).toEqual({
        ok: true,
        expected: sums.md5,
        found: sums.md5,
        checked: sums.size,
        missing: 0,
        damage: undefined,
      })
      expect(progress.at(-1)).toBe(sums.size)
      await image.close()

      const bytes = await readFile(file)
      const at = 3_333_333
      bytes[at]! ^= 4
      await writeFile(file, bytes)
      await expect(run('checkisomd5', [file])).rejects.toThrow()
      const broken = await openFile(file)
      const { ok, damage } = await checkIsoMd5(broken, sums)
      expect(ok).toBe(false)
      expect(damage!.offset).toBeLessThanOrEqual(at)
      expect(damage!.offset + damage!.length).toBeGreaterThan(at)
      expect(damage!.length).toBeLessThan(sums.size / 10)
      await broken.close()

      await writeFile(file, bytes.subarray(0, 4_000_000))
      const short = await openFile(file)
      expect(await checkIsoMd5(short, sums)).toMatchObject({ ok: false, missing: sums.size - 4_000_000 })
      await short.close()
    })
  },
)

if (tools.reason === undefined) {
  deviceContract('a file in an ISO 9660', async () => {
    const tree = await path('contract-device')
    await makeSmallIsoTree(tree)
    const image = await readFile(await makeIso('genisoimage', tree, `${tree}.iso`, ['-R']))
    const device = await (await openIso9660(memory(image))).open('/LiveOS/squashfs.img')
    return { device, bytes: new Uint8Array(await readFile(join(tree, 'LiveOS/squashfs.img'))) }
  })

  fileSystemContract('ISO 9660', async () => {
    const tree = await path('contract-tree')
    await makeSmallIsoTree(tree)
    const image = await openFile(await makeIso('xorriso', tree, `${tree}.iso`, ['-R']))
    const known: KnownPath[] = []
    const visit = async (at: string): Promise<void> => {
      const full = join(tree, at)
      const stats = await lstat(full)
      const mode = stats.mode & 0o7777
      if (stats.isSymbolicLink()) known.push({ path: at, kind: 'symlink', mode, target: await readlink(full) })
      else if (stats.isFile()) known.push({ path: at, kind: 'file', mode, content: await readFile(full) })
      else {
        const names = await readdir(full)
        known.push({ path: at, kind: 'directory', mode, names })
        for (const child of names) await visit(join(at, child))
      }
    }
    await visit('/')
    return { fs: await openIso9660(image), known, close: () => image.close() }
  })
}
