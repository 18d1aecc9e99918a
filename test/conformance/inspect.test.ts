import { copyFile, cp, mkdir, open, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect } from 'vitest'
import { bootPlans } from '../../src/ops/boot-plan.js'
import { listFiles, withView } from '../../src/ops/files.js'
import { type InspectInput, type Inspection, inspect as runInspect } from '../../src/ops/inspect.js'
import type { InspectNode } from '../../src/ops/inspect-node.js'
import { readStatus } from '../../src/ops/status.js'
import { liveos } from '../support/cli.js'
import { breaches, readSchema } from '../support/json-schema.js'
import { failure } from '../support/outcome.js'
import { bytesOf } from '../support/small-stick.js'
import { storeOf } from '../support/store-writer.js'
import {
  altered,
  emptyFile,
  FAT_ID,
  IMAGE_TOOLS,
  type ImageServer,
  LABEL,
  makeExt4,
  makeFat,
  makeIsoTarget,
  makeSystem,
  OVERLAY,
  partition,
  run,
  serveImages,
  squash,
} from '../support/target-images.js'
import { temporary } from '../support/temporary.js'
import { needTools, tool } from '../support/tools.js'

const MIB = 1 << 20
const START = MIB
const path = temporary()
const { it, describe } = needTools(...IMAGE_TOOLS)
const ready = IMAGE_TOOLS.every(name => tool(name) !== undefined)
const schema = readSchema('inspect.json')

let at: (name: string) => string
let server: ImageServer | undefined

const configOf = (id: string): string =>
  `default vesamenu.c32\ntimeout 50\nlabel linux\n  menu label Start it\n  menu default\n  kernel vmlinuz\n  append initrd=initrd.img root=live:UUID=${id} rd.live.image rd.live.overlay=UUID=${id}:/LiveOS/overlay-${LABEL}-${id}\n`

/** The start of a bzImage with its version, as the boot protocol lays it out. */
const bzImage = (version: string): Buffer => {
  const bytes = Buffer.alloc(8192)
  bytes.writeUInt16LE(0xaa55, 0x1fe)
  bytes.write('HdrS', 0x202, 'latin1')
  bytes.writeUInt16LE(0x20f, 0x206)
  bytes.writeUInt16LE(0x1000 - 0x200, 0x20e)
  bytes.writeUInt16LE(1, 0x236)
  bytes.write(`${version} (mockbuild@host) #1 SMP\0`, 0x1000, 'latin1')
  return bytes
}

/** A stick of small files: a root of 4 MiB in a squashfs, an overlay with one chunk, loaders. */
const layTree = async (tree: string, id = FAT_ID): Promise<string> => {
  await mkdir(join(tree, 'LiveOS'), { recursive: true })
  await mkdir(join(tree, 'syslinux'))
  await mkdir(join(tree, 'EFI/BOOT'), { recursive: true })
  await copyFile(at('base'), join(tree, 'LiveOS/squashfs.img'))
  await writeFile(
    join(tree, `LiveOS/overlay-${LABEL}-${id}`),
    storeOf([{ oldChunk: 900, content: bytesOf(1, 4096) }], 8, 64),
  )
  await writeFile(join(tree, 'syslinux/syslinux.cfg'), configOf(id))
  await writeFile(join(tree, 'syslinux/vmlinuz'), bzImage('6.5.6-300.fc39.x86_64'))
  for (const name of ['initrd.img', 'vesamenu.c32', 'ldlinux.sys']) await writeFile(join(tree, 'syslinux', name), 'x')
  await writeFile(join(tree, 'EFI/BOOT/BOOTX64.EFI'), 'MZ')
  return tree
}

beforeAll(async () => {
  if (!ready) return
  const first = await path('system')
  at = name => join(dirname(first), name)
  await makeSystem(first)
  const packed = at('packed')
  await mkdir(join(packed, 'LiveOS'), { recursive: true })
  await emptyFile(join(packed, 'LiveOS/rootfs.img'), 4 * MIB)
  await makeExt4(join(packed, 'LiveOS/rootfs.img'), first, {
    size: 4 * MIB,
    label: 'Root',
    id: '5a3d1e00-11fe-4000-8000-0000000000aa',
  })
  await squash(at('base'), packed)
  await layTree(at('stick'))
  await makeIsoTarget(at('f36.iso'), at('base'), { layout: 'f36' })
  await makeIsoTarget(at('f42.iso'), at('base'), { layout: 'f42' })
  server = await serveImages(dirname(first))
}, 60_000)
afterAll(() => server?.close())

