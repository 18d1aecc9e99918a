import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { memory } from '../../../src/block/memory.js'
import { architectureOf, installedKernels, kernelVersion } from '../../../src/liveos/kernel-version.js'
import { armImage, bzImage, zboot } from '../../support/boot-kernels.js'
import { medium } from '../../support/boot-media.js'
import { valueOrFailure } from '../../support/outcome.js'

const FEDORA = '6.5.6-300.fc39.x86_64 (mockbuild@somewhere) #1 SMP PREEMPT_DYNAMIC Fri Oct 6'
const ARM = 'Linux version 6.8.5-301.fc40.aarch64 (mockbuild@somewhere) (gcc) #1 SMP\n\0'
const of = (bytes: Uint8Array) => kernelVersion(memory(bytes))

describe('the header of a kernel', () => {
  it('a bzImage', async () => {
    expect(await of(bzImage(FEDORA))).toEqual({
      format: 'bzImage',
      version: '6.5.6-300.fc39.x86_64',
      description: FEDORA,
      architecture: 'x86_64',
    })
    expect(await of(bzImage('6.1.0-18-686-pae (x)', { wide: false }))).toMatchObject({
      version: '6.1.0-18-686-pae',
      architecture: 'i386',
    })
    // Before protocol 2.12 the version's ending tells, as far as it does.
    expect(await of(bzImage('3.3.4-5.fc17.i686.PAE x', { protocol: 0x20a }))).toMatchObject({ architecture: undefined })
    expect(await of(bzImage('3.3.4-5.fc17.i686 x', { protocol: 0x20a }))).toMatchObject({ architecture: 'i386' })
    expect(await of(bzImage('2.6.21-1.3194.fc7 x', { protocol: 0x206, wide: false }))).toMatchObject({
      version: '2.6.21-1.3194.fc7',
      architecture: undefined,
    })
  })
  it('a bzImage whose version lies nowhere', async () => {
    for (const pointer of [0, 0xffff, 0x3e00])
      expect(await of(bzImage('', { pointer }))).toMatchObject({ format: 'bzImage', version: undefined })
    expect((await of(bzImage('\x01\x02\x7f junk')))?.version).toBeUndefined()
  })
  it('an Image of arm64, plain, gzipped, and in zboot', async () => {
    const plain = { version: '6.8.5-301.fc40.aarch64', architecture: 'aarch64' }
    expect(await of(armImage(ARM))).toMatchObject({ format: 'arm64 Image', ...plain })
    expect(await of(gzipSync(armImage(ARM)))).toMatchObject({ format: 'gzip', ...plain })
    expect(await of(zboot(armImage(ARM)))).toMatchObject({ format: 'EFI zboot', ...plain })
    expect(await of(zboot(armImage(ARM), 'zstd22'))).toEqual({
      format: 'EFI zboot',
      version: undefined,
      description: undefined,
      architecture: 'aarch64',
    })
  })
  it('a banner over the edge of a chunk, and one that is only a pattern', async () => {
    for (const back of [1, 7, 14, 30, 200, 520])
      expect((await of(armImage(ARM, 3 << 20, (1 << 20) - back)))?.version, `${back}`).toBe('6.8.5-301.fc40.aarch64')
    const twice = Buffer.from(armImage(`Linux version %s (%s)\n\0${ARM}`))
    expect((await of(twice))?.version).toBe('6.8.5-301.fc40.aarch64')
    expect(await of(armImage(ARM, 1 << 20, (1 << 20) - ARM.length))).toMatchObject({
      version: '6.8.5-301.fc40.aarch64',
    })
    const pattern = armImage('Linux version %s\0', 1 << 20, (1 << 20) - 300)
    pattern.set(Buffer.from(ARM), (1 << 20) - 200)
    expect((await of(pattern))?.version).toBe('6.8.5-301.fc40.aarch64')
    expect((await of(armImage(ARM.slice(0, -2), 1 << 20, (1 << 20) - ARM.length + 2)))?.version).toBe(
      '6.8.5-301.fc40.aarch64',
    )
    expect((await of(armImage('Linux version', 1 << 20, (1 << 20) - 13)))?.version).toBeUndefined()
  })
  it('a gzip file that is no kernel, or is cut, or expands without end', async () => {
    expect(await of(gzipSync(Buffer.from('hello')))).toBeUndefined()
    const packed = gzipSync(armImage(ARM))
    for (let end = 2; end < packed.length; end += 97) await of(packed.subarray(0, end))
    expect(await of(Uint8Array.of(0x1f, 0x8b, 1, 2, 3))).toBeUndefined()
    const bomb = gzipSync(Buffer.alloc(160 << 20), { level: 1 })
    expect(await of(bomb)).toBeUndefined()
    // Past 128 MiB nothing is looked for, be it there.
    expect(await of(gzipSync(armImage(ARM, 140 << 20), { level: 1 }))).toBeUndefined()
  })
  it('bytes of any kind', async () => {
    const starts = [
      bzImage(FEDORA),
      armImage(ARM, 8192, 4000),
      zboot(armImage(ARM, 8192, 4000)),
      gzipSync(armImage(ARM, 8192, 4000)),
    ]
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...starts),
        fc.array(fc.tuple(fc.nat(0x300), fc.nat(255)), { maxLength: 8 }),
        fc.nat(9000),
        async (start, flips, length) => {
          const bytes = Uint8Array.from(start.subarray(0, length))
          for (const [at, byte] of flips) if (at < bytes.length) bytes[at] = byte
          await valueOrFailure(of(bytes))
          await valueOrFailure(architectureOf(memory(bytes)))
        },
      ),
      { numRuns: 300 },
    )
  })
})

