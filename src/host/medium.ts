import { readFile, realpath, stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { findTool, runTool } from './process.js'

/** The mounted filesystem that a path is on. */
export interface Medium {
  readonly mountPoint: string
  /** vfat, ext4 … as the kernel calls it */
  readonly type: string
  /** the device it is mounted from, where that is one */
  readonly source: string | undefined
  readonly readOnly: boolean
  readonly label: string | undefined
  readonly uuid: string | undefined
}

/** A line of mountinfo. */
export interface Mount {
  readonly device: string
  readonly root: string
  readonly mountPoint: string
  readonly type: string
  readonly source: string
  readonly readOnly: boolean
  /** the filesystem's own options as the kernel writes them: separated by commas, odd characters as `\040` or `\,` */
  readonly superOptions: string
}

/** Undoes the octal escapes of mountinfo (`\040` is a space). */
export const unescapeOctal = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))

/** Reads the text of /proc/self/mountinfo. @see linux Documentation/filesystems/proc.rst, section 3.5 */
export const parseMounts = (text: string): readonly Mount[] =>
  text
    .split('\n')
    .filter(line => line.includes(' - '))
    .map(line => {
      const [before = '', after = ''] = line.split(' - ')
      const fields = before.split(' ')
      const [type = '', source = '', superOptions = ''] = after.split(' ')
      const options = `${fields[5] ?? ''},${superOptions}`.split(',')
      return {
        device: fields[2] ?? '',
        root: unescapeOctal(fields[3] ?? ''),
        mountPoint: unescapeOctal(fields[4] ?? ''),
        type,
        source: unescapeOctal(source),
        readOnly: options.includes('ro'),
        superOptions,
      }
    })

/** Mounts of this computer; none where it has no /proc. */
export const readMounts = async (): Promise<readonly Mount[]> => {
  try {
    return parseMounts(await readFile('/proc/self/mountinfo', 'utf8'))
  } catch {
    return []
  }
}

/** major:minor of a device number as stat gives it. @see glibc gnu_dev_major, gnu_dev_minor */
export const deviceNumber = (dev: number): string => {
  const wide = BigInt(dev)
  const major = ((wide >> 8n) & 0xfffn) | ((wide >> 32n) & 0xfffff000n)
  const minor = (wide & 0xffn) | ((wide >> 12n) & 0xffffff00n)
  return `${major}:${minor}`
}

/** The innermost mount that holds a path. */
export const mountOf = async (path: string): Promise<Mount | undefined> => {
  const full = await realpath(resolve(path))
  const device = deviceNumber((await stat(full)).dev)
  const holds = ({ mountPoint }: Mount) =>
    mountPoint === '/' || full === mountPoint || full.startsWith(`${mountPoint}/`)
  const mounts = (await readMounts()).filter(holds)
  // btrfs and overlay give files another device number than their mount: then the path alone decides
  const same = mounts.filter(mount => mount.device === device)
  return (same.length > 0 ? same : mounts).reduce<Mount | undefined>(
    (best, mount) => (!best || mount.mountPoint.length >= best.mountPoint.length ? mount : best),
    undefined,
  )
}

/** udev writes bytes that don't suit a file name as \x20. */
const unescapeUdev = (name: string): string =>
  name.replace(/\\x([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))

interface Identity {
  readonly label: string | undefined
  readonly uuid: string | undefined
}

/** Label and UUID among lines of NAME=value as udev's blkid builtin and `blkid -o udev` write them. */
export const parseUdev = (text: string): Identity => {
  const value = (name: string): string | undefined => {
    const found = new RegExp(`^(?:E:)?${name}_ENC=(.+)$`, 'm').exec(text)?.[1]
    return found && unescapeUdev(found)
  }
  return { label: value('ID_FS_LABEL'), uuid: value('ID_FS_UUID') }
}

/** What the device itself says, by blkid; needs permission to read it. */
const askBlkid = async (device: string): Promise<Identity> => {
  const none = { label: undefined, uuid: undefined }
  if (!(await findTool('blkid'))) return none
  const { code, stdout } = await runTool('blkid', ['-c', '/dev/null', '-o', 'udev', device])
  return code === 0 ? parseUdev(stdout) : none
}

/** Label and UUID of a block device: what udev knows, which anyone may read; blkid where there is no udev. */
const identityOf = async (source: string): Promise<Identity> => {
  try {
    const { rdev } = await stat(source)
    const known = parseUdev(await readFile(`/run/udev/data/b${deviceNumber(rdev)}`, 'utf8'))
    if (known.uuid) return known
  } catch {}
  return askBlkid(source)
}

/** The filesystem that a path is on. */
export const mediumOf = async (path: string): Promise<Medium> => {
  const mount = await mountOf(path)
  if (!mount)
    return { mountPoint: '/', type: 'unknown', source: undefined, readOnly: false, label: undefined, uuid: undefined }
  const source = mount.source.startsWith('/dev/') ? mount.source : undefined
  const identity = source ? await identityOf(source) : { label: undefined, uuid: undefined }
  return { mountPoint: mount.mountPoint, type: mount.type, source, readOnly: mount.readOnly, ...identity }
}