/** Inspects, and holds the answer against the schema. */
const inspect = async (input: InspectInput | string): Promise<Inspection> => {
  const found = await runInspect(typeof input === 'string' ? { target: input } : input)
  expect(breaches(JSON.parse(JSON.stringify(found)), schema)).toEqual([])
  return found
}

const nodesOf = (tree: InspectNode): InspectNode[] => [tree, ...tree.children.flatMap(nodesOf)]
const nodes = ({ tree }: Inspection, kind: InspectNode['kind']): InspectNode[] =>
  nodesOf(tree).filter(node => node.kind === kind)
const codes = ({ findings }: Inspection): string[] => findings.map(({ code }) => code)
const mountsOf = (found: Inspection, n = 0): string => String(nodes(found, 'live')[n]?.details.mounts)

let made = 0
/** A directory of a stick, changed. */
const stickWith = async (change: (stick: string, live: string) => Promise<void>): Promise<string> => {
  const stick = at(`stick${made++}`)
  await cp(at('stick'), stick, { recursive: true })
  await change(stick, join(stick, 'LiveOS'))
  return stick
}

const fatOf = async (tree: string, options: Parameters<typeof makeFat>[2] = { size: 36 * MIB }): Promise<string> => {
  const image = at(`fat${made++}.img`)
  await emptyFile(image, options.size)
  await makeFat(image, tree, options)
  return image
}