describe('architectures', () => {
  it('of ELF and PE', async () => {
    const elf = (machine: number, endian = 1) => {
      const bytes = Buffer.alloc(64)
      bytes.write('\x7fELF', 0, 'latin1')
      bytes[4] = 2
      bytes[5] = endian
      if (endian === 1) bytes.writeUInt16LE(machine, 18)
      else bytes.writeUInt16BE(machine, 18)
      return architectureOf(memory(bytes))
    }
    expect([await elf(62), await elf(183), await elf(21), await elf(21, 2), await elf(9999)]).toEqual([
      'x86_64',
      'aarch64',
      'ppc64le',
      'ppc64',
      undefined,
    ])
    expect(await architectureOf(memory(zboot(new Uint8Array(0))))).toBe('aarch64')
    expect(await architectureOf(memory(Buffer.from('MZ')))).toBeUndefined()
    expect(await architectureOf(memory(new Uint8Array(0)))).toBeUndefined()
  })
})

describe('installed kernels', () => {
  it('by the names in /boot and of the modules, oldest first', async () => {
    const fs = medium(
      {
        '/boot/vmlinuz-6.10.3-1.fc40.x86_64': 'k',
        '/boot/initramfs-6.10.3-1.fc40.x86_64.img': 'i',
        '/boot/initramfs-6.10.3-1.fc40.x86_64kdump.img': 'i',
        '/boot/vmlinuz-6.10.3-1.fc40.x86_64.old': 'k',
        '/boot/vmlinuz-0-rescue-1234': 'k',
        '/boot/initramfs-0-rescue-1234.img': 'i',
        '/boot/initrd.img-6.1.0-18-amd64': 'i',
        '/lib': '-> usr/lib',
        '/usr/lib/modules/6.9.7-200.fc40.x86_64/vmlinuz': 'k',
        '/usr/lib/modules/6.10.3-1.fc40.x86_64/modules.dep': '',
      },
      'ext4',
    )
    expect(await installedKernels(fs)).toEqual([
      {
        version: '0-rescue-1234',
        kernel: '/boot/vmlinuz-0-rescue-1234',
        initramfs: '/boot/initramfs-0-rescue-1234.img',
        rescue: true,
      },
      { version: '6.1.0-18-amd64', initramfs: '/boot/initrd.img-6.1.0-18-amd64', rescue: false },
      {
        version: '6.9.7-200.fc40.x86_64',
        kernel: '/usr/lib/modules/6.9.7-200.fc40.x86_64/vmlinuz',
        modules: '/usr/lib/modules/6.9.7-200.fc40.x86_64',
        rescue: false,
      },
      {
        version: '6.10.3-1.fc40.x86_64',
        kernel: '/boot/vmlinuz-6.10.3-1.fc40.x86_64',
        initramfs: '/boot/initramfs-6.10.3-1.fc40.x86_64.img',
        modules: '/usr/lib/modules/6.10.3-1.fc40.x86_64',
        rescue: false,
      },
    ])
    expect(await installedKernels(medium({ '/etc/': '' }))).toEqual([])
  })
})
