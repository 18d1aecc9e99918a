import { createHash } from 'node:crypto'
import type { Ext4 } from '../../src/fs/ext4/reader.js'
import type { Entry } from '../../src/fs/filesystem.js'
import { collect } from './collect.js'

export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

/** What a reader shows of a path, as one line. */
export const lineOf = async (fs: Ext4, path: string): Promise<string> => {
  const { kind, mode, uid, gid, size, mtime, mtimeNanoseconds, device, linkCount, inode } = await fs.stat(path)
  const attributes = (await fs.xattrs(path)).map(({ name, value }) => `${name}=${Buffer.from(value).toString('hex')}`)
  let content = device ? `${device.major}:${device.minor}` : ''
  if (kind === 'symlink') content = await fs.readLink(path)
  if (kind === 'file') {
    const file = await fs.open(path)
    // Absurd sizes are allowed, as of a sparse file: only the data are read.
    const hash = createHash('sha256')
    for await (const { offset, length, kind: sort } of file.extents(0, file.size)) {
      hash.update(`${sort} ${offset} ${length}`)
      for (let at = 0; sort === 'data' && at < length; at += 1 << 20)
        hash.update(await file.read(offset + at, Math.min(1 << 20, length - at)))
    }
    content = hash.digest('hex')
  }
  return [kind, mode, uid, gid, size, mtime, mtimeNanoseconds, linkCount, inode, content, ...attributes].join(' ')
}

/** All that a reader shows: each path's line, what is free, which inodes are. A walk that meets more than `most` paths fails. */
export const viewOf = async (fs: Ext4, most = 10_000): Promise<string> => {
  const lines: string[] = []
  const visit = async (path: string): Promise<void> => {
    if (lines.length > most) throw new Error(`a walk of more than ${most} paths`)
    const line = await lineOf(fs, path)
    lines.push(`${path} ${line}`)
    if (!line.startsWith('directory ')) return
    for (const { name } of (await fs.list(path)) as readonly Entry[])
      await visit(path === '/' ? `/${name}` : `${path}/${name}`)
  }
  await visit('/')
  lines.push(JSON.stringify(await collect(fs.freeRuns())), JSON.stringify(await collect(fs.freeInodes())))
  return lines.join('\n')
}