describe('what is there', () => {
  it('a FAT stick: loaders, kernel by its file, overlay, system, mounts', async () => {
    const image = await altered(at('sys.img'), await fatOf(at('stick')), 3, Buffer.from('SYSLINUX'))
    const found = await inspect(image)
    expect(found.findings).toEqual([])
    expect(found.tree).toMatchObject({
      kind: 'target',
      type: 'vfat',
      label: LABEL,
      uuid: FAT_ID,
      details: {
        kind: 'image',
        fatVariant: 'FAT32',
        bootSector: 'SYSLINUX',
        loaders: ['/syslinux/ldlinux.sys', '/EFI/BOOT/BOOTX64.EFI'],
      },
    })
    expect(found.tree.details.freeBytes).toBeGreaterThan(30 * MIB)
    expect(nodes(found, 'base')[0]).toMatchObject({ type: 'squashfs', details: { compressor: 'gzip', nested: true } })
    expect(nodes(found, 'root')[0]).toMatchObject({
      type: 'ext4',
      label: 'Root',
      size: 4 * MIB,
      details: {
        distribution: 'Fedora Linux 39 (Flat)',
        architecture: 'x86_64',
        sugarOnAStick: true,
        kernels: ['6.5.6-300.fc39.x86_64'],
      },
    })
    expect(nodes(found, 'overlay')).toMatchObject([
      { name: OVERLAY, type: 'dm-snapshot', details: { state: 'ok', changedChunks: 1, foundBy: 'label and UUID' } },
    ])
    expect(nodes(found, 'entry')).toMatchObject([
      {
        name: 'Start it',
        type: 'live',
        details: { default: true, kernel: '/syslinux/vmlinuz', kernelVersion: '6.5.6-300.fc39.x86_64' },
      },
    ])
    expect(mountsOf(found)).toContain(`under /LiveOS/${OVERLAY}: changes are kept`)
    // base first, as people draw it
    expect(nodes(found, 'live')[0]!.children.map(({ kind }) => kind)).toEqual(['base', 'overlay'])
    const { stdout, code } = await liveos(['inspect', image])
    expect(code).toBe(0)
    for (const part of [
      '├─ LiveOS\n',
      '│  ├─ squashfs.img  ',
      '│  │  └─ LiveOS/rootfs.img  4.0 MiB  ext4  "Root"',
      `│  └─ ${OVERLAY}  `,
      '└─ /syslinux/syslinux.cfg  syslinux  BIOS',
      'kernel /syslinux/vmlinuz  6.5.6-300.fc39.x86_64\n',
    ])
      expect(stdout).toContain(part)
  })

  for (const layout of ['f36', 'f42'])
    it(`an ISO like ${layout}: what firmware starts, and entries of both loaders`, async () => {
      const found = await inspect(at(`${layout}.iso`))
      expect(found.findings).toEqual([])
      expect(found.tree).toMatchObject({ type: 'iso9660', details: { table: 'hybrid' } })
      expect(nodes(found, 'boot image').map(({ details }) => details.platform)).toEqual(['x86', 'efi'])
      expect(nodes(found, 'boot').map(({ name }) => name)).toEqual(
        layout === 'f36'
          ? ['/EFI/BOOT/grub.cfg', '/isolinux/isolinux.cfg']
          : ['/EFI/BOOT/grub.cfg', '/boot/grub2/grub.cfg'],
      )
      expect(mountsOf(found)).toContain('changes are lost at power-off')
      expect(nodes(found, 'root')).toHaveLength(1)
    })

  it('an installer’s ISO says of what by its .treeinfo', async () => {
    const iso = await makeIsoTarget(at('dvd.iso'), undefined, { layout: 'f36', bare: true })
    const found = await inspect(iso)
    expect(found.findings).toEqual([])
    expect(found.tree.details).toMatchObject({ distribution: 'Sample 41', architecture: 'x86_64', variant: 'Server' })
  })

  it('several images: each by itself, or the one that is named', async () => {
    const stick = await stickWith(async stick => {
      await mkdir(join(stick, 'F39'))
      await copyFile(at('base'), join(stick, 'F39/squashfs.img'))
    })
    const found = await inspect(stick)
    expect(nodes(found, 'live').map(({ name }) => name)).toEqual(['F39', 'LiveOS'])
    expect(mountsOf(found, 0)).toContain('no boot entry here starts it')
    expect(nodes(found, 'root')).toHaveLength(2)
    expect(nodes(await inspect({ target: stick, image: 'F39' }), 'live').map(({ name }) => name)).toEqual(['F39'])
    expect((await failure(runInspect({ target: stick, image: 'F38' }), 'NOT_FOUND')).message).toContain('F39, LiveOS')
    // a named overlay is the usual image's
    const overlay = join(stick, 'LiveOS', OVERLAY)
    const [other, usual] = nodes(await inspect({ target: stick, overlay }), 'live')
    expect(other!.children.map(({ kind }) => kind)).toEqual(['base'])
    expect(usual!.children.map(({ kind }) => kind)).toEqual(['base', 'overlay'])
  })

  it('--depth ends where it says', async () => {
    const deep = (node: InspectNode): number => 1 + Math.max(0, ...node.children.map(deep))
    const image = await fatOf(at('stick'))
    for (const depth of [0, 1, 2, 3]) expect(deep((await inspect({ target: image, depth })).tree)).toBe(depth + 1)
    expect(deep((await inspect(image)).tree)).toBe(4)
  })

  it('home.img: plain, LUKS, damaged; swap.img', async () => {
    const plain = await stickWith(async (_, live) => {
      await emptyFile(join(live, 'home.img'), 4 * MIB)
      await makeExt4(join(live, 'home.img'), at('system'), { size: 4 * MIB, label: 'home' })
      await emptyFile(join(live, 'swap.img'), MIB)
      await run('mkswap', join(live, 'swap.img'))
    })
    const found = await inspect(plain)
    expect(nodes(found, 'home')).toMatchObject([{ type: 'ext4', label: 'home' }])
    expect(nodes(found, 'swap')).toMatchObject([{ type: 'swap', size: MIB }])
    expect(mountsOf(found)).toContain('home.img is not mounted: the image has no livesys scripts')
    const luks = await stickWith(async (_, live) => {
      const head = Buffer.alloc(MIB)
      Buffer.from([0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe, 0, 1]).copy(head)
      await writeFile(join(live, 'home.img'), head)
    })
    expect(nodes(await inspect(luks), 'home')).toMatchObject([{ type: 'luks', details: { encrypted: true } }])
    const closed = await failure(
      withView({ target: luks }, 'home', { paths: ['/'] }, async () => {}),
      'UNSUPPORTED',
    )
    expect(closed.message).toContain('LUKS')
    const broken = await stickWith(async (_, live) => {
      const bytes = await readFile(join(plain, 'LiveOS/home.img'))
      bytes.fill(0xff, 1024 + 20, 1024 + 40)
      await writeFile(join(live, 'home.img'), bytes)
    })
    const damaged = await inspect(broken)
    expect(codes(damaged)).toContain('HOME_UNREADABLE')
    expect(nodes(damaged, 'root')).toHaveLength(1)
  })
})

