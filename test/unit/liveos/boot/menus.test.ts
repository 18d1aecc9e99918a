import { expect, it } from 'vitest'
import { corrupt } from '../../../../src/error.js'
import type { FileSystem } from '../../../../src/fs/filesystem.js'
import { missingFiles } from '../../../../src/liveos/boot/config.js'
import { defaultEntries, type MenuEntry, menusOf, namedEntry } from '../../../../src/liveos/boot/menus.js'
import type { Volume } from '../../../../src/liveos/source.js'
import { type MediumFiles, medium } from '../../../support/boot-media.js'

const LIVE = 'root=live:UUID=1A2B-3C4D rd.live.image'
const KERNELS: MediumFiles = { '/boot/vmlinuz': 'kernel', '/boot/initrd.img': 'initrd' }

const volumeOf = (number: number, typeName: string, fs: FileSystem): Volume => ({
  name: `partition ${number}`,
  partition: {
    number,
    role: 'primary',
    start: number << 20,
    length: 1 << 20,
    type: 'x',
    typeName,
    name: undefined,
    uuid: undefined,
    active: false,
    legacyBoot: false,
  },
  device: undefined,
  type: 'vfat',
  fs,
  failure: undefined,
})

const data = (files: MediumFiles): Volume => volumeOf(1, 'Linux filesystem', medium(files, 'vfat'))
const esp = (grub: string): Volume => volumeOf(2, 'EFI System', medium({ '/EFI/BOOT/grub.cfg': grub }, 'vfat'))

const grubEntry = (title: string, kernel = '/boot/vmlinuz', words = LIVE): string =>
  `menuentry '${title}' {\n  linux ${kernel} ${words}\n  initrd /boot/initrd.img\n}\n`
const syslinux = (title: string): string =>
  `default live\nlabel live\n  menu label ${title}\n  kernel /boot/vmlinuz\n  append initrd=/boot/initrd.img ${LIVE}\n`

const missingOf = (entries: readonly MenuEntry[]) =>
  Object.fromEntries(entries.map(({ entry }) => [entry.title, missingFiles(entry)]))

it.each([
  ['a search', 'search --no-floppy --set=root -u 1A2B-3C4D\n', '/boot/vmlinuz'],
  ['a root that is set', 'set root=(hd0,gpt1)\n', '/boot/vmlinuz'],
  ['a device in the path', '', '(hd0,gpt1)/boot/vmlinuz'],
])('finds the kernel of an EFI menu on another partition, where %s leads to it', async (_, before, kernel) => {
  const menu = `${before}${grubEntry('there', kernel)}${grubEntry('gone', kernel.replace('vmlinuz', 'old'))}`
  const { entries, findings } = await menusOf([data(KERNELS), esp(menu)])
  expect(missingOf(entries)).toEqual({ there: [], gone: ['/boot/old'] })
  expect(findings.map(({ code }) => code)).toEqual(['BOOT_KERNEL_MISSING'])
})

it('does not look elsewhere for what a loader takes from its own partition', async () => {
  const menu = grubEntry('by GRUB')
  const own = volumeOf(3, 'Linux filesystem', medium({ '/syslinux/syslinux.cfg': syslinux('by SYSLINUX') }, 'vfat'))
  const { entries } = await menusOf([data(KERNELS), esp(menu), own])
  const both = ['/boot/vmlinuz', '/boot/initrd.img']
  expect(missingOf(entries)).toEqual({ 'by GRUB': both, 'by SYSLINUX': both })
})

it('looks for the files of the menus of one partition on all of the medium', async () => {
  const [live, loader] = [data(KERNELS), esp(`search --set=root -l LIVE\n${grubEntry('there')}`)]
  expect(missingOf((await menusOf([loader], [live, loader])).entries)).toEqual({ there: [] })
})

it('takes nothing for missing while another partition can not be read', async () => {
  const fails = corrupt({ device: 'stick', offset: 0, field: 'inode', expected: 'a link', found: 'none' })
  const broken = data({ '/boot': { kind: 'symlink', fails } })
  const { entries } = await menusOf([broken, esp(`search --set=root -l LIVE\n${grubEntry('perhaps')}`)])
  expect(missingOf(entries)).toEqual({ perhaps: [] })
})

const titles = (entries: readonly MenuEntry[]) =>
  defaultEntries({ entries }).map(({ entry, starts }) => `${entry.title}: ${starts.join(' ')}`)

it('BIOS comes to SYSLINUX, UEFI to the EFI system partition, in whatever order they lie', async () => {
  const live = data({
    ...KERNELS,
    '/syslinux/syslinux.cfg': syslinux('of SYSLINUX'),
    '/EFI/BOOT/grub.cfg': grubEntry('of the copy'),
    '/boot/grub2/grub.cfg': grubEntry('of BIOS GRUB'),
  })
  const loader = esp(`search --set=root -l LIVE\n${grubEntry('of the ESP')}`)
  for (const volumes of [
    [live, loader],
    [loader, live],
  ])
    expect(titles((await menusOf(volumes)).entries)).toEqual(['of SYSLINUX: bios', 'of the ESP: uefi'])
  expect(titles((await menusOf([live])).entries)).toEqual(['of SYSLINUX: bios', 'of the copy: uefi'])
})

it('of two menus of one path the first partition counts', async () => {
  const of = (number: number) =>
    volumeOf(number, 'Linux filesystem', medium({ ...KERNELS, '/EFI/BOOT/grub.cfg': grubEntry(`on ${number}`) }))
  for (let count = 2; count < 6; count++) {
    const volumes = Array.from({ length: count }, (_, index) => of(index + 1))
    expect(titles((await menusOf(volumes)).entries)).toEqual(['on 1: uefi'])
  }
})

it('an entry by its number, its id or its title', async () => {
  const menus = await menusOf([data({ ...KERNELS, '/syslinux/syslinux.cfg': syslinux('Start it') })])
  for (const name of ['1', 'live', 'Start it']) expect(namedEntry(menus, name, 'stick').number).toBe(1)
  expect(() => namedEntry(menus, '2', 'stick')).toThrow('there are: 1 "Start it" (/syslinux/syslinux.cfg)')
  expect(() => namedEntry({ entries: [], findings: [] }, '1', 'stick')).toThrow('--args')
})
