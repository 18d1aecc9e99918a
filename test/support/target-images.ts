import { execFile, spawn } from 'node:child_process'
import { copyFile, cp, mkdir, open, readdir, readFile, rename, truncate, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { unpackSample } from '../../scripts/sample.mjs'
import { tool } from './tools.js'

const execute = promisify(execFile)

/** Programs that make the images. */
export const IMAGE_TOOLS = ['sfdisk', 'mkfs.vfat', 'mcopy', 'mmd', 'mke2fs', 'xorriso', 'mksquashfs'] as const

/** Label and id of the sample stick, by which its overlay is named. */
export const LABEL = 'LIVE'
export const FAT_ID = '1A2B-3C4D'
export const OVERLAY = `overlay-${LABEL}-${FAT_ID}`
export const EXT4_ID = 'c0ffee00-1111-4222-8333-444455556666'

const MIB = 1 << 20
/** The first partition starts here, in bytes. */
const START = MIB

export const run = async (program: string, ...words: readonly string[]): Promise<string> => {
  const env = { ...process.env, LC_ALL: 'C.UTF-8', TZ: 'UTC', MTOOLS_SKIP_CHECK: '1' }
  return (await execute(tool(program) ?? program, words, { env, maxBuffer: 1 << 26 })).stdout
}

const give = (program: string, words: readonly string[], input: string): Promise<void> =>
  new Promise((resolve, reject) => {
    const child = spawn(tool(program) ?? program, words, { stdio: ['pipe', 'ignore', 'pipe'] })
    let said = ''
    child.stderr.on('data', text => {
      said += text
    })
    child.on('error', reject)
    child.on('close', code => (code === 0 ? resolve() : reject(new Error(`${program}: ${said}`))))
    child.stdin.end(input)
  })

/** A file of zeros, all a hole. */
export const emptyFile = async (path: string, size: number): Promise<void> => {
  await writeFile(path, '')
  await truncate(path, size)
}

const KERNEL = 'no kernel, only its name'

/** The sample stick as a mounted directory, with the loaders' files that a real one has. */
export const makeStick = async (path: string): Promise<string> => {
  await unpackSample(path)
  for (const name of ['vmlinuz', 'initrd.img', 'vesamenu.c32', 'ldlinux.sys'])
    await writeFile(join(path, 'syslinux', name), KERNEL)
  await mkdir(join(path, 'EFI/BOOT'), { recursive: true })
  await writeFile(join(path, 'EFI/BOOT/BOOTX64.EFI'), 'MZ')
  await writeFile(
    join(path, 'EFI/BOOT/grub.cfg'),
    `set default=0\nset timeout=5\nmenuentry 'Start Sample Live' {\n  linux /syslinux/vmlinuz root=live:UUID=${FAT_ID} ro rd.live.image rd.live.overlay=UUID=${FAT_ID}:/LiveOS/${OVERLAY}\n  initrd /syslinux/initrd.img\n}\n`,
  )
  return path
}

/** Names directly below a directory. */
const namesIn = async (tree: string): Promise<string[]> => (await readdir(tree)).sort()

export interface FatOptions {
  /** byte of the image where it starts */
  readonly offset?: number
  readonly size: number
  readonly label?: string
  readonly id?: string
  /** mtools takes FAT32 with fewer than 65,525 clusters for FAT16 */
  readonly clusterSectors?: number
}

/** A FAT32 in an image that is there, at a byte offset, with a tree in it. */
export const makeFat = async (
  image: string,
  tree: string,
  { offset = 0, size, label = LABEL, id = FAT_ID, clusterSectors = 1 }: FatOptions,
): Promise<void> => {
  await run(
    'mkfs.vfat',
    ...['-F', '32', '-s', String(clusterSectors), '-n', label, '-i', id.replace('-', ''), `--offset=${offset / 512}`],
    ...[image, String(size / 1024)],
  )
  const names = await namesIn(tree)
  await run('mcopy', '-m', '-s', '-i', `${image}@@${offset}`, ...names.map(name => join(tree, name)), '::')
}

/** An ext4 with a tree in it, in an image that is there, at a byte offset. */
export const makeExt4 = async (
  image: string,
  tree: string,
  { offset = 0, size, label = LABEL, id = EXT4_ID }: { offset?: number; size: number; label?: string; id?: string },
): Promise<void> => {
  await run(
    'mke2fs',
    ...['-q', '-F', '-t', 'ext4', '-L', label, '-U', id, '-d', tree, '-E', `offset=${offset},root_owner=0:0`],
    ...[image, `${size / 1024}k`],
  )
}

/** A partition table, in the words of sfdisk. */
export const partition = (image: string, script: string): Promise<void> => give('sfdisk', ['-q', image], script)

/** A bare FAT partition. */
export const fatPartition = async (image: string, tree: string): Promise<string> => {
  await emptyFile(image, 64 * MIB)
  await makeFat(image, tree, { size: 64 * MIB })
  return image
}

/** A whole disk with an MBR and one FAT partition. */
export const mbrDisk = async (image: string, tree: string, size = 64 * MIB): Promise<string> => {
  await emptyFile(image, START + size)
  await partition(image, `label: dos\nlabel-id: 0x12345678\nstart=${START / 512}, type=c, bootable\n`)
  await makeFat(image, tree, { offset: START, size })
  return image
}

/** A whole disk with a GPT: an EFI system partition, and the stick on ext4, its overlay named by that. */
export const gptDisk = async (image: string, tree: string): Promise<string> => {
  const esp = 40 * MIB
  const data = 64 * MIB
  await emptyFile(image, START + esp + data + MIB)
  await partition(
    image,
    `label: gpt\nstart=${START / 512}, size=${esp / 512}, type=uefi, name="EFI System"\nsize=${data / 512}, type=linux, name="Live data"\n`,
  )
  const loaders = `${image}.esp`
  await cp(join(tree, 'EFI'), join(loaders, 'EFI'), { recursive: true })
  await mkdir(join(loaders, 'syslinux'))
  for (const name of ['vmlinuz', 'initrd.img']) await writeFile(join(loaders, 'syslinux', name), KERNEL)
  await makeFat(image, loaders, { offset: START, size: esp, label: 'ESP', id: '0000-00E5' })
  const live = `${image}.tree`
  await cp(tree, live, { recursive: true })
  await rename(join(live, 'LiveOS', OVERLAY), join(live, 'LiveOS', `overlay-${LABEL}-${EXT4_ID}`))
  for (const config of ['syslinux/syslinux.cfg', 'EFI/BOOT/grub.cfg']) {
    const text = await readFile(join(live, config), 'utf8')
    await writeFile(join(live, config), text.replaceAll(FAT_ID, EXT4_ID))
  }
  await makeExt4(image, live, { offset: START + esp, size: data })
  return image
}

/** What a hybrid image carries in front, in the place of syslinux's own. */
const fakeMbr = async (path: string): Promise<string> => {
  await writeFile(path, Buffer.alloc(432, 0x90))
  return path
}

export interface IsoOptions {
  /** F36: isolinux and images/pxeboot · F42: boot/x86_64/loader, as kiwi lays it out */
  readonly layout: 'f36' | 'f42'
  readonly volume?: string
  /** leave the live image out */
  readonly bare?: boolean
}

const fixture = (name: string): string => new URL(`../fixtures/boot/${name}`, import.meta.url).pathname

/** An ISO with Rock Ridge, Joliet, El Torito for BIOS and EFI, that is a disk image as well. */
export const makeIsoTarget = async (
  image: string,
  squashfs: string | undefined,
  { layout, volume = layout === 'f36' ? 'Fedora-WS-Live-36-1-5' : 'Fedora-WS-Live-42', bare = false }: IsoOptions,
): Promise<string> => {
  const tree = `${image}.tree`
  const put = async (name: string, content: string | Uint8Array): Promise<void> => {
    await mkdir(join(tree, dirname(name)), { recursive: true })
    await writeFile(join(tree, name), content)
  }
  await put('EFI/BOOT/BOOTX64.EFI', 'MZ')
  const efi = layout === 'f36' ? 'images/efiboot.img' : 'boot/x86_64/efi.img'
  await put('.discinfo', '1652000000.0\n36\nx86_64\n')
  if (layout === 'f36') {
    for (const name of ['vmlinuz', 'initrd.img', 'memtest', 'vesamenu.c32']) await put(`isolinux/${name}`, KERNEL)
    for (const name of ['vmlinuz', 'initrd.img']) await put(`images/pxeboot/${name}`, KERNEL)
    await put('isolinux/isolinux.bin', Buffer.alloc(4096, 1))
    await put('isolinux/isolinux.cfg', await readFile(fixture('f36-isolinux.cfg')))
    await put('EFI/BOOT/grub.cfg', await readFile(fixture('f36-grub.cfg')))
  } else {
    for (const name of ['linux', 'initrd']) await put(`boot/x86_64/loader/${name}`, KERNEL)
    await put('boot/grub2/i386-pc/eltorito.img', Buffer.alloc(4096, 1))
    await put('boot/grub2/grub.cfg', await readFile(fixture('f42-grub.cfg')))
    await put('EFI/BOOT/grub.cfg', await readFile(fixture('f42-efi-grub.cfg')))
  }
  await put(efi, Buffer.alloc(2 * MIB, 2))
  if (bare) await put('.treeinfo', '[general]\nfamily = Sample\nversion = 41\narch = x86_64\nvariant = Server\n')
  const bios = layout === 'f36' ? 'isolinux/isolinux.bin' : 'boot/grub2/i386-pc/eltorito.img'
  const catalog = layout === 'f36' ? 'isolinux/boot.cat' : 'boot/grub2/boot.cat'
  await run(
    'xorriso',
    ...['-as', 'mkisofs', '-quiet', '-o', image, '-R', '-J', '-V', volume],
    ...['-b', bios, '-c', catalog, '-no-emul-boot', '-boot-load-size', '4', '-boot-info-table'],
    ...['-eltorito-alt-boot', '-e', efi, '-no-emul-boot', '-isohybrid-gpt-basdat'],
    ...['-isohybrid-mbr', await fakeMbr(`${image}.mbr`), '-graft-points', `/=${tree}`],
    ...(squashfs && !bare ? [`/LiveOS/squashfs.img=${squashfs}`] : []),
  )
  return image
}

/** The root image of a sample's base, uncompressed. */
export const rootImage = async (image: string, stick: string): Promise<string> => {
  const out = `${image}.out`
  await run('unsquashfs', '-q', '-n', '-d', out, join(stick, 'LiveOS/squashfs.img'))
  await rename(join(out, 'LiveOS/rootfs.img'), image)
  return image
}

/** A stick with LiveOS and a second live directory, each with its own menu entry. */
export const multiStick = async (path: string, stick: string): Promise<string> => {
  await cp(stick, path, { recursive: true })
  await mkdir(join(path, 'F39'))
  await copyFile(join(stick, 'LiveOS/squashfs.img'), join(path, 'F39/squashfs.img'))
  return path
}

/** A small system: enough for its release, its kernel and a home to be found. */
export const makeSystem = async (path: string): Promise<string> => {
  const put = async (name: string, content: string): Promise<void> => {
    await mkdir(join(path, dirname(name)), { recursive: true })
    await writeFile(join(path, name), content)
  }
  await put(
    'etc/os-release',
    'NAME="Fedora Linux"\nID=fedora\nVERSION_ID=39\nPRETTY_NAME="Fedora Linux 39 (Flat)"\nVARIANT_ID=soas\n',
  )
  await put('usr/bin/true', 'true')
  await put('usr/lib/modules/6.5.6-300.fc39.x86_64/vmlinuz', KERNEL)
  await put('home/ada/letter.txt', 'Dear Charles\n')
  return path
}

/** A squashfs of a tree. */
export const squash = async (image: string, tree: string, ...words: readonly string[]): Promise<string> => {
  await run('mksquashfs', tree, image, '-quiet', '-no-progress', '-noappend', '-all-root', ...words)
  return image
}

/** Cuts a file, or makes it longer by a hole. */
export const resized = async (image: string, from: string, size: number): Promise<string> => {
  await copyFile(from, image)
  await truncate(image, size)
  return image
}

/** A copy with some bytes changed. */
export const altered = async (image: string, from: string, offset: number, bytes: Uint8Array): Promise<string> => {
  await copyFile(from, image)
  const file = await open(image, 'r+')
  try {
    await file.write(bytes, 0, bytes.length, offset)
  } finally {
    await file.close()
  }
  return image
}

/** A web server that gives the files of a directory by range, and what was asked of it. */
export interface ImageServer {
  readonly url: string
  /** requests and bytes since the last `reset` */
  readonly asked: { requests: number; bytes: number }
  reset(): void
  close(): Promise<void>
}

/** Serves files of a directory, read from disk as they are asked for. */
export const serveImages = async (directory: string): Promise<ImageServer> => {
  const asked = { requests: 0, bytes: 0 }
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    asked.requests++
    const path = join(directory, decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname))
    const file = await open(path).catch(() => undefined)
    if (!file) {
      response.writeHead(404).end()
      return
    }
    try {
      const { size } = await file.stat()
      const [, from = '0', to = ''] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? []
      const start = Math.min(size, Number(from))
      const end = Math.min(size, to === '' ? size : Number(to) + 1)
      const bytes = Buffer.alloc(end - start)
      await file.read(bytes, 0, bytes.length, start)
      asked.bytes += bytes.length
      response.writeHead(206, {
        etag: '"1"',
        'content-range': `bytes ${start}-${end - 1}/${size}`,
        'content-length': bytes.length,
      })
      response.end(bytes)
    } finally {
      await file.close()
    }
  }
  const server = createServer((request, response) => void answer(request, response))
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    reset: () => Object.assign(asked, { requests: 0, bytes: 0 }),
    close: () =>
      new Promise(resolve => {
        server.closeAllConnections()
        server.close(() => resolve())
      }),
  }
}