describe('overlays', () => {
  it('invalid, new, cut: the root below is told in any case', async () => {
    const changes = {
      invalid: (bytes: Buffer) => bytes.fill(0, 4, 8),
      new: (bytes: Buffer) => bytes.fill(0),
      damaged: (bytes: Buffer) => bytes.fill(0xff, 8, 16),
    }
    for (const [state, change] of Object.entries(changes)) {
      const stick = await stickWith(async (_, live) => {
        const bytes = await readFile(join(live, OVERLAY))
        change(bytes)
        await writeFile(join(live, OVERLAY), bytes)
      })
      const found = await inspect(stick)
      expect(nodes(found, 'overlay')).toMatchObject([{ details: { state } }])
      expect(nodes(found, 'root')).toMatchObject([{ details: { distribution: 'Fedora Linux 39 (Flat)' } }])
      expect((await liveos(['inspect', stick])).code).toBe(state === 'new' ? 0 : 1)
    }
  })

  it('two: one finding, and each with what it is', async () => {
    const stick = await stickWith(async (_, live) => {
      await rename(join(live, OVERLAY), join(live, 'overlay-A-1'))
      await copyFile(join(live, 'overlay-A-1'), join(live, 'overlay-B-2'))
    })
    const found = await inspect(stick)
    expect(codes(found)).toContain('OVERLAY_UNCLEAR')
    expect(nodes(found, 'overlay').map(({ name, details }) => [name, details.state, details.use])).toEqual([
      ['overlay-A-1', 'ok', 'which one is used is not clear'],
      ['overlay-B-2', 'ok', 'which one is used is not clear'],
    ])
    // in an image whose label fits one, the other is only there
    const two = await stickWith(async (_, live) => copyFile(join(live, OVERLAY), join(live, 'overlay-OLD-0')))
    const named = await inspect(await fatOf(two))
    expect(nodes(named, 'overlay').map(({ name, details }) => [name, details.use])).toEqual([
      [OVERLAY, undefined],
      ['overlay-OLD-0', 'not used by this system'],
    ])
  })

  it('a stick that was relabelled: entries that look for another, and an overlay that is not found', async () => {
    const image = await fatOf(at('stick'), { size: 36 * MIB, label: 'OTHER', id: '0BAD-CAFE' })
    const found = await inspect(image)
    expect(found.findings.find(({ code }) => code === 'BOOT_ROOT_ELSEWHERE')).toMatchObject({
      severity: 'warning',
      expected: `UUID=${FAT_ID}`,
      message: expect.stringContaining('label "OTHER" and UUID 0BAD-CAFE'),
    })
    expect(codes(found)).toContain('OVERLAY_NAME')
    expect(mountsOf(found)).toContain('on a device that is not here')
    // a copy in a directory has no label of its own to compare
    expect(codes(await inspect(at('stick')))).not.toContain('BOOT_ROOT_ELSEWHERE')
  })

  it('what the default entry does with it', async () => {
    const words: Readonly<Record<string, string>> = {
      ' rd.live.overlay.reset': 'empties at each start',
      ' rd.live.overlay.readonly': 'only read',
      ' rd.live.ram': 'a copy in memory',
      '': 'changes are kept',
    }
    for (const [argument, expected] of Object.entries(words)) {
      const stick = await stickWith(async stick => {
        const config = join(stick, 'syslinux/syslinux.cfg')
        await writeFile(config, (await readFile(config, 'utf8')).replace(/(append .*)/, `$1${argument}`))
      })
      expect(mountsOf(await inspect(stick))).toContain(expected)
    }
    const overlays: Readonly<Record<string, string>> = {
      [`UUID=${FAT_ID}:auto`]: 'changes are kept',
      [`UUID=${FAT_ID}`]: 'changes are kept',
      [`LABEL=${LABEL}:LiveOS/${OVERLAY}`]: 'changes are kept',
      [`UUID=${FAT_ID}:/LiveOS/none`]: 'finds nothing here',
      none: 'without an overlay',
      '0': 'finds nothing here',
      '': 'asks for no overlay',
    }
    for (const [value, expected] of Object.entries(overlays)) {
      const tree = await stickWith(async stick => {
        const config = join(stick, 'syslinux/syslinux.cfg')
        const text = await readFile(config, 'utf8')
        await writeFile(config, text.replace(/rd\.live\.overlay=\S+/, `rd.live.overlay=${value}`))
      })
      const image = await fatOf(tree)
      const said = mountsOf(await inspect(image))
      expect([value, said]).toEqual([value, expect.stringContaining(expected)])
      // the same decision, told by another verb
      const [planned] = (await bootPlans({ target: image })).plans
      expect([value, said.includes('changes are kept')]).toEqual([value, planned?.plan.changes === 'kept'])
    }
  }, 60_000)

  it('an OverlayFS directory, with and without its work directory', async () => {
    const lay = (work: boolean) =>
      stickWith(async (_, live) => {
        await rm(join(live, OVERLAY))
        await mkdir(join(live, OVERLAY))
        if (work) await mkdir(join(live, 'ovlwork'))
      })
    for (const work of [true, false]) {
      const found = await inspect(await lay(work))
      expect(nodes(found, 'overlay')).toMatchObject([{ type: 'OverlayFS directory', details: { workDirectory: work } }])
      expect(codes(found).includes('OVERLAY_NO_WORK_DIRECTORY')).toBe(!work)
      expect(nodes(found, 'root')).toHaveLength(1)
      expect(mountsOf(found)).toContain(work ? 'under the OverlayFS' : 'there is no ovlwork beside it')
    }
  })

  it('an OverlayFS in a filesystem file', async () => {
    for (const names of [['overlayfs', 'ovlwork'], ['overlayfs']]) {
      const tree = at(`upper${names.length}`)
      for (const name of names) await mkdir(join(tree, name), { recursive: true })
      const stick = await stickWith(async (_, live) => {
        await rm(join(live, OVERLAY))
        await emptyFile(join(live, OVERLAY), 4 * MIB)
        await makeExt4(join(live, OVERLAY), tree, { size: 4 * MIB, label: 'upper' })
      })
      const found = await inspect(stick)
      expect(nodes(found, 'overlay')).toMatchObject([
        {
          type: 'OverlayFS image',
          label: 'upper',
          details: { filesystem: 'ext4', workDirectory: names.length === 2 },
        },
      ])
      expect(codes(found).includes('OVERLAY_NO_WORK_DIRECTORY')).toBe(names.length === 1)
      const seen = await withView({ target: stick }, 'root', { paths: ['/'] }, async (_, findings) => findings)
      expect(seen.map(({ code }) => code)).toEqual(names.length === 2 ? [] : ['OVERLAY_NO_WORK'])
    }
  })

  it('a partition of its own: the store itself, or a file on it that the boot entries name', async () => {
    const ID = 'aaaaaaaa-0000-4000-8000-000000000001'
    const image = at('own.img')
    const size = 36 * MIB
    await emptyFile(image, START + size + 16 * MIB)
    await partition(
      image,
      `label: dos\nstart=${START / 512}, size=${size / 512}, type=c, bootable\nsize=${(8 * MIB) / 512}, type=83\nsize=${(8 * MIB) / 512}, type=83\n`,
    )
    const tree = await stickWith(async (stick, live) => {
      await rm(join(live, OVERLAY))
      const config = join(stick, 'syslinux/syslinux.cfg')
      const text = await readFile(config, 'utf8')
      await writeFile(config, text.replace(/rd\.live\.overlay=\S+/, `rd.live.overlay=UUID=${ID}:/kept/changes`))
    })
    await makeFat(image, tree, { offset: START, size })
    const store = storeOf([{ oldChunk: 900, content: bytesOf(1, 4096) }], 8, 8)
    const file = await open(image, 'r+')
    await file.write(store, 0, store.length, START + size)
    await file.close()
    const data = at('data')
    await mkdir(join(data, 'kept'), { recursive: true })
    await writeFile(join(data, 'kept/changes'), store)
    await makeExt4(image, data, { offset: START + size + 8 * MIB, size: 8 * MIB, label: 'DATA', id: ID })
    const found = await inspect(image)
    const [, second, third] = nodes(found, 'partition')
    expect(second).toMatchObject({ type: 'dm-snapshot store', details: { state: 'ok', changedChunks: 1 } })
    expect(third!.children).toMatchObject([
      { kind: 'overlay', name: '/kept/changes', type: 'dm-snapshot', details: { state: 'ok', changedChunks: 1 } },
    ])
    expect(mountsOf(found)).toContain('under /kept/changes on partition 3: changes are kept')
    expect(found.findings).toEqual([])
    const only = await inspect({ target: image, partition: 1 })
    expect(nodes(only, 'partition').map(({ name }) => name)).toEqual(['partition 1'])
    await failure(runInspect({ target: image, partition: 9 }), 'USAGE')
  })
})

