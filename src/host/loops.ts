import { readdir, readFile, realpath } from 'node:fs/promises'
import { join } from 'node:path'
import { factsOf } from './folder.js'
import { deviceNumber } from './medium.js'
import { findTool, runTool } from './process.js'

/** A loop device and the file behind it. */
export interface Loop {
  readonly name: string
  /** as the kernel tells it: without the mount's prefix where it was set up in the initramfs */
  readonly backingFile: string
  /** inode, and major:minor of the filesystem, where they could be asked for */
  readonly inode: number | undefined
  readonly device: string | undefined
}

/** Loop devices in use. Inode and device need permission to open them; path and name are free for all. */
export const readLoops = async (): Promise<readonly Loop[]> => {
  const attached: { name: string; backingFile: string }[] = []
  for (const name of await readdir('/sys/block').catch(() => [])) {
    if (!name.startsWith('loop')) continue
    const file = await readFile(join('/sys/block', name, 'loop/backing_file'), 'utf8').catch(() => undefined)
    if (file !== undefined) attached.push({ name: `/dev/${name}`, backingFile: file.trimEnd() })
  }
  if (attached.length === 0) return []
  const known = await askLosetup()
  return attached.map(loop => ({ ...loop, ...(known.get(loop.name) ?? { inode: undefined, device: undefined }) }))
}

const askLosetup = async (): Promise<Map<string, { inode: number; device: string }>> => {
  const found = new Map<string, { inode: number; device: string }>()
  if (!(await findTool('losetup'))) return found
  const { code, stdout } = await runTool('losetup', ['--json', '--list', '--output', 'NAME,BACK-INO,BACK-MAJ:MIN'])
  if (code !== 0 || !stdout.trim()) return found
  const { loopdevices = [] } = JSON.parse(stdout) as {
    loopdevices?: { name: string; 'back-ino': number | string | null; 'back-maj:min': string | null }[]
  }
  for (const loop of loopdevices) {
    const inode = Number(loop['back-ino'])
    if (inode > 0 && loop['back-maj:min']) found.set(loop.name, { inode, device: loop['back-maj:min'].trim() })
  }
  return found
}

/**
 * The loop device that a file is attached to. Compared by filesystem and inode where the kernel told them; where it did not,
 * a backing path that the file's path ends with counts as the same file, since being wrong that way only refuses.
 */
export const attachedLoop = async (path: string, loops?: readonly Loop[]): Promise<Loop | undefined> => {
  const facts = await factsOf(path)
  if (!facts) return undefined
  const full = await realpath(path)
  for (const loop of loops ?? (await readLoops())) {
    if (loop.inode !== undefined && loop.device !== undefined) {
      if (loop.inode === facts.inode && loop.device === deviceNumber(facts.device)) return loop
      continue
    }
    const backing = loop.backingFile.replace(/ \(deleted\)$/, '')
    const there = await factsOf(backing).catch(() => undefined)
    if (there ? there.inode === facts.inode && there.device === facts.device : full.endsWith(backing)) return loop
  }
  return undefined
}
