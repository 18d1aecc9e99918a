import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmod,
  chown,
  link,
  lstat,
  lutimes,
  mkdir,
  readdir,
  readFile,
  readlink,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { FileSystem, Stat } from '../../src/fs/filesystem.js'
import { bytesOf } from './small-stick.js'

const run = promisify(execFile)
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

/** Makes an image of a tree; `words` are the options that xorriso's emulation and genisoimage share. */
export const makeIso = async (
  program: 'genisoimage' | 'xorriso',
  tree: string,
  image: string,
  words: readonly string[],
): Promise<string> => {
  const [file, first] = program === 'xorriso' ? ['xorriso', ['-as', 'mkisofs']] : ['genisoimage', []]
  await run(file, [...first, '-quiet', '-o', image, ...words, tree], { maxBuffer: 1 << 26, timeout: 60_000 })
  return image
}

/** A tree of few files that still has a file of each size, a directory, a symlink. */
export const makeSmallIsoTree = async (path: string): Promise<void> => {
  await mkdir(join(path, 'LiveOS'), { recursive: true })
  await mkdir(join(path, 'Empty Directory'))
  await writeFile(join(path, 'LiveOS/squashfs.img'), bytesOf(7, 50_001))
  await writeFile(join(path, 'Small'), 'a few words')
  await writeFile(join(path, 'nothing'), '')
  await symlink('../Small', join(path, 'LiveOS/soft'))
  for (const name of ['Small', 'nothing', 'LiveOS/squashfs.img']) await chmod(join(path, name), 0o640)
}

/** Names in ODD_LINKS: genisoimage writes the one wrong, and never ends with the other. */
export const LINKS_BEYOND_GENISOIMAGE = ['long path', 'very long']

/** Symlink targets that need each kind of component, components in several parts, and entries in several records. */
export const ODD_LINKS: Readonly<Record<string, string>> = {
  absolute: '/usr/lib/os-release',
  root: '/',
  dot: '.',
  dots: '..',
  up: '../../up/./and/../down',
  'long name': 'x'.repeat(250),
  'long path': `${'a component of the path/'.repeat(20)}end`,
  'very long': `/${'0123456789'.repeat(20)}/${'../'.repeat(50)}${'abcdefghij'.repeat(24)}`,
  unicode: 'ziel/grün/€',
}

/** A varied tree: names, sizes, modes, owners, dates, links that reach each part of the format. Repeatable. */
export const makeIsoTree = async (path: string, { deep = 10, many = 3000 } = {}): Promise<void> => {
  await mkdir(join(path, 'LiveOS'), { recursive: true })
  await writeFile(join(path, 'LiveOS/rootfs.img'), bytesOf(7, 300_001))
  await mkdir(join(path, 'sizes'))
  for (const size of [0, 1, 2047, 2048, 2049, 65_536]) await writeFile(join(path, `sizes/${size}`), bytesOf(size, size))
  await mkdir(join(path, 'names'))
  for (const name of [
    'a b',
    '.hidden',
    'UPPER.TXT',
    'Two.dots.txt',
    'ünïcode € 漢字 😀',
    '\\back"slash',
    'semi;1',
    'trailing.',
    'n'.repeat(200),
    'ä'.repeat(100),
  ])
    await writeFile(join(path, 'names', name), name)
  await mkdir(join(path, 'links'))
  for (const [name, target] of Object.entries(ODD_LINKS)) await symlink(target, join(path, 'links', name))
  await mkdir(join(path, 'modes'))
  for (const mode of [0o0, 0o444, 0o755, 0o4755, 0o2750, 0o1777]) {
    await writeFile(join(path, 'modes', mode.toString(8)), `${mode}`)
    await chmod(join(path, 'modes', mode.toString(8)), mode)
  }
  await mkdir(join(path, 'modes/sticky'))
  await chmod(join(path, 'modes/sticky'), 0o1777)
  await link(join(path, 'sizes/2049'), join(path, 'modes/hard link'))
  const bottom = Array.from({ length: deep }, (_, n) => `level${n + 1}`).join('/')
  await mkdir(join(path, bottom), { recursive: true })
  await writeFile(join(path, bottom, 'Deep File'), 'deep')
  await writeFile(join(path, 'level1/beside'), 'beside')
  await mkdir(join(path, 'many'))
  for (let n = 0; n < many; n++) await writeFile(join(path, 'many', `file number ${n}`), n % 100 === 0 ? `${n}` : '')
  // only root may make these
  if (process.getuid?.() === 0) {
    await run('mknod', [join(path, 'modes/null'), 'c', '1', '3'])
    await run('mknod', [join(path, 'modes/disk'), 'b', '8', '17'])
    await run('mkfifo', [join(path, 'modes/pipe')])
    await chown(join(path, 'sizes/1'), 1234, 56789)
  }
  for (const [name, seconds] of [
    ['sizes/1', 86_400],
    ['sizes/2047', 946_684_799],
    ['sizes/2048', 4_102_444_800],
    ['links/dot', 1_000_000_000],
    ['modes/sticky', 1_234_567_890],
  ] as const)
    await lutimes(join(path, name), seconds, seconds)
}

