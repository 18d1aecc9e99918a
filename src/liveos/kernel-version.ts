import { createGunzip } from 'node:zlib'
import type { Device } from '../block/device.js'
import { cursor } from '../bytes/cursor.js'
import { isLiveError } from '../error.js'
import type { FileSystem } from '../fs/filesystem.js'
import { follow } from './boot/follow.js'

/*
 * x86 boot header               arm64 Image                 EFI zboot
 * 0x1fe u16  boot_flag aa55     0x00 u32 code0 ("MZ")       0x00     "MZ"
 * 0x202 u32  header "HdrS"      0x38 u32 magic "ARM\x64"    0x04     "zimg"
 * 0x206 u16  version                                        0x08 u32 payload offset
 * 0x20e u16  kernel_version                                 0x0c u32 payload size
 *            (string at + 0x200)                            0x18     compression, NUL
 * 0x236 u16  xloadflags, bit 0 = 64 bit (version >= 0x20c)
 *
 * Documentation/arch/x86/boot.rst, Documentation/arch/arm64/booting.rst, drivers/firmware/efi/libstub/zboot-header.S
 */

/** What a kernel's file says of the kernel. */
export interface KernelVersion {
  readonly format: 'bzImage' | 'arm64 Image' | 'EFI zboot' | 'gzip' | 'ELF'
  /** as `uname -r` says, such as `6.5.6-300.fc39.x86_64`; undefined where it can't be read */
  readonly version: string | undefined
  /** the whole text that the version begins */
  readonly description: string | undefined
  /** as `uname -m` says; undefined where the header does not tell */
  readonly architecture: string | undefined
}

const HEAD = 0x1000
/** bytes of a kernel that are searched, and a version's length, at most */
const MAX_IMAGE = 128 << 20
const MAX_TEXT = 512
const CHUNK = 1 << 20
const BANNER = 'Linux version '

const ascii = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
const u16 = (bytes: Uint8Array, offset: number): number =>
  bytes.length >= offset + 2 ? bytes[offset]! | (bytes[offset + 1]! << 8) : 0

/** Machines of ELF and of PE, by the name that `uname -m` gives them. */
const ELF_MACHINES: Readonly<Record<number, string>> = {
  3: 'i386',
  8: 'mips',
  20: 'ppc',
  21: 'ppc64',
  22: 's390x',
  40: 'arm',
  62: 'x86_64',
  183: 'aarch64',
  243: 'riscv64',
  258: 'loongarch64',
}
const PE_MACHINES: Readonly<Record<number, string>> = {
  332: 'i386',
  512: 'ia64',
  450: 'arm',
  452: 'arm',
  34404: 'x86_64',
  43620: 'aarch64',
  20530: 'riscv32',
  20580: 'riscv64',
  25188: 'loongarch64',
}

const machineOf = (head: Uint8Array): string | undefined => {
  if (ascii(head.subarray(0, 4)) === '\x7fELF' && head.length >= 20) {
    const big = head[5] === 2
    const machine = big ? (head[18]! << 8) | head[19]! : u16(head, 18)
    const name = ELF_MACHINES[machine]
    if (name === 'ppc64' && !big) return 'ppc64le'
    if (name === 'riscv64' && head[4] === 1) return 'riscv32'
    return name
  }
  if (ascii(head.subarray(0, 2)) !== 'MZ' || head.length < 0x40) return undefined
  const at = cursor(head, { device: 'PE', base: 0 })
  at.skip(0x3c)
  const offset = at.u32('e_lfanew')
  if (offset + 6 > head.length || ascii(head.subarray(offset, offset + 4)) !== 'PE\0\0') return undefined
  return PE_MACHINES[u16(head, offset + 4)]
}

const headOf = (device: Device): Promise<Uint8Array> => device.read(0, Math.min(HEAD, device.size))

/**
 * The architecture of a program: of an ELF file such as `/usr/bin/bash`, or an EFI one such as `BOOTX64.EFI`, named as
 * `uname -m` does. Undefined for anything else.
 *
 * @throws IO
 */
export const architectureOf = async (device: Device): Promise<string | undefined> => machineOf(await headOf(device))

