import { readdir, readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { parseUdev } from './medium.js'

/** A block device of this computer with what its filesystem is called. */
export interface NamedDevice {
  /** such as /dev/sdb1 */
  readonly path: string
  readonly label: string | undefined
  readonly uuid: string | undefined
}

const UDEV = '/run/udev/data'

const nameOf = async (number: string, root: string): Promise<string | undefined> => {
  try {
    const text = await readFile(`${root}/sys/dev/block/${number}/uevent`, 'utf8')
    return /^DEVNAME=(.+)$/m.exec(text)?.[1]
  } catch {
    return undefined
  }
}

/**
 * The filesystems of this computer's block devices, as udev has written them down for anyone to read.
 *
 * @param root  in place of `/`, for tests
 * @returns undefined where there is no udev: then nobody can tell without reading every device
 */
export const namedDevices = async (root = ''): Promise<readonly NamedDevice[] | undefined> => {
  let files: readonly string[]
  try {
    files = (await readdir(`${root}${UDEV}`)).filter(name => /^b\d+:\d+$/.test(name)).sort()
  } catch {
    return undefined
  }
  const found: NamedDevice[] = []
  for (const file of files) {
    const names = parseUdev(await readFile(`${root}${UDEV}/${file}`, 'utf8').catch(() => ''))
    if (names.label === undefined && names.uuid === undefined) continue
    const name = await nameOf(file.slice(1), root)
    // what is gone since has no name any more
    if (name !== undefined) found.push({ path: `/dev/${basename(name)}`, ...names })
  }
  return found.length > 0 || files.length > 0 ? found : undefined
}
