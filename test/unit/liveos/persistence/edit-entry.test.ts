import { describe, expect, it } from 'vitest'
import type { BootConfig } from '../../../../src/liveos/boot/config.js'
import { findBootConfigs } from '../../../../src/liveos/boot/find.js'
import { editEntry } from '../../../../src/liveos/persistence/edit-entry.js'
import { bootFixture, medium } from '../../../support/boot-media.js'
import { failure } from '../../../support/outcome.js'

const CHANGES = [{ set: 'rd.live.overlay', value: 'UUID=1A2B-3C4D:/LiveOS/overlay' }]
const ADDED = 'rd.live.overlay=UUID=1A2B-3C4D:/LiveOS/overlay'

const configOf = async (path: string, text: string): Promise<BootConfig> => {
  const [config] = await findBootConfigs(medium({ [path]: text }))
  return config!
}

describe('editEntry', () => {
  it.each([
    ['/EFI/BOOT/grub.cfg', 'f40-grub.cfg'],
    ['/boot/grub2/grub.cfg', 'f42-grub.cfg'],
    ['/isolinux/isolinux.cfg', 'f36-isolinux.cfg'],
    ['/syslinux/syslinux.cfg', 'litd-syslinux.cfg'],
    ['/EFI/BOOT/BOOTX64.conf', 'f17-BOOTX64.conf'],
  ])('changes every live entry of %s (%s), and no other line', async (path, fixture) => {
    const text = bootFixture(fixture)
    const config = await configOf(path, text)
    const live = config.entries.filter(({ kind }) => kind === 'live')
    expect(live.length).toBeGreaterThan(0)
    let after = text
    for (const entry of [...live].reverse()) after = editEntry(config.kind, after, entry, CHANGES)
    const [before, now] = [text.split('\n'), after.split('\n')]
    expect(now).toHaveLength(before.length)
    const changed = now.filter((line, n) => line !== before[n])
    expect(changed).toHaveLength(live.length)
    for (const line of changed) expect(line).toContain(ADDED)
    const again = await configOf(path, after)
    for (const entry of again.entries.filter(({ kind }) => kind === 'live'))
      expect(entry.arguments.some(({ raw }) => raw === ADDED)).toBe(true)
  })

  it('gives a label that inherits its arguments some of its own', async () => {
    const text = 'append root=live:LABEL=X rd.live.image\nlabel a\n  kernel /vmlinuz\n  initrd /initrd.img\n'
    const config = await configOf('/syslinux/syslinux.cfg', text)
    const after = editEntry(config.kind, text, config.entries[0]!, CHANGES)
    const [entry] = (await configOf('/syslinux/syslinux.cfg', after)).entries
    expect(entry?.commandLine).toContain(`root=live:LABEL=X rd.live.image`)
    expect(entry?.commandLine).toContain(ADDED)
  })

  it('refuses a text that has changed', async () => {
    const text = bootFixture('f40-grub.cfg')
    const config = await configOf('/EFI/BOOT/grub.cfg', text)
    const edit = async (): Promise<string> => editEntry(config.kind, `#\n${text}`, config.entries[0]!, CHANGES)
    await failure(edit(), 'REFUSED')
  })
})
