import { mkdir, mkdtemp, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { run } from './run.js'

/** Label and UUIDs of every stick here. */
export const LABEL = 'LIVE'
export const FAT_UUID = '1A2B-3C4D'
export const EXT4_UUID = '0f0f0f0f-1111-4222-8333-444444444444'
const PARTITION = 2048 * 512

/** What a stick is to hold. */
export interface StickOptions {
  readonly fs: 'vfat' | 'ext4'
  /** arguments of each boot entry, in order */
  readonly entries: readonly string[]
  /** LiveOS/squashfs.img or LiveOS/rootfs.img */
  readonly base: { readonly name: 'squashfs.img' | 'rootfs.img'; readonly path: string }
  /** a store full of zeros, of so many MiB; a directory with its sister; a filesystem in a file, of so many MiB */
  readonly overlay?:
    | { readonly kind: 'store' | 'embedded'; readonly size: number }
    | { readonly kind: 'directory' }
    | undefined
  /** MiB of home.img */
  readonly home?: number | undefined
}

/** The name that dracut looks for. */
export const overlayName = (fs: StickOptions['fs']): string =>
  `overlay-${LABEL}-${fs === 'vfat' ? FAT_UUID : EXT4_UUID}`

const MIB = 2 ** 20

const makeEmbedded = async (path: string, size: number, folder: string): Promise<void> => {
  const inside = join(folder, 'inside')
  await mkdir(join(inside, 'overlayfs'), { recursive: true })
  await mkdir(join(inside, 'ovlwork'))
  await writeFile(path, '')
  await truncate(path, size * MIB)
  await run('mke2fs', '-q', '-F', '-t', 'ext4', '-E', 'root_owner=0:0', '-d', inside, path)
}

const menu = (entries: readonly string[], words: string): string =>
  [
    'default live1',
    'timeout 10',
    ...entries.map(
      (args, index) =>
        `label live${index + 1}\n  kernel /syslinux/vmlinuz\n  append initrd=/syslinux/initrd.img console=tty0 console=ttyS0,115200 ${words} ${args}`,
    ),
    '',
  ].join('\n')

/** Makes the image of a stick: an MBR with one partition, kernel and menu in /syslinux, the live system in /LiveOS. */
export const makeStick = async (
  path: string,
  system: { readonly folder: string; readonly words: string },
  { fs, entries, base, overlay, home }: StickOptions,
): Promise<void> => {
  const folder = await mkdtemp(`${path}.`)
  try {
    const live = join(folder, 'root', 'LiveOS')
    await mkdir(live, { recursive: true })
    await mkdir(join(folder, 'root', 'syslinux'))
    for (const name of ['vmlinuz', 'initrd.img'])
      await run('cp', join(system.folder, name), join(folder, 'root', 'syslinux', name))
    await run('cp', '--sparse=always', base.path, join(live, base.name))
    await writeFile(join(folder, 'root', 'syslinux', 'syslinux.cfg'), menu(entries, system.words))
    const store = join(live, overlayName(fs))
    if (overlay?.kind === 'store') await writeFile(store, new Uint8Array(overlay.size * MIB))
    else if (overlay?.kind === 'embedded') await makeEmbedded(store, overlay.size, folder)
    else if (overlay) {
      await mkdir(store)
      await mkdir(join(live, 'ovlwork'))
    }
    if (home !== undefined) await makeHome(join(live, 'home.img'), home, folder)
    await pack(path, join(folder, 'root'), fs)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

const makeHome = async (path: string, size: number, folder: string): Promise<void> => {
  const inside = join(folder, 'home')
  await mkdir(join(inside, 'liveuser'), { recursive: true })
  await writeFile(join(inside, 'liveuser', 'hello.txt'), 'home of liveuser\n')
  await writeFile(path, '')
  await truncate(path, size * MIB)
  await run('mke2fs', '-q', '-F', '-t', 'ext4', '-L', 'home', '-d', inside, path)
}

const pack = async (path: string, root: string, fs: StickOptions['fs']): Promise<void> => {
  const used = Number((await run('du', '-s', '-B1', '--apparent-size', root)).split('\t')[0])
  const size = Math.ceil((used * 1.05 + 64 * MIB) / MIB) * MIB
  await writeFile(path, '')
  await truncate(path, size)
  const type = fs === 'vfat' ? 'c' : '83'
  await run('sfdisk', '-q', path, { input: `label: dos\nstart=2048, type=${type}, bootable\n` })
  if (fs === 'vfat') {
    const serial = FAT_UUID.replace('-', '')
    const blocks = (size - PARTITION) / 1024
    await run('mkfs.vfat', '-F', '32', '-n', LABEL, '-i', serial, '--offset', '2048', path, String(blocks))
    await run('mcopy', '-s', '-i', `${path}@@1M`, join(root, 'LiveOS'), join(root, 'syslinux'), '::')
  } else {
    const place = `offset=${PARTITION},root_owner=0:0`
    const blocks = `${(size - PARTITION) / 1024}k`
    await run('mke2fs', '-q', '-F', '-t', 'ext4', '-L', LABEL, '-U', EXT4_UUID, '-E', place, '-d', root, path, blocks)
  }
}

/** Copies LiveOS out of a FAT stick, as a mount would show it; gives the folder that holds it. */
export const takeOut = async (path: string, folder: string): Promise<string> => {
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder)
  await run('mcopy', '-s', '-n', '-i', `${path}@@1M`, '::LiveOS', folder)
  return folder
}

/** Puts files of such a folder back in the place of those of the stick. */
export const putBack = async (path: string, folder: string, ...names: readonly string[]): Promise<void> => {
  for (const name of names) {
    const from = join(folder, 'LiveOS', name)
    const there = await stat(from).then(
      () => true,
      () => false,
    )
    await run('mdel', '-i', `${path}@@1M`, `::LiveOS/${name}`)
    if (there) await run('mcopy', '-o', '-i', `${path}@@1M`, from, `::LiveOS/${name}`)
  }
}

/** Bytes of a file of a FAT stick. */
export const readOut = async (path: string, name: string, to: string): Promise<Buffer> => {
  await run('mcopy', '-n', '-o', '-i', `${path}@@1M`, `::${name}`, to)
  return readFile(to)
}
