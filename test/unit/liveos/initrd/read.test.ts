import { deflateRawSync, gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { memory } from '../../../../src/block/memory.js'
import { isLiveError, type LiveError } from '../../../../src/error.js'
import { readInitrd } from '../../../../src/liveos/initrd/read.js'
import { type CpioPart, cpioOf, cpioPart } from '../../../support/cpio.js'

const read = (...parts: readonly Uint8Array[]) => readInitrd(memory(Buffer.concat(parts), 'initrd'))
const failure = async (...parts: readonly Uint8Array[]): Promise<LiveError> => {
  try {
    await read(...parts)
  } catch (error) {
    if (isLiveError(error)) return error
    throw error
  }
  throw new Error('it was read')
}

const MICROCODE = cpioOf({ path: 'kernel/x86/microcode/GenuineIntel.bin', content: 'microcode' })
const DRACUT: readonly CpioPart[] = [
  { path: 'usr/lib/dracut/dracut-107-8.fc43', content: 'dracut-107-8.fc43\n' },
  { path: 'usr/lib/dracut/modules.txt', content: 'base\ndmsquash-live\noverlayfs\nsystemd\n' },
  { path: 'var/lib/dracut/hooks/cmdline/30-parse-dmsquash-live.sh', content: '#' },
  { path: 'usr/lib/modules/6.17.1-300.fc43.x86_64/kernel/a.ko', content: 'x' },
  { path: 'etc/cmdline.d/20-base.conf', content: 'ro\n  quiet ' },
]

describe('readInitrd', () => {
  it('reads pieces one behind the other, packed or not, NULs between them', async () => {
    const found = await read(MICROCODE, Buffer.alloc(512 - (MICROCODE.length % 512)), gzipSync(cpioOf(...DRACUT)))
    expect(found.pieces.map(({ packing, members }) => [packing, members])).toEqual([
      ['none', 1],
      ['gzip', 5],
    ])
    expect(found).toMatchObject({
      maker: 'dracut',
      dracutVersion: '107-8.fc43',
      modules: ['base', 'dmsquash-live', 'overlayfs', 'systemd'],
      kernelVersions: ['6.17.1-300.fc43.x86_64'],
      systemd: true,
      hooksPath: '/var/lib/dracut/hooks',
      hooks: ['cmdline/30-parse-dmsquash-live.sh'],
      builtIn: [{ path: '/etc/cmdline.d/20-base.conf', text: 'ro quiet' }],
      live: ['dmsquash-live'],
      findings: [],
    })
  })

  it('goes on behind gzip with more gzip, with plain archives, and with both', async () => {
    const one = (path: string) => cpioOf({ path })
    const found = await read(gzipSync(one('a')), gzipSync(one('b')), one('c'), Buffer.alloc(4), gzipSync(one('d')))
    expect(found.pieces.map(({ packing, members }) => [packing, members])).toEqual([
      ['gzip', 2],
      ['none', 1],
      ['gzip', 1],
    ])
  })

  it('takes the version from initrd-release, also through a hard link without content', async () => {
    const release = 'VERSION="12 (bookworm) dracut-059-4"\nPRETTY_NAME="Debian"\nDRACUT_VERSION="059-4"\n'
    expect((await read(cpioOf({ path: 'usr/lib/initrd-release', content: release }))).dracutVersion).toBe('059-4')
    const linked = cpioOf(
      { path: 'usr/lib/initrd-release', inode: 7, links: 2 },
      { path: 'x/copy', inode: 7, links: 2, content: release },
    )
    expect((await read(linked)).dracutVersion).toBe('059-4')
    const onlyVersion = cpioOf({ path: 'etc/initrd-release', content: 'VERSION="38 dracut-055-1.fc38"\n' })
    expect((await read(onlyVersion)).dracutVersion).toBe('055-1.fc38')
  })

  it('knows the initrds of others', async () => {
    const debian = cpioOf(
      { path: 'conf/initramfs.conf', content: 'MODULES=most' },
      { path: 'scripts/live', mode: 0o40755 },
    )
    expect(await read(debian)).toMatchObject({
      maker: 'initramfs-tools',
      live: ['live-boot'],
      dracutVersion: undefined,
    })
    expect((await read(cpioOf({ path: 'init_functions' }))).maker).toBe('mkinitcpio')
    expect((await read(cpioOf({ path: 'init' }))).maker).toBeUndefined()
  })

  it('shows modules by their files where there is no list', async () => {
    expect((await read(cpioOf({ path: 'usr/sbin/dmsquash-live-root' }))).modules).toEqual(['dmsquash-live'])
    expect((await read(cpioOf({ path: 'init' }))).modules).toBeUndefined()
  })

  it.each([
    ['bzip2', 'BZh91AY'],
    ['lzma', ']\0\0\0\u0004'],
    ['lz4 frame', Buffer.from('04224d1864', 'hex')],
  ])('names what it can not unpack: %s', async (name, head) => {
    const error = await failure(MICROCODE, Buffer.concat([Buffer.from(head as string), Buffer.alloc(50, 1)]))
    expect(error).toMatchObject({ code: 'UNSUPPORTED', data: { feature: `initrd compressed with ${name}` } })
  })

  it('refuses what is no initrd, and leaves out what follows one', async () => {
    expect((await failure(Buffer.from('no initrd at all'))).code).toBe('CORRUPT')
    expect((await failure(Buffer.alloc(4096))).code).toBe('CORRUPT')
    expect((await failure(gzipSync('no archive'))).code).toBe('CORRUPT')
    expect((await failure(gzipSync(''))).code).toBe('CORRUPT')
    const { findings } = await read(MICROCODE, Buffer.from('!trailing'))
    expect(findings.map(({ code }) => code)).toEqual(['INITRD_TRAILING'])
    expect((await read(gzipSync(Buffer.concat([MICROCODE, Buffer.from('!')])))).findings).toHaveLength(1)
  })

  it('refuses a gzip that is cut anywhere or whose checksum is wrong', async () => {
    const packed = gzipSync(cpioOf(...DRACUT))
    for (let length = 1; length < packed.length; length += 3)
      expect((await failure(packed.subarray(0, length))).code, `cut at ${length}`).toBe('CORRUPT')
    const wrong = Buffer.from(packed)
    wrong[packed.length - 6]! ^= 1
    expect((await failure(wrong)).message).toMatch(/checksum/)
  })

  it('takes no memory for a zstd frame that would be a bomb', async () => {
    // a window of 128 KiB, then blocks of one byte that stands for 128 KiB
    const bomb = (blocks: number): Buffer => {
      const block = Buffer.from([(1 << 1) | 0, 0, 0x10, 0])
      const last = Buffer.from([(1 << 1) | 1, 0, 0x10, 0])
      return Buffer.concat([
        Buffer.from('28b52ffd0038', 'hex'),
        ...Array.from({ length: blocks - 1 }, () => block),
        last,
      ])
    }
    const before = process.memoryUsage().rss
    for (const blocks of [1000, 20_000]) {
      const error = await failure(bomb(blocks))
      expect(error).toMatchObject({ code: 'CORRUPT', data: { field: 'zstd' } })
    }
    expect(process.memoryUsage().rss - before).toBeLessThan(100 << 20)
  })

  it('stops a bomb at 2 GiB', async () => {
    // a member of almost 4 GiB of NULs, of which deflate makes a thousandth
    const size = 64 << 20
    const head = cpioPart({ path: 'huge', spoil: [[54, 'fffffff0']] })
    const zeros = deflateRawSync(Buffer.alloc(size), { finishFlush: 2, level: 9 })
    const header = Buffer.from('1f8b0800000000000003', 'hex')
    const start = deflateRawSync(head, { finishFlush: 2 })
    const error = await failure(header, start, ...Array.from({ length: 40 }, () => zeros))
    expect(error).toMatchObject({ code: 'CORRUPT', data: { field: 'unpacked size' } })
  }, 60_000)

  it('ends at parts that unpack to nothing, and at pieces without end', async () => {
    const nothing = (bytes: Buffer, count: number) => Array.from({ length: count }, () => bytes)
    const empty = gzipSync('')
    expect(await failure(...nothing(empty, 8300))).toMatchObject({ code: 'CORRUPT', data: { field: 'gzip' } })
    // a frame with one raw block of no bytes, then frames that are passed over
    const [frame, passed] = [Buffer.from('28b52ffd0038010000', 'hex'), Buffer.from('502a4d1800000000', 'hex')]
    expect(await failure(frame, ...nothing(passed, 8300))).toMatchObject({ data: { field: 'zstd' } })
    const lz4 = Buffer.from('01000000' + '00', 'hex')
    const blocks = await failure(Buffer.from('02214c18', 'hex'), ...nothing(lz4, 8300))
    expect(blocks).toMatchObject({ code: 'CORRUPT', data: { field: 'lz4' } })
    for (const piece of [cpioOf(), Buffer.concat([gzipSync(cpioOf()), cpioOf()])])
      expect(await failure(...nothing(piece, 300))).toMatchObject({ data: { field: 'pieces' } })
  })

  it('waits for the content of so many names alone as it can hold', async () => {
    const link = (inode: number): CpioPart => ({ path: `etc/cmdline.d/${inode}.conf`, inode, links: 2 })
    const links = Array.from({ length: 6000 }, (_, n) => link(n + 1))
    const content = (inode: number): CpioPart => ({ path: `x${inode}`, inode, links: 2, content: `from=${inode}` })
    const found = await read(cpioOf(...DRACUT, ...links, content(1), content(5000), content(5001), content(6000)))
    expect(found.builtIn.map(({ text }) => text)).toEqual(['from=1', 'ro quiet', 'from=5000'])
  })

  it('ends with a value or an error of ours whatever the bytes are', async () => {
    const whole = Buffer.concat([MICROCODE, Buffer.alloc(4), gzipSync(cpioOf(...DRACUT))])
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { maxLength: 3 }), async changes => {
        const bytes = Buffer.from(whole)
        for (const [at, value] of changes) bytes[at] = value
        try {
          await read(bytes)
        } catch (error) {
          if (!isLiveError(error)) throw error
        }
      }),
      { numRuns: 200 },
    )
  })
})
