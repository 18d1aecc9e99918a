import { spawn } from 'node:child_process'
import { constants } from 'node:fs'
import { access, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { LiveError } from '../error.js'
import { findTool } from './process.js'
import { openTemporary } from './temporary.js'

/** The emulator of the computers that live sticks are made for. */
export const QEMU = 'qemu-system-x86_64'

/** Path of the emulator. @throws NOT_FOUND  it is not installed */
export const findQemu = async (): Promise<string> => {
  const path = await findTool(QEMU)
  if (path) return path
  const [debian, fedora] = ['qemu-system-x86', 'qemu-system-x86-core']
  throw new LiveError(
    'NOT_FOUND',
    `${QEMU} is not installed: install the package ${debian} (Debian, Ubuntu) or ${fedora} (Fedora)`,
    { tool: QEMU, package: debian },
  )
}

interface Heard {
  /** null where it was killed */
  readonly code: number | null
  readonly stdout: string
}

/** Runs the emulator for a moment; it is killed when that has passed. */
const ask = (path: string, args: readonly string[], milliseconds: number): Promise<Heard> =>
  new Promise(resolve => {
    const child = spawn(path, [...args], { stdio: ['ignore', 'pipe', 'ignore'], env: { ...process.env, LC_ALL: 'C' } })
    const late = setTimeout(() => child.kill('SIGKILL'), milliseconds)
    let stdout = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    const end = (code: number | null): void => {
      clearTimeout(late)
      resolve({ code, stdout })
    }
    child.on('error', () => end(null))
    child.on('close', end)
  })

const FIRMWARE_SIZE = 65536
/** where a processor begins, from the end of the firmware */
const RESET_VECTOR = FIRMWARE_SIZE - 16
const EXIT_PORT = 0xf4
/** the device of that port ends the emulator with twice the byte plus one */
const SAID = 0x10
const PROBE_MS = 5000

/**
 * Whether KVM runs a processor here. That /dev/kvm can be opened says little: inside some virtual machines it is there and
 * runs nothing. So a firmware of three instructions is tried, which takes a tenth of a second.
 */
export const kvmWorks = async (qemu: string): Promise<boolean> => {
  if (process.platform !== 'linux' || process.arch !== 'x64') return false
  try {
    await access('/dev/kvm', constants.R_OK | constants.W_OK)
  } catch {
    return false
  }
  const folder = await openTemporary('kvm')
  try {
    const firmware = new Uint8Array(FIRMWARE_SIZE)
    // mov al, SAID; out EXIT_PORT, al; jmp to itself
    firmware.set([0xb0, SAID, 0xe6, EXIT_PORT, 0xeb, 0xfe], RESET_VECTOR)
    const path = join(folder.path, 'firmware')
    await writeFile(path, firmware)
    const machine = ['-machine', 'q35', '-accel', 'kvm', '-cpu', 'host', '-m', '32', '-nodefaults', '-no-user-config']
    const exit = ['-device', `isa-debug-exit,iobase=${EXIT_PORT},iosize=1`]
    const { code } = await ask(qemu, [...machine, '-display', 'none', '-bios', path, ...exit], PROBE_MS)
    return code === SAID * 2 + 1
  } finally {
    await folder.remove()
  }
}

/** Windows that the emulator can open here, best first. */
const WINDOWS = process.platform === 'darwin' ? ['cocoa'] : ['gtk', 'sdl']

/** The window it would open, or why it can open none. */
export const findWindow = async (
  qemu: string,
): Promise<{ readonly window: string } | { readonly why: string; readonly remedy?: string }> => {
  const { DISPLAY, WAYLAND_DISPLAY } = process.env
  if (process.platform === 'linux' && !DISPLAY && !WAYLAND_DISPLAY)
    return { why: 'there is no screen here to open a window on' }
  const { stdout } = await ask(qemu, ['-display', 'help'], PROBE_MS)
  const known = stdout.split('\n').map(line => line.trim())
  const found = WINDOWS.find(name => known.includes(name))
  if (found !== undefined) return { window: found }
  return {
    why: `${QEMU} can open no window`,
    remedy: 'install the package qemu-system-gui (Debian, Ubuntu) or qemu-ui-gtk (Fedora)',
  }
}

/** A UEFI firmware. */
export interface Firmware {
  readonly code: string
  /** template of the variables, which is copied for each machine; undefined where `code` is both in one */
  readonly variables: string | undefined
}

/** Where Debian, Ubuntu, Fedora, Arch, openSUSE and Homebrew put OVMF without secure boot, the larger variables first. */
const FIRMWARES: readonly Firmware[] = [
  ['/usr/share/OVMF/OVMF_CODE_4M.fd', '/usr/share/OVMF/OVMF_VARS_4M.fd'],
  ['/usr/share/OVMF/OVMF_CODE.fd', '/usr/share/OVMF/OVMF_VARS.fd'],
  ['/usr/share/edk2/ovmf/OVMF_CODE.fd', '/usr/share/edk2/ovmf/OVMF_VARS.fd'],
  ['/usr/share/edk2/x64/OVMF_CODE.4m.fd', '/usr/share/edk2/x64/OVMF_VARS.4m.fd'],
  ['/usr/share/edk2-ovmf/x64/OVMF_CODE.fd', '/usr/share/edk2-ovmf/x64/OVMF_VARS.fd'],
  ['/usr/share/qemu/ovmf-x86_64-code.bin', '/usr/share/qemu/ovmf-x86_64-vars.bin'],
  ['/opt/homebrew/share/qemu/edk2-x86_64-code.fd', '/opt/homebrew/share/qemu/edk2-i386-vars.fd'],
  ['/usr/local/share/qemu/edk2-x86_64-code.fd', '/usr/local/share/qemu/edk2-i386-vars.fd'],
  ['/usr/share/qemu/edk2-x86_64-code.fd', '/usr/share/qemu/edk2-i386-vars.fd'],
  ['/usr/share/ovmf/OVMF.fd', undefined],
  ['/usr/share/qemu/OVMF.fd', undefined],
].map(([code, variables]) => ({ code: code!, variables }))

const isThere = (path: string): Promise<boolean> =>
  access(path, constants.R_OK).then(
    () => true,
    () => false,
  )

/** The UEFI firmware of this computer's packages. @throws NOT_FOUND  it is not installed */
export const findFirmware = async (candidates: readonly Firmware[] = FIRMWARES): Promise<Firmware> => {
  for (const firmware of candidates)
    if ((await isThere(firmware.code)) && (firmware.variables === undefined || (await isThere(firmware.variables))))
      return firmware
  throw new LiveError(
    'NOT_FOUND',
    'no UEFI firmware for the machine is installed: install the package ovmf (Debian, Ubuntu) or edk2-ovmf (Fedora), or boot with --firmware bios',
    { package: 'ovmf' },
  )
}

/** A value inside an option of the emulator, where a comma ends it unless there are two. */
export const optionValue = (text: string): string => text.replaceAll(',', ',,')