describe('bases', () => {
  const withBase = (base: (file: string) => Promise<unknown>) =>
    stickWith(async (_, live) => {
      await rm(join(live, 'squashfs.img'))
      await base(join(live, 'squashfs.img'))
    })

  it('EROFS under the name of a squashfs is named', async () => {
    const stick = await withBase(async file => {
      if (tool('mkfs.erofs'))
        return run('mkfs.erofs', '--quiet', file, at('system')).catch(() => run('mkfs.erofs', file, at('system')))
      const bytes = Buffer.alloc(8192)
      bytes.writeUInt32LE(0xe0f5e1e2, 1024)
      return writeFile(file, bytes)
    })
    const found = await inspect(stick)
    expect(nodes(found, 'base')).toMatchObject([{ type: 'erofs' }])
    expect(found.findings).toMatchObject([{ code: 'BASE_UNSUPPORTED', severity: 'note' }])
    await failure(
      withView({ target: stick }, 'root', { paths: ['/'] }, async () => {}),
      'UNSUPPORTED',
    )
  })

  it('a root that is not compressed; a squashfs with neither root; garbage; one that went missing', async () => {
    const raw = at('raw stick')
    await mkdir(join(raw, 'LiveOS'), { recursive: true })
    await copyFile(at('packed/LiveOS/rootfs.img'), join(raw, 'LiveOS/ext3fs.img'))
    const plain = await inspect(raw)
    expect(nodes(plain, 'base')).toMatchObject([{ name: 'ext3fs.img', type: 'ext4', details: { nested: false } }])
    expect(nodes(plain, 'root')).toMatchObject([{ details: { distribution: 'Fedora Linux 39 (Flat)' } }])
    const odd = at('odd')
    await mkdir(odd)
    await writeFile(join(odd, 'readme'), 'x')
    expect(codes(await inspect(await withBase(file => squash(file, odd))))).toContain('BASE_WITHOUT_ROOT')
    expect(codes(await inspect(await withBase(file => writeFile(file, bytesOf(3, 70_000)))))).toContain('BASE_DAMAGED')
    const cut = await stickWith(async (_, live) => rename(join(live, 'squashfs.img'), join(live, 'squashfs.img.old')))
    expect(codes(await inspect(cut))).toContain('REFRESH_INTERRUPTED')
  })

  const likeFedora = async (release: number, inner: string, outer: string): Promise<void> => {
    const [packed, tree, image] = [at(`f${release}.packed`), at(`f${release}.tree`), at(`f${release}.iso`)]
    await mkdir(dirname(join(packed, inner)), { recursive: true })
    await mkdir(dirname(join(tree, outer)), { recursive: true })
    await emptyFile(join(packed, inner), 4 * MIB)
    await run('mke2fs', '-q', '-F', '-t', 'ext3', '-L', 'Old', '-d', at('system'), join(packed, inner))
    await squash(join(tree, outer), packed, '-comp', 'gzip')
    await run('xorriso', '-as', 'mkisofs', '-quiet', '-o', image, '-R', '-J', '-V', `F${release}`, tree)
    const found = await inspect(image)
    expect(nodes(found, 'root')).toMatchObject([{ type: 'ext3', label: 'Old' }])
    expect(found.findings).toEqual([])
    expect((await readStatus({ target: image })).base).toMatchObject({ rootType: 'ext3', rootLabel: 'Old' })
    await withView({ target: image }, 'root', { paths: ['/'] }, async fs => {
      expect((await fs.list('/home')).map(({ name }) => name)).toEqual(['ada'])
    })
  }

  it('ISOs of Fedora 7 and 8', async () => {
    await likeFedora(7, 'os.img', 'squashfs.img')
    await likeFedora(8, 'LiveOS/ext3fs.img', 'LiveOS/squashfs.img')
  })

  it('damage in the squashfs, wherever it is, ends nothing', async () => {
    const size = (await readFile(at('base'))).length
    let seen = 0
    for (let offset = 8; offset < size; offset += Math.ceil(size / 40)) {
      const stick = await withBase(file => altered(file, at('base'), offset, Buffer.alloc(16, 0xa5)))
      const found = await inspect(stick)
      expect(nodes(found, 'overlay')).toHaveLength(1)
      if (found.findings.some(({ severity }) => severity === 'error')) seen++
      await rm(stick, { recursive: true })
    }
    expect(seen).toBeGreaterThan(3)
  }, 60_000)
})