/** The first word, if it looks like a version of Linux. */
const versionIn = (text: string): string | undefined => /^\d+\.\d+[^\s()]*/.exec(text)?.[0]

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is left out
const CONTROL = /[\u0000-\u001f\u007f-\u009f]+/g

/** Bytes up to the first NUL, as far as they can be shown. */
const cString = (bytes: Uint8Array): string => {
  const end = bytes.indexOf(0)
  const text = ascii(end < 0 ? bytes : bytes.subarray(0, end))
  return text.replace(CONTROL, ' ').trim()
}

/** What a search is given last, so that a banner at the very end has an end. */
const FLUSH = new Uint8Array(MAX_TEXT)

/** Looks for the banner in chunks that come one after another. */
const bannerSearch = (): ((chunk: Uint8Array) => string | undefined) => {
  let kept = Buffer.alloc(0)
  return chunk => {
    const text = Buffer.concat([kept, chunk])
    for (let at = text.indexOf(BANNER); at >= 0; at = text.indexOf(BANNER, at + 1)) {
      const rest = text.subarray(at + BANNER.length, at + BANNER.length + MAX_TEXT)
      if (rest.length < MAX_TEXT && !rest.includes(0)) {
        // Its end may be in the next chunk.
        kept = Buffer.from(text.subarray(at))
        return undefined
      }
      if (versionIn(ascii(rest.subarray(0, 32))) !== undefined) return cString(rest)
    }
    kept = Buffer.from(text.subarray(Math.max(0, text.length - BANNER.length)))
    return undefined
  }
}

/** The banner in the plain bytes of a device. */
const searchPlain = async (device: Device, offset: number, length: number): Promise<string | undefined> => {
  const search = bannerSearch()
  const end = Math.min(device.size, offset + Math.min(length, MAX_IMAGE))
  for (let at = offset; at < end; at += CHUNK) {
    const found = search(await device.read(at, Math.min(CHUNK, end - at)))
    if (found !== undefined) return found
  }
  return search(FLUSH)
}

/** The banner in a gzip file that is a part of a device; undefined also where it is damaged or expands too far. */
const searchGzip = async (device: Device, offset: number, length: number): Promise<string | undefined> => {
  const search = bannerSearch()
  const gunzip = createGunzip({ chunkSize: 1 << 16 })
  let expanded = 0
  let found: string | undefined
  let over = false
  gunzip.on('data', (chunk: Buffer) => {
    expanded += chunk.length
    if (over) return
    found ??= search(chunk)
    over = found !== undefined || expanded > MAX_IMAGE
  })
  const ended = new Promise<void>(resolve => {
    gunzip.on('end', resolve)
    gunzip.on('error', () => resolve())
    gunzip.on('close', resolve)
  }).then(() => {
    over = true
  })
  const end = Math.min(device.size, offset + Math.min(length, MAX_IMAGE))
  try {
    // Small pieces: one may expand a thousandfold before the next look at what was found.
    for (let at = offset; at < end && !over; at += 1 << 16) {
      const piece = await device.read(at, Math.min(1 << 16, end - at))
      if (over) break
      await Promise.race([ended, new Promise<void>(resolve => gunzip.write(piece, () => resolve()))])
    }
    if (!over) {
      gunzip.end()
      await ended
    }
    return found ?? search(FLUSH)
  } finally {
    gunzip.destroy()
  }
}

const told = (
  format: KernelVersion['format'],
  description: string | undefined,
  architecture: string | undefined,
): KernelVersion => {
  const version = description === undefined ? undefined : versionIn(description)
  const suffix = version && /\.(x86_64|i[3-6]86|aarch64|armv7hl|ppc64le|s390x|riscv64)(?:\+\w+)?$/.exec(version)?.[1]
  return { format, version, description, architecture: architecture ?? suffix?.replace(/^i[456]86$/, 'i386') }
}

const bzImage = async (device: Device, head: Uint8Array): Promise<KernelVersion> => {
  const protocol = u16(head, 0x206)
  const pointer = protocol >= 0x200 ? u16(head, 0x20e) : 0
  const at = pointer + 0x200
  const text =
    pointer > 0 && at < device.size ? cString(await device.read(at, Math.min(MAX_TEXT, device.size - at))) : undefined
  const wide = (u16(head, 0x236) & 1) === 1
  // Before protocol 2.12 the header does not tell; the version's ending mostly does.
  return told('bzImage', text === '' ? undefined : text, protocol >= 0x20c ? (wide ? 'x86_64' : 'i386') : undefined)
}

