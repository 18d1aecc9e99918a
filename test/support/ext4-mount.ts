import { execFileSync } from 'node:child_process'
import { truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { needMount, whileMounted } from './mounting.js'
import { type Gate, needTools, tool } from './tools.js'

/** The gate of tests in which this computer's kernel writes an ext4: root and a loop device. */
export const needExt4Mount = (...names: string[]): Gate => {
  const tools = needTools('mount', 'umount', 'mke2fs', ...names)
  if (tools.reason !== undefined) return tools
  return needMount('an ext4', scratch => {
    const image = join(scratch, 'img')
    writeFileSync(image, '')
    truncateSync(image, 4 << 20)
    execFileSync(tool('mke2fs')!, ['-q', '-F', '-t', 'ext4', image], { stdio: 'pipe' })
    return ['-t', 'ext4', '-o', 'loop', image, scratch]
  })
}

/** Mounts an image for as long as `use` runs. */
export const mounted = <T>(file: string, options: string, use: (folder: string) => Promise<T>): Promise<T> =>
  whileMounted(['-t', 'ext4', '-o', `loop,${options}`, file], `${file}.mounted`, use)
