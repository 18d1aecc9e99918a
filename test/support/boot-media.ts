import { readFileSync } from 'node:fs'
import type { FileSystem } from '../../src/fs/filesystem.js'
import { directory, file, type MockNode, mockFileSystem, symlink } from './mock-filesystem.js'

/** The text of a configuration in test/fixtures/boot. */
export const bootFixture = (name: string): string =>
  readFileSync(new URL(`../fixtures/boot/${name}`, import.meta.url), 'utf8')

/** Files by path; `-> target` is a symlink, a path with `/` at its end an empty directory. */
export type MediumFiles = Readonly<Record<string, string | Uint8Array | MockNode>>

/** A filesystem of these files. The type decides whether loaders fold case. */
export const medium = (files: MediumFiles, type = 'iso9660', label = 'LIVE'): FileSystem => {
  const tree = new Map<string, Map<string, MockNode>>([['', new Map()]])
  const folder = (path: string): Map<string, MockNode> => {
    const known = tree.get(path)
    if (known) return known
    const made = new Map<string, MockNode>()
    tree.set(path, made)
    const at = path.lastIndexOf('/')
    folder(path.slice(0, at)).set(path.slice(at + 1), { kind: 'directory', entries: made as never })
    return made
  }
  for (const [path, content] of Object.entries(files)) {
    const at = path.lastIndexOf('/')
    const above = folder(path.slice(0, at))
    if (path.endsWith('/')) continue
    const node =
      typeof content === 'string' && content.startsWith('-> ')
        ? symlink(content.slice(3))
        : typeof content === 'string' || content instanceof Uint8Array
          ? file(content)
          : content
    above.set(path.slice(at + 1), node)
  }
  const built = (entries: Map<string, MockNode>): MockNode =>
    directory(
      [...entries].map(([name, node]): [string, MockNode] => [
        name,
        (node.entries as unknown) instanceof Map ? built(node.entries as never) : node,
      ]),
    )
  return { ...mockFileSystem(built(tree.get('')!)), type, label }
}

const MODULES = { '/vesamenu.c32': 'c32', '/menu.c32': 'c32' }

/** Names of the files below a directory. */
export const below = (path: string, files: MediumFiles): MediumFiles =>
  Object.fromEntries(Object.entries(files).map(([name, content]) => [`${path}${name}`, content]))

const kernels = (...paths: readonly string[]): MediumFiles => Object.fromEntries(paths.map(path => [path, 'kernel']))

/** Fedora 7: isolinux only. */
export const fedora7 = (): FileSystem =>
  medium({
    ...below('/isolinux', {
      ...MODULES,
      ...kernels('/vmlinuz0', '/initrd0.img', '/memtest'),
      '/isolinux.cfg': bootFixture('f7-isolinux.cfg'),
    }),
    '/LiveOS/squashfs.img': 'hsqs',
  })

/** Fedora 17: isolinux, and GRUB legacy for EFI. */
export const fedora17 = (): FileSystem =>
  medium({
    ...below('/isolinux', { ...MODULES, ...kernels('/vmlinuz0', '/initrd0.img') }),
    '/EFI/BOOT/BOOTX64.conf': bootFixture('f17-BOOTX64.conf'),
    '/EFI/BOOT/BOOTX64.EFI': 'MZ',
  })

/** Fedora 36: isolinux and GRUB 2 for EFI, which litd copies to BOOT.conf. */
export const fedora36 = (): FileSystem =>
  medium({
    ...below('/isolinux', {
      ...MODULES,
      ...kernels('/vmlinuz', '/initrd.img', '/memtest'),
      '/isolinux.cfg': bootFixture('f36-isolinux.cfg'),
    }),
    ...kernels('/images/pxeboot/vmlinuz', '/images/pxeboot/initrd.img'),
    '/EFI/BOOT/grub.cfg': bootFixture('f36-grub.cfg'),
    '/EFI/BOOT/BOOT.conf': bootFixture('f36-grub.cfg'),
  })

/** Fedora 38 to 41: GRUB 2 for both firmwares. */
export const fedora40 = (): FileSystem =>
  medium({
    ...kernels('/images/pxeboot/vmlinuz', '/images/pxeboot/initrd.img', '/images/eltorito.img'),
    '/EFI/BOOT/grub.cfg': bootFixture('f40-grub.cfg'),
    '/boot/grub2/grub.cfg': bootFixture('f40-grub.cfg'),
    '/boot/grub2/i386-pc/normal.mod': 'mod',
  })

/** Fedora 42 and later, made by kiwi. */
export const fedora42 = (): FileSystem =>
  medium({
    ...kernels('/boot/x86_64/loader/linux', '/boot/x86_64/loader/initrd', '/boot/0x1f2e3d4c'),
    '/EFI/BOOT/grub.cfg': bootFixture('f42-efi-grub.cfg'),
    '/EFI/BOOT/bootx64.efi': 'MZ',
    '/boot/grub2/grub.cfg': bootFixture('f42-grub.cfg'),
    '/boot/grub2/i386-pc/normal.mod': 'mod',
  })

/** A SoaS stick of livecd-iso-to-disk, FAT, its names in capitals. */
export const soasStick = (): FileSystem =>
  medium(
    {
      ...below('/syslinux', {
        ...kernels('/VMLINUZ', '/INITRD.IMG'),
        '/VESAMENU.C32': 'c32',
        '/SYSLINUX.CFG': bootFixture('litd-syslinux.cfg'),
      }),
      ...kernels('/images/pxeboot/vmlinuz', '/images/pxeboot/initrd.img'),
      '/EFI/BOOT/grub.cfg': bootFixture('f36-grub.cfg'),
    },
    'vfat',
    'SOAS',
  )

/** A stick with two images. */
export const multiStick = (): FileSystem =>
  medium(
    {
      ...below('/syslinux', { ...MODULES, ...kernels('/vmlinuz', '/initrd.img') }),
      '/syslinux/syslinux.cfg': bootFixture('multi-syslinux.cfg'),
      ...below('/F39/syslinux', { ...MODULES, ...kernels('/vmlinuz', '/initrd.img') }),
      '/F39/syslinux/syslinux.cfg': bootFixture('multi-inner-syslinux.cfg'),
      '/F39/squashfs.img': 'hsqs',
      '/LiveOS/squashfs.img': 'hsqs',
    },
    'vfat',
  )

/** Debian live. */
export const debianLive = (): FileSystem =>
  medium({
    ...below('/isolinux', {
      ...MODULES,
      '/isolinux.cfg': bootFixture('debian-isolinux.cfg'),
      '/menu.cfg': bootFixture('debian-menu.cfg'),
      '/live.cfg': bootFixture('debian-live.cfg'),
    }),
    ...kernels('/live/vmlinuz-6.1.0-18-amd64', '/live/initrd.img-6.1.0-18-amd64'),
    '/boot/grub/grub.cfg': bootFixture('debian-grub.cfg'),
    '/boot/grub/config.cfg': bootFixture('debian-config.cfg'),
    '/boot/grub/theme.cfg': 'set color_normal=light-gray/black\n',
    ...kernels('/install/gtk/vmlinuz', '/install/gtk/initrd.gz', '/boot/grub/x86_64-efi/normal.mod'),
  })

/** Every layout by name. */
export const LAYOUTS: Readonly<Record<string, () => FileSystem>> = {
  fedora7,
  fedora17,
  fedora36,
  fedora40,
  fedora42,
  soasStick,
  multiStick,
  debianLive,
}
