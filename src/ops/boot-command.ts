import { type Firmware, optionValue } from '../host/qemu.js'
import { MONITOR } from '../host/qemu-machine.js'
import { INITRD, KERNEL } from './boot-entry.js'

/** The socket of the medium, and the machine's own copy of the firmware's variables, in its folder. */
export const MEDIUM_SOCKET = 'medium.sock'
export const VARIABLES = 'uefi-variables.fd'

/** What a machine is made of. */
export interface MachineParts {
  /** what its window is called */
  readonly title: string
  readonly accelerator: 'kvm' | 'tcg'
  /** bytes */
  readonly memory: number
  readonly cpus: number
  /** undefined: the emulator's own BIOS */
  readonly uefi: Firmware | undefined
  /** how the medium is plugged in, and whether it can be written */
  readonly medium: 'usb' | 'cd'
  readonly writesTo: 'none' | 'scratch' | 'stick'
  /** name of the emulator's window, or a console in text */
  readonly screen: string
  readonly network: boolean
  /** a direct start, without the boot menu */
  readonly kernel: { readonly commandLine: string; readonly initrd: boolean } | undefined
}

/**
 * A processor of x86-64-v3, which some distributions ask for, without what is not emulated. With `max` systemd of Debian 12 can
 * make no mount namespaces under QEMU 7.2, and so starts no udev.
 */
const CPU = { kvm: 'host', tcg: 'Haswell-noTSX,pcid=off,x2apic=off,tsc-deadline=off,invpcid=off' } as const

/** A name that a window can show. */
const shown = (text: string): string => text.replace(/\p{Cc}/gu, '?')

/**
 * The emulator's arguments. Files are named relative to the machine's folder, so no name of the user's is among them but the
 * title, whose commas are doubled.
 *
 * @see https://www.qemu.org/docs/master/system/invocation.html
 */
export const machineArguments = (parts: MachineParts): string[] => {
  const { accelerator, uefi, medium, writesTo, screen, kernel } = parts
  const serial = screen === 'serial'
  const words = ['-nodefaults', '-no-user-config']
  words.push('-name', `guest=${optionValue(`liveos boot ${shown(parts.title)}`)}`)
  // Without graphics SeaBIOS shows its own and the loader's text on the serial line.
  words.push('-machine', `q35,graphics=${serial ? 'off' : 'on'}`, '-accel', accelerator, '-cpu', CPU[accelerator])
  words.push('-m', `${Math.round(parts.memory / 2 ** 20)}M`, '-smp', String(parts.cpus))
  if (uefi?.variables !== undefined) {
    words.push('-drive', `if=pflash,unit=0,format=raw,readonly=on,file=${optionValue(uefi.code)}`)
    words.push('-drive', `if=pflash,unit=1,format=raw,file=${VARIABLES}`)
  } else if (uefi) words.push('-bios', uefi.code)
  const readOnly = writesTo === 'none' ? 'on' : 'off'
  // What is thrown away needs no flush.
  const flush = writesTo === 'scratch' ? ',cache.no-flush=on' : ''
  words.push(
    '-blockdev',
    `driver=nbd,node-name=medium,server.type=unix,server.path=${MEDIUM_SOCKET},read-only=${readOnly}${flush}`,
  )
  words.push('-device', 'qemu-xhci,id=usb')
  // Index 0 is that of a kernel started directly.
  if (medium === 'cd') words.push('-device', 'ide-cd,drive=medium,bootindex=1')
  else words.push('-device', 'usb-storage,bus=usb.0,drive=medium,removable=on,bootindex=1')
  words.push('-device', 'virtio-rng-pci')
  words.push('-nic', parts.network ? 'user,model=e1000e' : 'none')
  words.push('-vga', 'std', '-display', serial ? 'none' : screen)
  if (serial)
    words.push('-chardev', 'stdio,id=console,mux=on,signal=off', '-serial', 'chardev:console', '-mon', 'console')
  else words.push('-device', 'usb-tablet,bus=usb.0')
  words.push('-qmp', `unix:${MONITOR},server=on,wait=off`)
  if (kernel)
    words.push('-kernel', KERNEL, ...(kernel.initrd ? ['-initrd', INITRD] : []), '-append', kernel.commandLine)
  return words
}
