import { randomFillSync } from 'node:crypto'
import { appendFile, copyFile, cp, link, mkdir, readdir, readFile, rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { unpackSample } from '../../scripts/sample.mjs'
import { byteRuns } from '../../src/block/byte-runs.js'
import type { Device } from '../../src/block/device.js'
import { memory } from '../../src/block/memory.js'
import { openReplayed } from '../../src/fs/ext4/journal/replayed.js'
import { openExt4 } from '../../src/fs/ext4/reader.js'
import { openVolume } from '../../src/fs/ext4/volume.js'
import { openDirectory } from '../../src/host/directory.js'
import { openStack } from '../../src/liveos/stack.js'
import { findTarget } from '../../src/liveos/target.js'
import { attribute } from '../../src/liveos/usage/attribute.js'
import { passingDirectories } from '../../src/liveos/usage/passing.js'
import { cutPieces } from '../../src/liveos/usage/pieces.js'
import { readFreeSpace } from '../../src/liveos/usage/space.js'
import { type OverlaidStack, readOverlayUsage } from '../../src/liveos/usage/usage.js'
import { runUsage } from '../../src/ops/usage.js'
import { sumPackages } from '../../src/ops/usage-packages.js'
import { debugfs, freeByDumpe2fs, makeExt4, makeExt4Tree, run } from '../support/ext4-images.js'
import { mounted, needExt4Mount } from '../support/ext4-mount.js'
import { kernelFixture } from '../support/kernel-fixtures.js'
import { whileMounted } from '../support/mounting.js'
import { changesBetween, overlaidStack } from '../support/overlay-stack.js'
import { random } from '../support/random.js'
import { finished } from '../support/small-stick.js'
import { storeOf } from '../support/store-writer.js'
import { temporary } from '../support/temporary.js'
import { needTools } from '../support/tools.js'

const path = temporary()

/** The rows of debugfs' icheck and ncheck: number and what is said of it. */
const answers = (text: string): Map<number, string> =>
  new Map(
    text
      .split('\n')
      .map(line => /^(\d+)\t(.*)$/.exec(line))
      .filter(match => match !== null)
      .map(([, number, said]) => [Number(number), said!]),
  )

const OWNED = ['files', 'directories', 'maps', 'xattrs']
const METADATA = ['inode tables', 'bitmaps', 'superblocks']

/** Asks debugfs and dumpe2fs about blocks of the merged filesystem that the overlay holds. */
const judge = async (stack: OverlaidStack, file: string, seed: number): Promise<{ owned: number; freed: number }> => {
  const replayed = await openReplayed(stack.root)
  await writeFile(file, await replayed.read(0, replayed.size))
  const volume = await openVolume(replayed)
  const { blockSize } = volume.superblock
  const { store } = stack.overlay
  const pieces = cutPieces(store.exceptions, store.chunkSize, blockSize)
  await attribute(volume, pieces)
  const usage = await readOverlayUsage(stack)
  const paths = new Map(usage.owners.map(owner => [owner.inode, owner.path]))
  const free = await freeByDumpe2fs(file)
  const noise = random(seed)
  const chosen = Array.from({ length: Math.min(pieces.count, 400) }, () => noise.below(pieces.count))
  const blockOf = (piece: number): number => Math.floor(pieces.startOf(piece) / blockSize)
  const inodes = answers(await debugfs(file, [`icheck ${chosen.map(blockOf).join(' ')}`]))
  const named = [...new Set(chosen.map(pieces.inodeOf).filter(inode => inode > 2))]
  const names =
    named.length > 0 ? answers(await debugfs(file, [`ncheck ${named.join(' ')}`])) : new Map<number, string>()
  for (const piece of chosen) {
    const block = blockOf(piece)
    const role = pieces.roleOf(piece)
    const told = `block ${block}, ${role}`
    expect(role === 'freed', told).toBe(free.has(block))
    const said = Number(inodes.get(block)) || 0
    if (OWNED.includes(role)) expect(pieces.inodeOf(piece), told).toBe(said)
    else if (role === 'journal') expect(said, told).toBe(8)
    else if (METADATA.includes(role)) expect([0, 7], told).toContain(said)
    else expect(['freed', 'deleted', 'quota'], told).toContain(role)
  }
  for (const inode of named) expect(paths.get(inode), `inode ${inode}`).toBe(names.get(inode)?.replace('//', '/'))
  expect(usage.categories.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(usage.allocatedBytes)
  return {
    owned: chosen.filter(piece => pieces.inodeOf(piece) > 0).length,
    freed: chosen.filter(piece => pieces.roleOf(piece) === 'freed').length,
  }
}

/** What dumpe2fs says of free blocks, and df's formula over it. */
const dfOf = async (file: string) => {
  const head = await run('dumpe2fs', ['-h', file])
  const value = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(head)?.[1])
  const blocks = value('Block count')
  const kept = Math.min(Math.floor(blocks / 50), 4096)
  const free = value('Free blocks')
  const blockSize = value('Block size')
  return {
    freeBytes: free * blockSize,
    availableBytes: Math.max(0, free - value('Reserved block count') - kept) * blockSize,
    inodes: value('Inode count'),
    freeInodes: value('Free inodes'),
  }
}

const judges = needTools('debugfs', 'dumpe2fs', 'mke2fs', 'e2fsck')

judges.describe('who owns a chunk, as debugfs tells', () => {
  for (const name of ['fs-ext4', 'fs-ext4-overflow', 'fs-ext4-invalid'])
    judges.it(`${name}: an overlay of the kernel`, async () => {
      const fixture = kernelFixture(name)
      const stack = await overlaidStack(memory(await fixture.image('origin.img')), await fixture.image('cow.img'))
      const { owned } = await judge(stack, await path(`${name}.img`), 5)
      expect(owned).toBeGreaterThan(100)
    })

  judges.it('the sample stick', async () => {
    const stick = await unpackSample(await path('stick'))
    const stack = await openStack(await findTarget({ target: stick }))
    try {
      const { owned } = await judge(stack as OverlaidStack, await path('sample.img'), 6)
      expect(owned).toBeGreaterThan(300)
    } finally {
      await stack.close()
    }
  })

  const forms: readonly (readonly [string, readonly string[], number])[] = [
    ['blocks of 1 KiB, chunks of 16', ['-t', 'ext4', '-b', '1024'], 32],
    ['blocks of 4 KiB, chunks of 512 bytes', ['-t', 'ext4', '-b', '4096'], 1],
    ['ext2 without extents, chunks of 32 KiB', ['-t', 'ext2', '-b', '1024', '-I', '128'], 64],
  ]
  for (const [n, [title, args, chunkSectors]] of forms.entries())
    judges.it(title, async () => {
      const tree = await path(`tree${n}`)
      await makeExt4Tree(tree)
      const file = await makeExt4(await path(`form${n}.img`), 40, args, tree)
      const origin = await readFile(file)
      await debugfs(
        file,
        [
          ...Array.from({ length: 12 }, (_, n) => `write ${join(tree, 'deep/big')} new${n}`),
          ...[
            'rm new1',
            'rm new5',
            'rm deep/big',
            'rm holes',
            'mkdir made',
            `write ${join(tree, 'holes')} made/holes`,
            'rm new8',
          ],
        ],
        true,
      )
      await run('e2fsck', ['-fy', file], [0, 1])
      const cow = storeOf(changesBetween(origin, await readFile(file), chunkSectors * 512), chunkSectors)
      const stack = await overlaidStack(memory(origin), cow)
      const { owned, freed } = await judge(stack, `${file}.merged`, 7)
      expect(owned).toBeGreaterThan(100)
      expect(freed).toBeGreaterThan(10)
      expect(await readFreeSpace(await openVolume(stack.root))).toMatchObject(
        args.includes('ext2') ? { freeBytes: (await dfOf(file)).freeBytes } : await dfOf(file),
      )
    })
})

judges.it('inodes that map the same blocks over and over end the sweep, and no byte is lost', async () => {
  const big = await path('crossed.big')
  await writeFile(big, randomFillSync(Buffer.alloc(20 << 20)))
  const file = await makeExt4(await path('crossed.img'), 40, ['-t', 'ext4'])
  const origin = await readFile(file)
  await debugfs(
    file,
    [
      `write ${big} big`,
      ...Array.from({ length: 8 }, (_, n) => [`write /dev/null small${n}`, `copy_inode big small${n}`]).flat(),
    ],
    true,
  )
  const stack = await overlaidStack(memory(origin), storeOf(changesBetween(origin, await readFile(file), 4096), 8))
  const usage = await readOverlayUsage(stack)
  expect(usage.findings).toMatchObject([
    { code: 'ROOT_DAMAGED', message: expect.stringContaining('blocks of all inodes') },
  ])
  expect(usage.categories.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(usage.allocatedBytes)
  expect(usage.owners.find(({ path: name }) => name === '/big')?.bytes).toBeGreaterThanOrEqual(20 << 20)
})

const kernel = needExt4Mount('mksquashfs')

kernel.describe('what this computer’s kernel says', () => {
  const openedAs = async (bytes: Uint8Array): Promise<Device> => openReplayed(memory(bytes))

  const forms: readonly (readonly [string, readonly string[]])[] = [
    ['ext4', ['-t', 'ext4']],
    ['ext4 with blocks of 1 KiB and 5 % for root', ['-t', 'ext4', '-b', '1024', '-m', '5']],
    ['ext3', ['-t', 'ext3']],
    ['ext2', ['-t', 'ext2', '-b', '1024']],
    ['meta_bg, no resize inode', ['-t', 'ext4', '-O', 'meta_bg,^resize_inode', '-b', '1024']],
    ['bigalloc', ['-t', 'ext4', '-O', 'bigalloc', '-C', '16384']],
    ['no journal, sparse_super2', ['-t', 'ext4', '-O', '^has_journal,sparse_super2']],
  ]
  for (const [title, args] of forms)
    kernel.it(`df of ${title}`, async () => {
      const file = await makeExt4(await path(`df ${title}.img`), 96, args)
      const said = await mounted(file, 'rw', async at => {
        await writeFile(join(at, 'a file'), Buffer.alloc(3_000_000, 1))
        await mkdir(join(at, 'folder'))
        await run('sync', ['-f', at])
        return statfs(at)
      })
      expect(await readFreeSpace(await openVolume(await openedAs(await readFile(file))))).toEqual({
        blockSize: said.bsize,
        totalBytes: said.blocks * said.bsize,
        freeBytes: said.bfree * said.bsize,
        availableBytes: said.bavail * said.bsize,
        inodes: said.files,
        freeInodes: said.ffree,
      })
    })

  kernel.it('a stick with a squashed base: known files, what is freed, what is the same', async () => {
    const stick = await path('made')
    const file = await makeExt4(await path('made.img'), 64, ['-t', 'ext4'])
    const noise = (length: number) => randomFillSync(Buffer.alloc(length))
    await mounted(file, 'rw', async at => {
      for (const folder of ['var/log/journal', 'var/cache/dnf', 'home/me/.cache', 'usr/bin', 'var/lib/dpkg/info'])
        await mkdir(join(at, folder), { recursive: true })
      await writeFile(join(at, 'usr/bin/tool'), noise(300_000))
      await writeFile(join(at, 'usr/gone'), noise(2_000_000))
      await writeFile(join(at, 'var/lib/dpkg/info/tool:amd64.list'), '/.\n/bin\n/bin/tool\n/usr/gone\n')
      await run('ln', ['-s', 'usr/bin', join(at, 'bin')])
      await run('chown', ['-R', '1000:1000', join(at, 'home/me')])
      await run('chmod', ['700', join(at, 'home/me/.cache')])
    })
    const origin = await readFile(file)
    await mkdir(join(`${stick}.tree`, 'LiveOS'), { recursive: true })
    await copyFile(file, join(`${stick}.tree`, 'LiveOS/rootfs.img'))
    await mkdir(join(stick, 'LiveOS'), { recursive: true })
    await run('mksquashfs', [`${stick}.tree`, join(stick, 'LiveOS/squashfs.img'), '-comp', 'gzip', '-no-progress'])
    await mounted(file, 'rw', async at => {
      await writeFile(join(at, 'var/log/journal/system.journal'), noise(5_000_000))
      await writeFile(join(at, 'var/cache/dnf/packages.solv'), noise(1_500_000))
      await writeFile(join(at, 'home/me/.cache/thing'), noise(2_500_000))
      await appendFile(join(at, 'usr/bin/tool'), noise(100_000))
      // Written and rewritten as it was: the kernel has no way to know that nothing changed.
      await cp(join(at, 'usr/gone'), join(at, 'passing'))
      await run('sync', ['-f', at])
      await rm(join(at, 'passing'))
      await rm(join(at, 'usr/gone'))
      await run('sync', ['-f', at])
    })
    const changes = changesBetween(origin, await readFile(file), 16_384)
    const known = new Set(changes.map(({ oldChunk }) => oldChunk))
    for (let oldChunk = 0, added = 0; added < 50; oldChunk++)
      if (!known.has(oldChunk)) {
        changes.push({ oldChunk, content: origin.subarray(oldChunk * 16_384, (oldChunk + 1) * 16_384) })
        added++
      }
    await writeFile(join(stick, 'LiveOS/overlay-TEST-0001'), storeOf(changes, 32, 100))

    const found = await finished(runUsage({ target: stick }, { packages: true, depth: 3, top: 500 }))
    expect(found.findings).toEqual([])
    const bytes = (name: string): number => found.files.find(each => each.path === name)?.bytes ?? 0
    for (const [name, size] of [
      ['/var/log/journal/system.journal', 5_000_000],
      ['/var/cache/dnf/packages.solv', 1_500_000],
      ['/home/me/.cache/thing', 2_500_000],
    ] as const) {
      expect(bytes(name), name).toBeGreaterThanOrEqual(size)
      expect(bytes(name), name).toBeLessThan(size + 3 * 16_384)
    }
    expect(bytes('/usr/bin/tool')).toBeGreaterThanOrEqual(100_000)
    const category = (name: string): number => found.categories.find(each => each.category === name)?.bytes ?? 0
    expect(category('freed')).toBeGreaterThan(1_900_000)
    expect(category('identical')).toBeGreaterThanOrEqual(50 * 16_384)
    expect(found.categories.reduce((sum, each) => sum + each.bytes, 0)).toBe(found.allocatedBytes)
    const directory = (name: string): number => found.directories.find(each => each.path === name)?.bytes ?? 0
    expect(directory('/home/me/.cache')).toBeGreaterThanOrEqual(2_500_000)
    expect(directory('/')).toBe(found.files.reduce((sum, each) => sum + each.bytes, 0))
    expect(found.packages?.find(({ name }) => name === 'tool')).toMatchObject({
      bytes: bytes('/usr/bin/tool'),
      fileCount: 1,
    })
    expect(found.packages![0]!.name).toBeNull()
    expect(found.advice.map(({ path: folder, fstab }) => [folder, fstab])).toEqual([
      [
        '/var/log/journal',
        expect.stringMatching(/^tmpfs \/var\/log\/journal tmpfs size=16m,mode=0755,nosuid,nodev 0 0$/),
      ],
      ['/home', null],
      ['/home/me/.cache', 'tmpfs /home/me/.cache tmpfs size=16m,mode=0700,uid=1000,gid=1000,nosuid,nodev 0 0'],
      ['/var/cache/dnf', 'tmpfs /var/cache/dnf tmpfs size=16m,mode=0755,nosuid,nodev 0 0'],
    ])
    expect(found.space).toMatchObject({ limitedBy: 'overlay' })
    expect(found.space!.overlayBytes).toBe(found.unusedBytes)
    const line = found.advice.find(({ path: folder }) => folder === '/home/me/.cache')!.fstab!
    // The kernel takes the options of the line as they are.
    const at = await path('tmpfs')
    await whileMounted(['-t', 'tmpfs', '-o', line.split(' ')[3]!, 'tmpfs'], at, async () => undefined)
  })
})

const rpm = needTools('rpm', 'rpmbuild')

rpm.describe('packages of rpm', () => {
  rpm.it('a database that rpm made, where this Node reads SQLite; else it is said that it does not', async () => {
    const root = await path('rpm')
    await mkdir(join(root, 'usr/bin'), { recursive: true })
    await mkdir(join(root, 'usr/share/doc/sample'), { recursive: true })
    const spec = await path('sample.spec')
    const files = ['/usr/bin/sample', '/usr/share/doc/sample/README']
    await writeFile(
      spec,
      [
        ...['Name: sample', 'Version: 1', 'Release: 1', 'Summary: s', 'License: MIT', 'BuildArch: noarch'],
        ...['%description', 's', '%install', 'mkdir -p %{buildroot}/usr/bin %{buildroot}/usr/share/doc/sample'],
        ...files.map(name => `echo x > %{buildroot}${name}`),
        ...['%files', ...files, ''],
      ].join('\n'),
    )
    const top = await path('rpmbuild')
    await run('rpmbuild', ['-bb', '--quiet', '--define', `_topdir ${top}`, spec])
    const database = ['--root', root, '--dbpath', '/usr/lib/sysimage/rpm']
    const made = (await readdir(join(top, 'RPMS/noarch'))).map(name => join(top, 'RPMS/noarch', name))
    await run('rpm', [...database, '--initdb'])
    await run('rpm', [...database, '-i', '--justdb', '--nodeps', '--noscripts', ...made])
    const owner = (name: string, bytes: number) =>
      ({ inode: 12, kind: 'file', path: name, bytes, identicalBytes: 0 }) as const
    const { packages, findings } = await sumPackages(await openDirectory(root), [
      owner(files[0]!, 5),
      owner(files[1]!, 7),
      owner('/etc/other', 1),
    ])
    if ('sqlite' in process.versions)
      expect(packages).toEqual([
        { name: 'sample', bytes: 12, identicalBytes: 0, fileCount: 2 },
        { name: null, bytes: 1, identicalBytes: 0, fileCount: 1 },
      ])
    else expect(findings).toMatchObject([{ code: 'PACKAGES_UNTOLD', message: expect.stringContaining('Node 22.5') }])
  })
})

const made = needTools('mke2fs', 'debugfs')
made.describe('directories that are read on the way', () => {
  /** What is read on the way over the whole base. */
  const passed = async (base: Uint8Array, root: Uint8Array, names: readonly string[]) => {
    const stack = await overlaidStack(memory(base, 'base'), storeOf(changesBetween(base, root, 1024), 2))
    const volume = await openVolume(await openReplayed(stack.root))
    const { store } = stack.overlay
    const found = await attribute(volume, cutPieces(store.exceptions, store.chunkSize, volume.superblock.blockSize))
    const fs = await openExt4(await openReplayed(stack.root))
    const inodes = await Promise.all(names.map(async name => (await fs.lookup(name)).ino))
    const passing = passingDirectories(volume, found, new Set(inodes), byteRuns([]))
    await passing.pass(0, base)
    return async (name: string) => passing.listing((await fs.lookup(name)).ino)
  }
  const OPTIONS = ['-t', 'ext4', '-b', '1024', '-O', '^filetype,^metadata_csum', '-N', '4000']

  made.it('a kind that the directory does not tell is the one that the overlay has', async () => {
    const file = await makeExt4(await path('kinds'), 4, OPTIONS)
    await debugfs(file, ['mkdir /D', 'mkdir /D/x', 'cd /D/x', 'mkdir y'], true)
    const root = await readFile(file)
    await debugfs(file, ['set_inode_field /D/x mode 0100644'], true)
    const listing = await passed(await readFile(file), root, ['/D/x', '/D/x/y'])
    expect((await listing('/D'))?.entries).toMatchObject([{ name: 'x', kind: 'directory' }])
  })

  made.it('no more names are kept than can be', async () => {
    for (const count of [500, 1500]) {
      const tree = await path(`names of ${count}`)
      await mkdir(join(tree, 'many'), { recursive: true })
      await writeFile(join(tree, 'file'), 'file')
      for (let n = 0; n < count; n++) await link(join(tree, 'file'), join(tree, 'many', `${n}`))
      const file = await makeExt4(await path(`names ${count}`), 8, OPTIONS, tree)
      const root = await readFile(file)
      const listing = await (await passed(root, root, ['/file']))('/many')
      expect(listing?.entries.length).toBe(count === 500 ? 500 : undefined)
    }
  })
})
