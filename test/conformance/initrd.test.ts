import { execFileSync, execSync } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { expect } from 'vitest'
import { openFile } from '../../src/block/file.js'
import { memory } from '../../src/block/memory.js'
import { isLiveError } from '../../src/error.js'
import { readInitrd } from '../../src/liveos/initrd/read.js'
import { random } from '../support/random.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const place = temporary()
const FLIPS = 12

/** A tree with what an initrd of dracut has, and an archive of it by cpio. */
const tree = async (): Promise<string> => {
  const root = await place('tree')
  const files: Record<string, string | Buffer> = {
    'usr/lib/initrd-release': 'VERSION="dracut-111"\nDRACUT_VERSION="111"\n',
    'usr/lib/dracut/modules.txt': 'base\ndmsquash-live\noverlayfs\n',
    'usr/lib/modules/6.1.0-1-amd64/kernel/fs/overlayfs/overlay.ko': Buffer.from(random(7).bytes(300_000)),
    'usr/lib/many/zeros': Buffer.alloc(1 << 20),
    'usr/lib/dracut/hooks/pre-mount/01-prepare-overlayfs.sh': '#!/bin/sh\n',
  }
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), content)
  }
  return root
}

const archive = async (format = 'newc'): Promise<Buffer> =>
  execSync(`find . -print0 | sort -z | cpio -0 -o -H ${format} --quiet`, { cwd: await tree(), maxBuffer: 1 << 28 })

const PACKERS: readonly (readonly [packing: string, tool: string, args: readonly string[]])[] = [
  ['gzip', 'gzip', ['-9']],
  ['xz', 'xz', ['--check=crc32', '--lzma2=dict=1MiB']],
  ['xz', 'xz', ['-9', '-T2', '--block-size=256KiB']],
  ['zstd', 'zstd', ['-15', '-T0']],
  ['zstd', 'zstd', ['--ultra', '-22', '--long=27']],
  ['zstd', 'zstd', ['--no-check', '-1']],
  ['lz4', 'lz4', ['-l', '-9']],
  ['lzo', 'lzop', ['-9']],
]

for (const [packing, tool, args] of PACKERS)
  needTools('cpio', tool).it(`an archive of cpio packed by ${tool} ${args.join(' ')}`, async () => {
    const early = execSync('echo early-file | cpio -o -H newc --quiet', { cwd: await early_(), maxBuffer: 1 << 20 })
    const packed = execFileSync(tool, [...args, '-c'], { input: await archive(), maxBuffer: 1 << 28 })
    const found = await readInitrd(memory(Buffer.concat([early, packed, Buffer.alloc(512)]), 'initrd'))
    expect(found.pieces.map(piece => piece.packing)).toEqual(['none', packing])
    expect(found).toMatchObject({
      maker: 'dracut',
      dracutVersion: '111',
      modules: ['base', 'dmsquash-live', 'overlayfs'],
      kernelVersions: ['6.1.0-1-amd64'],
      hooksPath: '/usr/lib/dracut/hooks',
      findings: [],
    })
    const names = execSync('find . | wc -l', { cwd: await tree() })
      .toString()
      .trim()
    expect(found.pieces[1]?.members).toBe(Number(names))
    // what was put behind it, as for a start over the network, counts too
    for (const unit of [4, 512]) {
      const padding = Buffer.alloc((unit - (packed.length % unit)) % unit)
      const behind = await readInitrd(memory(Buffer.concat([packed, padding, early]), 'initrd'))
      expect(behind.pieces.map(piece => piece.packing)).toEqual([packing, 'none'])
      expect(behind.findings).toEqual([])
    }
    // cut in the middle, it is damaged
    const cut = readInitrd(memory(packed.subarray(0, packed.length >> 1), 'initrd'))
    await expect(cut).rejects.toMatchObject({ code: 'CORRUPT' })
    // with a bit of it flipped, it is a value or an error of ours
    const draws = random()
    for (let n = 0; n < FLIPS; n++) {
      const bytes = Buffer.from(packed)
      const at = n % 2 === 0 ? draws.below(bytes.length) : draws.below(64)
      bytes[at]! ^= 1 << draws.below(8)
      const found = await readInitrd(memory(bytes, 'initrd')).catch((error: unknown) => error)
      if (found instanceof Error)
        expect(isLiveError(found), `seed ${draws.seed}, byte ${at}: ${found.stack}`).toBe(true)
    }
  })

const early_ = async (): Promise<string> => {
  const root = await place('early')
  await mkdir(root, { recursive: true })
  await writeFile(join(root, 'early-file'), 'microcode')
  return root
}

needTools('cpio').it('an archive with checksums', async () => {
  const bytes = await archive('crc')
  expect((await readInitrd(memory(bytes, 'initrd'))).dracutVersion).toBe('111')
  const at = bytes.indexOf(await readFile(join(await tree(), 'usr/lib/initrd-release')))
  bytes[at]! ^= 1
  await expect(readInitrd(memory(bytes, 'initrd'))).rejects.toThrow(/c_chksum/)
})

needTools('dracut', 'lsinitrd').it(
  'an initrd of dracut: version, modules and hooks as lsinitrd tells them',
  async () => {
    const path = await place('initrd.img')
    const modules = 'base dm fs-lib img-lib rootfs-block dmsquash-live overlayfs'
    execFileSync('dracut', ['--no-hostonly', '--no-kernel', '-q', '-f', '-m', modules, '--gzip', path, '6.1.0-1-amd64'])
    const device = await openFile(path)
    try {
      const found = await readInitrd(device)
      const told = execFileSync('lsinitrd', [path], { maxBuffer: 1 << 26 }).toString()
      expect(found.maker).toBe('dracut')
      expect(found.dracutVersion).toBe(/^Version: dracut-(\S+)/m.exec(told)?.[1])
      const list = /^dracut modules:\n([\s\S]*?)\n=/m.exec(told)?.[1]?.trim().split('\n')
      expect(found.modules).toEqual(list?.sort())
      const hooks = [...told.matchAll(/ ((?:usr|var)\/lib\/dracut\/hooks\/)(\S+\/\S+)$/gm)]
      expect(found.hooks).toEqual(hooks.map(([, , hook]) => hook).sort())
      expect(found.hooksPath).toBe(`/${hooks[0]?.[1]?.slice(0, -1)}`)
      expect(found.live).toEqual(['dmsquash-live'])
    } finally {
      await device.close()
    }
  },
  120_000,
)