describe('what is wrong around it', () => {
  it('a FAT that was not unmounted', async () => {
    const image = await fatOf(at('stick'))
    const bytes = await readFile(image)
    bytes[65] = 1
    await writeFile(image, bytes)
    const found = await inspect(image)
    expect(found.findings).toMatchObject([{ code: 'FAT_DIRTY', severity: 'warning' }])
    expect(found.findings[0]!.remedy).toContain('fsck.vfat')
    expect(found.tree.details.dirty).toBe(true)
  })

  it('kernel and initrd that are gone', async () => {
    const stick = await stickWith(async stick => rm(join(stick, 'syslinux/initrd.img')))
    const found = await inspect(stick)
    expect(nodes(found, 'entry')[0]!.details.missing).toEqual(['/syslinux/initrd.img'])
    expect(codes(found)).toContain('BOOT_INITRD_MISSING')
  })

  it('a symlink to the base is followed in a directory of this computer, as by other verbs, and in no image', async () => {
    const stick = await stickWith(async (_, live) => {
      await rm(join(live, 'squashfs.img'))
      await symlink(at('base'), join(live, 'squashfs.img'))
    })
    expect(nodes(await inspect(stick), 'root')).toHaveLength(1)
    const image = at('linked.img')
    await emptyFile(image, 8 * MIB)
    await makeExt4(image, stick, { size: 8 * MIB })
    expect(nodes(await inspect(image), 'base')).toEqual([])
  })

  it('a bare base with an overlay that was named for it', async () => {
    const overlay = join(at('stick'), 'LiveOS', OVERLAY)
    for (const input of [
      { target: at('base'), overlay },
      { base: at('base'), overlay },
    ]) {
      const found = await inspect(input)
      expect(found.tree.children.map(({ kind }) => kind)).toEqual(['base', 'overlay'])
      expect(nodes(found, 'root')).toHaveLength(1)
    }
  })
})