/** What a tree holds, a line for each path. */
export type IsoListing = ReadonlyMap<string, string>

interface Facts {
  readonly kind: string
  readonly mode: number
  readonly owner: string
  readonly links: number
  readonly size: number
  readonly mtime: number
}

/** One line of facts. Of a directory neither links nor size are told: writers count them in their own ways. */
export const isoLine = (facts: Facts, content: string): string => {
  const { kind, mode, owner, links, size, mtime } = facts
  const counted = kind === 'directory' ? '' : `${links} ${size}`
  return `${kind} ${kind === 'symlink' ? '' : mode.toString(8)} ${owner} ${mtime} ${counted} ${content}`
}

const kindOf = (stats: Awaited<ReturnType<typeof lstat>>): Stat['kind'] =>
  stats.isDirectory()
    ? 'directory'
    : stats.isSymbolicLink()
      ? 'symlink'
      : stats.isFile()
        ? 'file'
        : stats.isBlockDevice()
          ? 'block'
          : stats.isCharacterDevice()
            ? 'character'
            : stats.isFIFO()
              ? 'fifo'
              : 'socket'

/** What a directory of this computer holds, as the operating system tells it. */
export const listTree = async (path: string): Promise<IsoListing> => {
  const found = new Map<string, string>()
  const visit = async (name: string): Promise<void> => {
    const full = join(path, name)
    const stats = await lstat(full)
    const kind = kindOf(stats)
    let content = ''
    if (kind === 'symlink') content = await readlink(full)
    if (kind === 'file') content = sha256(await readFile(full))
    if (kind === 'block' || kind === 'character') content = `${stats.rdev >>> 8}:${stats.rdev & 0xff}`
    const facts: Facts = {
      kind,
      mode: stats.mode & 0o7777,
      owner: `${stats.uid}:${stats.gid}`,
      links: stats.nlink,
      size: kind === 'block' || kind === 'character' ? 0 : stats.size,
      mtime: Math.floor(stats.mtimeMs / 1000),
    }
    found.set(name, isoLine(facts, content))
    if (kind === 'directory') for (const child of await readdir(full)) await visit(join(name, child))
  }
  await visit('/')
  return found
}

/** The same of an open filesystem. */
export const listFs = async (
  fs: FileSystem,
  line: (stat: Stat, content: string) => string = (stat, content) =>
    isoLine({ ...stat, owner: `${stat.uid}:${stat.gid}`, links: stat.linkCount }, content),
): Promise<IsoListing> => {
  const found = new Map<string, string>()
  const visit = async (name: string): Promise<void> => {
    const stat = await fs.stat(name)
    let content = ''
    if (stat.kind === 'symlink') content = await fs.readLink(name)
    if (stat.kind === 'file') {
      const file = await fs.open(name)
      content = sha256(await file.read(0, file.size))
    }
    if (stat.device) content = `${stat.device.major}:${stat.device.minor}`
    found.set(name, line(stat, content))
    if (stat.kind === 'directory') for (const child of await fs.list(name)) await visit(join(name, child.name))
  }
  await visit('/')
  return found
}

/** Where two listings differ, a few lines, so that a failure can be read. */
export const differences = (ours: IsoListing, theirs: IsoListing): readonly string[] => {
  const found: string[] = []
  for (const [path, line] of theirs)
    if (ours.get(path) !== line) found.push(`${path}\n  theirs: ${line}\n  ours:   ${ours.get(path) ?? 'nothing'}`)
  for (const [path, line] of ours) if (!theirs.has(path)) found.push(`${path}\n  theirs: nothing\n  ours:   ${line}`)
  return found.slice(0, 20)
}
