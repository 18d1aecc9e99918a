import { mkdir, readdir, readFile } from 'node:fs/promises'
import { expect, it } from 'vitest'
import type { Source, Volume } from '../../../src/liveos/source.js'
import { type BootMenus, bootMenus, entryOf, type NumberedEntry, takeEntry } from '../../../src/ops/boot-entry.js'
import { directory, file, type MockNode, mockFileSystem, symlink } from '../../support/mock-filesystem.js'
import { failure } from '../../support/outcome.js'
import { temporary } from '../../support/temporary.js'

const path = temporary()

const sourceOf = (...roots: readonly MockNode[]): Source => {
  const volumes = roots.map(
    (root): Volume => ({
      name: 'stick',
      partition: undefined,
      device: undefined,
      type: 'ext4',
      fs: mockFileSystem(root),
      failure: undefined,
    }),
  )
  return {
    name: 'stick',
    kind: 'image',
    device: undefined,
    table: undefined,
    tableFailure: undefined,
    volumes,
    close: async () => undefined,
  }
}

const MENU = `default second
label first
  kernel /boot/vmlinuz
  append initrd=/boot/one,/boot/two root=live:LABEL=A
label menu
  config /other.cfg
label second
  kernel /boot/link
  append quiet
label lost
  kernel /boot/missing
`

const STICK = directory({
  boot: directory({
    vmlinuz: file('kernel'),
    link: symlink('vmlinuz'),
    one: file('12345'),
    two: file('6789'),
  }),
  syslinux: directory({ 'syslinux.cfg': file(MENU) }),
})

const menusOf = (): Promise<BootMenus> => bootMenus(sourceOf(STICK))

it('numbers what starts a kernel', async () => {
  const menus = await menusOf()
  expect(menus.entries.map(({ number, title, isDefault }) => [number, title, isDefault])).toEqual([
    [1, 'first', false],
    [2, 'second', true],
    [3, 'lost', false],
  ])
  expect(menus).toMatchObject({ bios: true, uefi: false })
})

it('names the numbers there are', async () => {
  const menus = await menusOf()
  expect(entryOf(menus, 2, 'stick')).toBe(menus.entries[1])
  for (const number of [0, 4, 1.5, -1]) expect(() => entryOf(menus, number, 'stick')).toThrow('1 to 3')
  expect(() => entryOf(menus, 3, 'stick')).toThrow(
    'entry 3 "lost" (/syslinux/syslinux.cfg:10) can\'t be started: /boot/missing is not there',
  )
  expect(() => entryOf({ ...menus, entries: [] }, 1, 'stick')).toThrow('no boot entry')
})

let count = 0
const taken = async (entry: NumberedEntry, source = sourceOf(STICK)): Promise<Record<string, string>> => {
  const folder = await path(`entry${count++}`)
  await mkdir(folder)
  await takeEntry(source, entry, folder)
  const files: Record<string, string> = {}
  for (const name of await readdir(folder)) files[name] = await readFile(`${folder}/${name}`, 'latin1')
  return files
}

it('takes the kernel, over a link too, and the initrds one after another, each where the kernel looks for it', async () => {
  const { entries } = await menusOf()
  expect(await taken(entries[0]!)).toEqual({ kernel: 'kernel', initrd: '12345\0\0\0' + '6789' })
  expect(await taken(entries[1]!)).toEqual({ kernel: 'kernel' })
})

it('tells of a kernel that is not there, and of a name that only the loader can complete', async () => {
  const { entries } = await menusOf()
  const lost = entries[2]!
  expect(await failure(taken(lost), 'NOT_FOUND')).toMatchObject({ message: 'stick has no kernel /boot/missing' })
  const other = { ...lost, number: 9, kernel: '/boot/$prefix/vmlinuz' }
  expect((await failure(taken(other), 'NOT_FOUND')).message).toContain('without --entry')
})

it('takes the files of an entry from another partition, where the loader would', async () => {
  const grub = `search --set=root -l LIVE
menuentry there { linux /boot/vmlinuz quiet
initrd /boot/one }
menuentry gone { linux /boot/old
initrd /boot/one }
`
  const esp = directory({ EFI: directory({ BOOT: directory({ 'grub.cfg': file(grub) }) }) })
  const data = directory({ boot: directory({ vmlinuz: file('kernel'), one: file('1234') }) })
  const source = sourceOf(esp, data)
  const menus = await bootMenus(source)
  expect(await taken(entryOf(menus, 1, 'stick'), source)).toEqual({ kernel: 'kernel', initrd: '1234' })
  expect(() => entryOf(menus, 2, 'stick')).toThrow("(/EFI/BOOT/grub.cfg:4) can't be started: /boot/old is not there")
})
