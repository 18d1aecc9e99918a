import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run } from './ext4-images.js'
import { type Gate, gate, needTools, tool } from './tools.js'

/** The gate of tests in which this computer's kernel writes an ext4: root and a loop device. */
export const needExt4Mount = (...names: string[]): Gate => {
  const tools = needTools('mount', 'umount', 'mke2fs', ...names)
  if (tools.reason !== undefined) return tools
  const scratch = mkdtempSync(join(tmpdir(), 'liveos-ext4-'))
  try {
    const image = join(scratch, 'img')
    writeFileSync(image, '')
    truncateSync(image, 4 << 20)
    execFileSync(tool('mke2fs')!, ['-q', '-F', '-t', 'ext4', image], { stdio: 'pipe' })
    execFileSync('mount', ['-t', 'ext4', '-o', 'loop', image, scratch], { stdio: 'pipe' })
    execFileSync('umount', [scratch], { stdio: 'pipe' })
    return gate(undefined)
  } catch (error) {
    const words = error instanceof Error ? error.message.trim().split('\n').at(-1) : String(error)
    // No package would help: where it can't be, mke2fs and debugfs make the filesystems.
    return gate(process.env.CONFORM === 'require' ? undefined : `this computer does not mount an ext4 (${words})`)
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

/** Mounts an image for as long as `use` runs. */
export const mounted = async <T>(file: string, options: string, use: (folder: string) => Promise<T>): Promise<T> => {
  const at = `${file}.mounted`
  await mkdir(at, { recursive: true })
  await run('mount', ['-t', 'ext4', '-o', `loop,${options}`, file, at])
  try {
    return await use(at)
  } finally {
    await run('umount', [at])
  }
}
