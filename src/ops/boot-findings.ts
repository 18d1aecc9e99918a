import type { Finding } from '../finding.js'
import type { findWindow } from '../host/qemu.js'
import { notThere } from '../liveos/boot/config.js'
import type { Source } from '../liveos/source.js'
import type { BootPlan } from './boot.js'
import type { BootMenus } from './boot-entry.js'

type NoWindow = Extract<Awaited<ReturnType<typeof findWindow>>, { readonly why: string }>

/** What there is to know of a test-drive before it is started. @param noWindow  where one was wanted and none can be opened */
export const bootFindings = (
  plan: Omit<BootPlan, 'findings' | 'command'>,
  { table }: Source,
  { missing }: BootMenus,
  noWindow: NoWindow | undefined,
): Finding[] => {
  const found: Finding[] = []
  const { medium, entry, entries, serial, accelerator, firmware, target: where } = plan
  if (medium.mounted.length > 0)
    found.push({
      code: 'BOOT_MOUNTED',
      severity: 'warning',
      where,
      message: `${medium.path} is mounted (${medium.mounted.join(', ')}): what is written there meanwhile, the machine may see in part`,
      remedy: 'unmount it for a test that counts',
    })
  if (entries.length === 0)
    found.push({
      code: 'BOOT_NO_MENU',
      severity: 'warning',
      where,
      message: `no boot menu that starts a kernel was found on ${medium.path}: the firmware may find nothing to start`,
    })
  for (const [number, { paths, place }] of missing)
    found.push({
      code: 'BOOT_FILES_MISSING',
      severity: 'warning',
      where: `${place.path}:${place.line}`,
      message: `entry ${number} can't be started: ${notThere(paths)}`,
    })
  if (noWindow)
    found.push({
      code: 'BOOT_NO_WINDOW',
      severity: 'note',
      where,
      message: `${noWindow.why}: the console in text is taken, as by --serial`,
      ...(noWindow.remedy === undefined ? {} : { remedy: noWindow.remedy }),
    })
  if (accelerator === 'tcg')
    found.push({
      code: 'BOOT_SLOW',
      severity: 'note',
      where,
      message: 'no KVM here: every instruction is emulated, and starting takes minutes',
    })
  if (serial && !entry)
    found.push({
      code: 'BOOT_SERIAL_MENU',
      severity: 'note',
      where,
      message: 'the menu shows on the serial console, a system it starts only if its entry says console=ttyS0',
      remedy: '--entry N starts an entry with that added',
    })
  if (!entry && table === undefined && medium.as === 'usb' && firmware === 'bios')
    found.push({
      code: 'BOOT_NO_TABLE',
      severity: 'note',
      where,
      message: `${medium.path} has no partition table: it may be a partition only, which no firmware starts`,
      remedy: '--entry N starts its kernel without one',
    })
  return found
}