/**
 * What the file of a kernel says: a bzImage of x86, a plain or gzipped Image of arm64, an EFI zboot image.
 *
 * @returns undefined where it is no kernel that is known here
 * @throws IO
 */
export const kernelVersion = async (device: Device): Promise<KernelVersion | undefined> => {
  const head = await headOf(device)
  if (head.length >= 0x238 && ascii(head.subarray(0x202, 0x206)) === 'HdrS') return bzImage(device, head)
  const isMz = ascii(head.subarray(0, 2)) === 'MZ'
  if (isMz && head.length >= 0x38 && ascii(head.subarray(4, 8)) === 'zimg') {
    const at = cursor(head, { device: device.name, base: 0 })
    at.skip(8)
    const [offset, size] = [at.u32('payload_offset'), at.u32('payload_size')]
    const gzipped = cString(head.subarray(0x18, 0x38)) === 'gzip' && offset < device.size
    return told('EFI zboot', gzipped ? await searchGzip(device, offset, size) : undefined, machineOf(head))
  }
  if (ascii(head.subarray(0x38, 0x3c)) === 'ARM\x64')
    return told('arm64 Image', await searchPlain(device, 0, device.size), 'aarch64')
  if (head[0] === 0x1f && head[1] === 0x8b) {
    const text = await searchGzip(device, 0, device.size)
    return text === undefined ? undefined : told('gzip', text, undefined)
  }
  if (ascii(head.subarray(0, 4)) === '\x7fELF') {
    const text = await searchPlain(device, 0, device.size)
    return text === undefined ? undefined : told('ELF', text, machineOf(head))
  }
  return undefined
}

/** A kernel that is installed in a root filesystem. */
export interface InstalledKernel {
  readonly version: string
  /** paths; left out what is not there */
  readonly kernel?: string
  readonly initramfs?: string
  readonly modules?: string
  /** made by dracut's rescue: its version is no version of Linux */
  readonly rescue: boolean
}

/** The kernels of a root filesystem by the names in /boot and of their modules, oldest first. @throws IO, CORRUPT */
export const installedKernels = async (fs: FileSystem): Promise<InstalledKernel[]> => {
  const found = new Map<string, { kernel?: string; initramfs?: string; modules?: string }>()
  const of = (version: string) => {
    const known = found.get(version) ?? {}
    found.set(version, known)
    return known
  }
  const namesIn = async (path: string): Promise<readonly string[]> => {
    try {
      const directory = await follow(fs, path)
      return directory?.stat.kind === 'directory' ? (await fs.list(directory.path)).map(({ name }) => name) : []
    } catch (error) {
      if (isLiveError(error) && error.code === 'NOT_FOUND') return []
      throw error
    }
  }
  for (const name of await namesIn('/boot')) {
    const kernel = /^vmlinu[zx]-(.+)(?<!\.old)$/.exec(name)?.[1]
    const initramfs = /^(?:initramfs-(.+?)\.img|initrd\.img-(.+)|initrd-(.+?)(?:\.img)?)$/.exec(name)
    const version = initramfs?.[1] ?? initramfs?.[2] ?? initramfs?.[3]
    if (kernel !== undefined) of(kernel).kernel = `/boot/${name}`
    if (version !== undefined && !/kdump$/.test(version)) of(version).initramfs = `/boot/${name}`
  }
  for (const modules of ['/usr/lib/modules', '/lib/modules'])
    for (const version of (await namesIn(modules)).filter(name => /^\d/.test(name))) {
      const known = of(version)
      known.modules ??= `${modules}/${version}`
      if (known.kernel === undefined && (await namesIn(`${modules}/${version}`)).includes('vmlinuz'))
        known.kernel = `${modules}/${version}/vmlinuz`
    }
  const byVersion = new Intl.Collator('en', { numeric: true }).compare
  return [...found]
    .map(([version, files]) => ({ version, ...files, rescue: /^0-rescue/.test(version) }))
    .sort((a, b) => byVersion(a.version, b.version))
}
