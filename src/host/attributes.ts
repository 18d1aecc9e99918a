import { spawn } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { openRecent } from '../bytes/recent.js'
import { LiveError } from '../error.js'
import { splitPath, type Xattr, type XattrFileSystem } from '../fs/filesystem.js'
import { decodeName, encodeName } from '../fs/name.js'
import type { DirectoryFileSystem } from './directory.js'
import { findTool } from './process.js'

/** A directory of this computer whose extended attributes can be asked for. */
export interface AttributedDirectory extends DirectoryFileSystem, XattrFileSystem {}

const CAP_SYS_ADMIN = 21n
/** Names told to one `getfattr`. */
const BATCH = 512
/** Bytes of attributes kept, as they are printed; and taken from one `getfattr`. */
const MOST_KEPT = 16 << 20
const MOST_PRINTED = 256 << 20

/**
 * True where this process may read attributes `trusted.*`: to all others they don't seem to be there. Root of a container, which
 * is root to nobody outside, may not.
 *
 * @see xattr(7), user_namespaces(7)
 */
export const readsTrustedAttributes = async (): Promise<boolean> => {
  try {
    const [status, map] = await Promise.all([
      readFile('/proc/self/status', 'utf8'),
      readFile('/proc/self/uid_map', 'utf8'),
    ])
    const [, capabilities] = /^CapEff:\s*([0-9a-f]+)/m.exec(status) ?? []
    const isOutermost = /^\s*0\s+0\s+4294967295\s*$/.test(map)
    return isOutermost && capabilities !== undefined && ((BigInt(`0x${capabilities}`) >> CAP_SYS_ADMIN) & 1n) === 1n
  } catch {
    return false
  }
}

/** Runs getfattr on paths, by xargs: paths are bytes, which arguments of Node are not. @throws IO */
const printed = (xargs: string, paths: readonly Uint8Array[]): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    const child = spawn(xargs, ['-0', '-r', 'getfattr', '-h', '--absolute-names', '-d', '-m', '-', '-e', 'hex', '--'], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, LC_ALL: 'C' },
    })
    const parts: Buffer[] = []
    let [size, words] = [0, '']
    child.stdout.on('data', (part: Buffer) => {
      size += part.length
      if (size > MOST_PRINTED) child.kill('SIGKILL')
      else parts.push(part)
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      words = (words + text).slice(0, 4096)
    })
    const failed = (why: string, cause?: unknown) =>
      reject(new LiveError('IO', `reading extended attributes: ${why}`, { tool: 'getfattr' }, cause))
    child.on('error', error => failed(error.message, error))
    // a broken pipe is told by what the program says
    child.stdin.on('error', () => undefined)
    child.on('close', code => {
      // a name that went away meanwhile has no attributes
      const complaint = words.split('\n').find(line => line !== '' && !line.endsWith('No such file or directory'))
      if (complaint !== undefined) failed(complaint)
      else if (code === null || ![0, 1, 123].includes(code)) failed(`getfattr ended with ${code ?? 'a signal'}`)
      else resolve(Buffer.concat(parts))
    })
    for (const path of paths) {
      child.stdin.write(path)
      child.stdin.write('\0')
    }
    child.stdin.end()
  })

const unescaped = (text: string): Buffer =>
  Buffer.from(
    text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))),
    'latin1',
  )

/** What getfattr prints, by path: the bytes of each as a string of latin1. */
const parsePrinted = (bytes: Buffer): Map<string, Xattr[]> => {
  const found = new Map<string, Xattr[]>()
  let current: Xattr[] | undefined
  for (const line of bytes.toString('latin1').split('\n')) {
    if (line.startsWith('# file: ')) {
      current = []
      found.set(unescaped(line.slice('# file: '.length)).toString('latin1'), current)
    } else if (line !== '' && current) {
      const [name = '', value = ''] = line.split('=')
      current.push({ name: decodeName(unescaped(name)), value: Buffer.from(value.replace(/^0x/, ''), 'hex') })
    }
  }
  return found
}

/**
 * A directory with the extended attributes of what it holds, read by `getfattr`, for all names of a directory at a time: Node
 * can't read them. `trusted.*` are among them only for `readsTrustedAttributes`.
 *
 * @returns  undefined where getfattr or xargs is not installed
 */
export const withAttributes = async (fs: DirectoryFileSystem): Promise<AttributedDirectory | undefined> => {
  const [xargs, getfattr] = await Promise.all([findTool('xargs'), findTool('getfattr')])
  if (!xargs || !getfattr) return undefined
  const known = openRecent<string, ReadonlyMap<string, readonly Xattr[]>>(MOST_KEPT)
  const root = fs.path === '/' ? '' : fs.path

  const read = async (names: readonly string[]): Promise<Map<string, readonly Xattr[]>> => {
    const bytes = await printed(
      xargs,
      names.map(name => Buffer.concat([Buffer.from(root), encodeName(name)])),
    )
    const found = parsePrinted(bytes)
    const byName = new Map<string, readonly Xattr[]>()
    for (const name of names) {
      const xattrs = found.get(Buffer.concat([Buffer.from(root), encodeName(name)]).toString('latin1'))
      if (xattrs) byName.set(name, xattrs)
    }
    known.set(names[0]!, byName, bytes.length + 100)
    return byName
  }

  /** By directory: of each path in it the paths that are asked for with it. */
  const batches = openRecent<string, ReadonlyMap<string, readonly string[]>>(200_000)
  const batchOf = async (directory: string, path: string): Promise<readonly string[]> => {
    const base = directory === '/' ? '' : directory
    const held = batches.get(directory)?.get(path)
    if (held) return held
    const all = (await fs.list(directory)).map(({ name }) => `${base}/${name}`)
    const heads = new Map<string, readonly string[]>()
    for (let at = 0; at < all.length; at += BATCH) {
      const batch = all.slice(at, at + BATCH)
      for (const name of batch) heads.set(name, batch)
    }
    batches.set(directory, heads, all.length + 1)
    return heads.get(path) ?? [path]
  }

  return {
    ...fs,
    async xattrs(path) {
      await fs.stat(path)
      const names = splitPath(path)
      // the directory itself, where its path may be a link to it
      if (names.length === 0) return (await read(['/.'])).get('/.') ?? []
      const own = `/${names.join('/')}`
      const directory = `/${names.slice(0, -1).join('/')}`
      const batch = await batchOf(directory, own)
      return (known.get(batch[0]!) ?? (await read(batch))).get(own) ?? []
    },
  }
}