describe('what looking over HTTP costs', () => {
  const cost = async (words: string, work: () => Promise<unknown>): Promise<{ requests: number; bytes: number }> => {
    server!.reset()
    await work()
    const { requests, bytes } = server!.asked
    console.log(`${words}: ${requests} requests, ${bytes} bytes`)
    return { requests, bytes }
  }
  const listed = (target: string) =>
    withView({ target }, 'root', { paths: ['/etc'] }, async fs => {
      const names: string[] = []
      for await (const { path: name } of listFiles(fs, '/etc', { onFinding: () => {} })) names.push(name)
      expect(names).toEqual(['/etc/os-release'])
    })

  it('of an ISO', async () => {
    const url = `${server!.url}/f36.iso`
    const ls = await cost('ls of an ISO', () => listed(url))
    expect(ls.requests).toBeLessThanOrEqual(5)
    expect(ls.bytes).toBeLessThanOrEqual(400_000)
    const all = await cost('inspect of an ISO', () => runInspect({ target: url }))
    expect(all.requests).toBeLessThanOrEqual(6)
    expect(all.bytes).toBeLessThanOrEqual(500_000)
  })

  it('of a FAT stick of 320 MiB', async () => {
    const size = 320 * MIB
    await emptyFile(at('large.img'), START + size)
    await partition(at('large.img'), `label: dos\nstart=${START / 512}, type=c, bootable\n`)
    await makeFat(at('large.img'), at('stick'), { offset: START, size, clusterSectors: 8 })
    const url = `${server!.url}/large.img`
    const ls = await cost('ls of a FAT stick', () => listed(url))
    expect(ls.requests).toBeLessThanOrEqual(10)
    expect(ls.bytes).toBeLessThanOrEqual(1_100_000)
    const all = await cost('inspect of a FAT stick', () => runInspect({ target: url }))
    expect(all.requests).toBeLessThanOrEqual(12)
    expect(all.bytes).toBeLessThanOrEqual(1_300_000)
    await rm(at('large.img'))
  })
})
