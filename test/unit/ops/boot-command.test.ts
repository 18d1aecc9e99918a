import { expect, it } from 'vitest'
import { type MachineParts, machineArguments } from '../../../src/ops/boot-command.js'

const PARTS: MachineParts = {
  title: 'stick.img',
  accelerator: 'tcg',
  memory: 2 ** 30,
  cpus: 1,
  uefi: undefined,
  medium: 'usb',
  writesTo: 'scratch',
  screen: 'gtk',
  network: false,
  kernel: undefined,
}

/** What follows an option, each time that it is given. */
const valuesOf = (words: readonly string[], option: string): string[] =>
  words.flatMap((word, index) => (word === option ? [words[index + 1]!] : []))

it('keeps the user’s name inside the title, whatever is in it', () => {
  const words = machineArguments({ ...PARTS, title: 'a,process=x\n\u001b[31m -drive file=/etc/shadow' })
  expect(valuesOf(words, '-name')).toEqual(['guest=liveos boot a,,process=x??[31m -drive file=/etc/shadow'])
  expect(words.filter(word => word.includes('shadow'))).toHaveLength(1)
})

it('asks for no flush where writes are thrown away, and only there', () => {
  const medium = (writesTo: MachineParts['writesTo']): string =>
    valuesOf(machineArguments({ ...PARTS, writesTo }), '-blockdev')[0]!
  expect(medium('scratch')).toMatch(/read-only=off,cache\.no-flush=on$/)
  expect(medium('stick')).toMatch(/read-only=off$/)
  expect(medium('none')).toMatch(/read-only=on$/)
})

it('puts a CD in as one and a stick into USB', () => {
  expect(machineArguments({ ...PARTS, medium: 'cd', writesTo: 'none' }).join(' ')).toContain('ide-cd,drive=medium')
  expect(machineArguments(PARTS).join(' ')).toContain('usb-storage,bus=usb.0,drive=medium,removable=on')
})

it('gives the machine no network unless it is to have one', () => {
  expect(valuesOf(machineArguments(PARTS), '-nic')).toEqual(['none'])
  expect(valuesOf(machineArguments({ ...PARTS, network: true }), '-nic')).toEqual(['user,model=e1000e'])
})

it('starts a kernel with its words as one argument, and an initrd where there is one', () => {
  const kernel = { commandLine: 'root=live:LABEL=A,B quiet -drive x', initrd: true }
  const words = machineArguments({ ...PARTS, kernel })
  expect(words.slice(words.indexOf('-kernel'))).toEqual([
    '-kernel',
    'kernel',
    '-initrd',
    'initrd',
    '-append',
    kernel.commandLine,
  ])
  expect(machineArguments({ ...PARTS, kernel: { ...kernel, initrd: false } })).not.toContain('-initrd')
  expect(machineArguments(PARTS)).not.toContain('-kernel')
})

it('gives UEFI its code read-only and variables of the machine’s own', () => {
  const split = { code: '/usr/share/o,vmf/CODE.fd', variables: '/usr/share/o,vmf/VARS.fd' }
  const drives = valuesOf(machineArguments({ ...PARTS, uefi: split }), '-drive')
  expect(drives).toEqual([
    'if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/o,,vmf/CODE.fd',
    'if=pflash,unit=1,format=raw,file=uefi-variables.fd',
  ])
  const whole = machineArguments({ ...PARTS, uefi: { code: '/usr/share/OVMF.fd', variables: undefined } })
  expect(valuesOf(whole, '-bios')).toEqual(['/usr/share/OVMF.fd'])
})

it('has a console on a serial line, where SeaBIOS speaks too, or a window with a mouse', () => {
  const serial = machineArguments({ ...PARTS, screen: 'serial' })
  expect(valuesOf(serial, '-display')).toEqual(['none'])
  expect(valuesOf(serial, '-machine')).toEqual(['q35,graphics=off'])
  expect(serial.join(' ')).toContain('-serial chardev:console')
  const window = machineArguments(PARTS)
  expect(valuesOf(window, '-display')).toEqual(['gtk'])
  expect(window.join(' ')).toContain('usb-tablet')
  expect(window).not.toContain('-serial')
})
