import { createHash } from 'node:crypto'
import { link, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { WritableDevice } from '../../src/block/device.js'
import type { GrowingFile } from '../../src/block/file.js'
import { FAT_MAX_FILE, type Folder, type FolderTraits } from '../../src/host/folder.js'
import { random } from './random.js'

/** A step that a writer took, as the medium would see it. `folder` counts the folders under test. */
export type Step =
  | { readonly kind: 'create'; readonly folder: number; readonly name: string }
  | {
      readonly kind: 'write'
      readonly folder: number
      readonly name: string
      readonly offset: number
      readonly bytes: Uint8Array
    }
  | { readonly kind: 'truncate'; readonly folder: number; readonly name: string; readonly size: number }
  | { readonly kind: 'flush'; readonly folder: number; readonly name: string }
  | { readonly kind: 'rename' | 'link'; readonly folder: number; readonly from: string; readonly to: string }
  | { readonly kind: 'unlink'; readonly folder: number; readonly name: string }
  | { readonly kind: 'sync'; readonly folder: number }

/** How a filesystem keeps names: with atomic renames and hard links, or as FAT does. */
export type Kind = 'posix' | 'fat'
export const KINDS: readonly Kind[] = ['posix', 'fat']

const FAT: FolderTraits = { kind: 'fat', atomicRename: false, maxFileSize: FAT_MAX_FILE, holes: false }

/** Faults that make a writer wrong, to prove that a test can fail. */
export interface Faults {
  /** flushes of files say done and do nothing */
  readonly noFlush?: boolean
  /** syncs of folders say done and do nothing */
  readonly noSync?: boolean
}

/**
 * A folder that does everything for real and writes each step into one log. `before` may throw, as a full stick would. Only
 * flushing is left out, as media are rebuilt from the log, and attributes, which cost a process each time.
 */
export const recordingFolder = (
  real: Folder,
  index: number,
  kind: Kind,
  log: Step[],
  faults: Faults = {},
  before: (step: Step) => void = () => {},
): Folder => {
  const note = (step: Step): void => {
    before(step)
    if ((step.kind === 'flush' && faults.noFlush) || (step.kind === 'sync' && faults.noSync)) return
    log.push(step)
  }
  const writable = <T extends WritableDevice>(name: string, file: T) => ({
    name: file.name,
    get size() {
      return file.size
    },
    read: (offset: number, length: number) => file.read(offset, length),
    async write(offset: number, bytes: Uint8Array) {
      note({ kind: 'write', folder: index, name, offset, bytes: bytes.slice() })
      await file.write(offset, bytes)
    },
    async flush() {
      note({ kind: 'flush', folder: index, name })
    },
    close: () => file.close(),
  })
  const growing = (name: string, file: GrowingFile): GrowingFile =>
    Object.defineProperties({} as GrowingFile, {
      ...Object.getOwnPropertyDescriptors(writable(name, file)),
      path: { value: file.path },
      truncate: {
        value: async (size: number) => {
          note({ kind: 'truncate', folder: index, name, size })
          await file.truncate(size)
        },
      },
    })
  return {
    ...real,
    traits: kind === 'fat' ? FAT : real.traits,
    async create(name) {
      note({ kind: 'create', folder: index, name })
      return growing(name, await real.create(name))
    },
    openGrowing: async name => growing(name, await real.openGrowing(name)),
    openWritable: async name =>
      Object.defineProperties(
        {} as WritableDevice,
        Object.getOwnPropertyDescriptors(writable(name, await real.openWritable(name))),
      ),
    async rename(from, to) {
      note({ kind: 'rename', folder: index, from, to })
      await real.rename(from, to)
    },
    async link(from, to) {
      if (kind === 'fat') throw new Error('FAT has no hard links')
      note({ kind: 'link', folder: index, from, to })
      await real.link(from, to)
    },
    async unlink(name) {
      note({ kind: 'unlink', folder: index, name })
      await real.unlink(name)
    },
    async sync() {
      note({ kind: 'sync', folder: index })
    },
    copyAttributes: async () => [],
  }
}

type DataStep = Extract<Step, { kind: 'write' | 'truncate' }>

interface Inode {
  durable: Uint8Array
  pending: DataStep[]
}

/** Names to inodes; two names may have one inode. */
type Names = Map<string, Inode>

/** What a folder holds. Names with the very same array are names of one file. */
export type Content = ReadonlyMap<string, Uint8Array>

/** A medium that a power cut could leave: the folders with their files; `shared` lists names of one file, or on one cluster chain. */
export interface Medium {
  readonly folders: readonly { readonly files: Content; readonly shared: readonly (readonly string[])[] }[]
  /** steps that were begun */
  readonly cut: number
  /** equal for equal media */
  readonly key: string
}

/** Files of a directory. */
export const contentOf = async (path: string): Promise<Map<string, Uint8Array>> => {
  const files = new Map<string, Uint8Array>()
  for (const name of (await readdir(path)).sort()) files.set(name, new Uint8Array(await readFile(join(path, name))))
  return files
}

/** What lies where nothing that was written has arrived: whatever was on the medium before. */
const DIRT = 0x5a
const SECTOR = 512

/** Which writes that were not flushed are on the medium: all of one, none of it, or its first sectors. */
type Kept = (step: DataStep) => boolean | number

const all: Kept = () => true

const endOf = (step: DataStep, before: number): number =>
  step.kind === 'truncate' ? step.size : Math.max(before, step.offset + step.bytes.length)

/**
 * The bytes of a file after a cut.
 *
 * @param grown  the size in the directory is the last one, whatever of the data has arrived
 */
const afterCut = ({ durable, pending }: Inode, kept: Kept, grown: boolean, kind: Kind): Uint8Array => {
  if (pending.length === 0) return durable
  const size = pending
    .filter(step => grown || kept(step) !== false)
    .reduce((end, step) => endOf(step, end), durable.length)
  const bytes = new Uint8Array(size).fill(DIRT)
  bytes.set(durable.subarray(0, size))
  // what a truncate adds is a hole where there are holes; on FAT the kernel writes zeros, which are lost like other data
  const zeroed = kind === 'posix' || pending.every(step => kept(step) === true)
  let end = durable.length
  for (const step of pending) {
    if (step.kind === 'truncate') {
      if (!zeroed || !kept(step)) continue
      bytes.fill(0, Math.min(size, end, step.size), step.size > end ? Math.min(size, step.size) : size)
      end = step.size
      continue
    }
    end = Math.max(end, step.offset + step.bytes.length)
    const how = kept(step)
    const part = how === false ? 0 : how === true ? step.bytes.length : Math.min(step.bytes.length, how * SECTOR)
    const lost = Math.max(durable.length, step.offset + part)
    if (lost < step.offset + step.bytes.length) bytes.fill(DIRT, lost, step.offset + step.bytes.length)
    const fits = step.bytes.subarray(0, Math.min(part, Math.max(0, size - step.offset)))
    bytes.set(fits, Math.min(size, step.offset))
  }
  return bytes
}

/** Above so many writes that were not flushed, their subsets are drawn and not all tried. */
const MOST = 10
const DRAWN = 64

/** Subsets of the writes that were not flushed, and writes cut between two sectors while the others are there. */
function* choices(pending: readonly DataStep[], below: (limit: number) => number): Generator<Kept> {
  const subset = (has: (index: number) => boolean): Kept => {
    const kept = new Set(pending.filter((_, index) => has(index)))
    return step => kept.has(step)
  }
  if (pending.length <= MOST)
    for (let mask = 0; mask < 2 ** pending.length; mask++) yield subset(index => (mask & (1 << index)) !== 0)
  else {
    yield subset(() => true)
    yield subset(() => false)
    for (let n = 0; n < DRAWN; n++) yield subset(() => below(2) === 0)
  }
  for (const cut of pending) {
    const sectors = cut.kind === 'write' ? Math.ceil(cut.bytes.length / SECTOR) : 0
    const ends = new Set([1, sectors - 1, 1 + below(Math.max(1, sectors - 1))])
    for (const end of ends) if (end > 0 && end < sectors) yield step => (step === cut ? end : true)
  }
}

type NameStep = Extract<Step, { kind: 'create' | 'rename' | 'link' | 'unlink' }>

const takeName = (names: Names, step: NameStep, made: ReadonlyMap<NameStep, Inode>, half: boolean): void => {
  if (step.kind === 'create') names.set(step.name, made.get(step)!)
  else if (step.kind === 'unlink') names.delete(step.name)
  else {
    const inode = names.get(step.from)
    if (!inode) return
    names.set(step.to, inode)
    // on FAT a rename writes the new name and then takes the old one away
    if (step.kind === 'rename' && !half) names.delete(step.from)
  }
}

interface Directory {
  readonly durable: Names
  readonly live: Names
  pending: NameStep[]
}

/** Folders as they are after the first steps of a log. */
const replay = (initial: readonly Content[], steps: readonly Step[], kind: Kind) => {
  const made = new Map<NameStep, Inode>()
  const folders = initial.map((files): Directory => {
    const known = new Map<Uint8Array, Inode>()
    const durable: Names = new Map()
    for (const [name, bytes] of files) {
      const inode = known.get(bytes) ?? { durable: bytes, pending: [] }
      known.set(bytes, inode)
      durable.set(name, inode)
    }
    return { durable, live: new Map(durable), pending: [] }
  })
  for (const step of steps) {
    const folder = folders[step.folder]!
    if (step.kind === 'write' || step.kind === 'truncate') folder.live.get(step.name)!.pending.push(step)
    else if (step.kind === 'flush') {
      const inode = folder.live.get(step.name)!
      inode.durable = afterCut(inode, all, true, kind)
      inode.pending = []
    } else if (step.kind === 'sync')
      for (const name of folder.pending.splice(0)) takeName(folder.durable, name, made, false)
    else {
      if (step.kind === 'create') made.set(step, { durable: new Uint8Array(0), pending: [] })
      takeName(folder.live, step, made, false)
      folder.pending.push(step)
    }
  }
  return { folders, made }
}

/** Names that a cut may leave: any number of the first changes that were not synced; on FAT the last of them half done. */
const nameChoices = ({ durable, pending }: Directory, made: ReadonlyMap<NameStep, Inode>, kind: Kind): Names[] => {
  const found: Names[] = []
  for (let kept = 0; kept <= pending.length; kept++)
    for (const half of kind === 'fat' && pending[kept - 1]?.kind === 'rename' ? [true, false] : [false]) {
      const names: Names = new Map(durable)
      for (const [index, step] of pending.slice(0, kept).entries())
        takeName(names, step, made, half && index === kept - 1)
      found.push(names)
    }
  return found
}

function* product<T>(lists: readonly (readonly T[])[]): Generator<readonly T[]> {
  const [first, ...rest] = lists
  if (!first) return yield []
  for (const value of first) for (const others of product(rest)) yield [value, ...others]
}

/** `LIVEOS_ALL_CUTS=1`, as CI sets it, tries all media; otherwise tests take turns, and each run tries others. */
const ALL_CUTS = process.env.LIVEOS_ALL_CUTS === '1'

/** Says of one medium after the other whether it is tried: one in `share`, begun at where the seed says; or all of them. */
export const turns = (share: number, seed: number): (() => boolean) => {
  let turn = seed % share
  return () => ALL_CUTS || turn++ % share === 0
}

/** The same media in an order in which rare kinds come early: every n-th first, then those after them. */
export function* interleaved<T>(media: () => Iterable<T>, stride: number): Generator<T> {
  for (let first = 0; first < stride; first++) {
    let n = 0
    for (const medium of media()) if (n++ % stride === first) yield medium
  }
}

/**
 * Every medium that a cut in the log could leave, each once.
 *
 * @param seed  for what is drawn, see `choices`
 * @param from  steps after which the first cut comes
 */
export function* powerCuts(
  initial: readonly Content[],
  log: readonly Step[],
  kind: Kind,
  seed = 1,
  from = 0,
): Generator<Medium> {
  const seen = new Set<string>()
  const { below } = random(seed)
  for (let cut = from; cut <= log.length; cut++) {
    const { folders, made } = replay(initial, log.slice(0, cut), kind)
    const named = folders.flatMap(({ durable, live }) => [...durable.values(), ...live.values()])
    const inodes = new Set([...named, ...made.values()])
    const pending = [...inodes].flatMap(inode => inode.pending)
    for (const kept of choices(pending, below))
      for (const grown of pending.length > 0 ? [true, false] : [true]) {
        const bytes = new Map([...inodes].map(inode => [inode, afterCut(inode, kept, grown, kind)]))
        for (const chosen of product(folders.map(folder => nameChoices(folder, made, kind)))) {
          const medium = chosen.map(names => ({
            files: new Map([...names].map(([name, inode]) => [name, bytes.get(inode)!])),
            shared: groupsOf(names),
          }))
          const key = keyOf(medium)
          if (seen.has(key)) continue
          seen.add(key)
          yield { folders: medium, cut, key }
        }
      }
  }
}

/** What a program that is killed after these steps leaves, with nothing lost: the kernel still has it all. */
export const afterKill = (initial: readonly Content[], steps: readonly Step[], kind: Kind): Medium => {
  const folders = replay(initial, steps, kind).folders.map(({ live }) => {
    const bytes = new Map([...live.values()].map(inode => [inode, afterCut(inode, all, true, kind)]))
    return { files: new Map([...live].map(([name, inode]) => [name, bytes.get(inode)!])), shared: groupsOf(live) }
  })
  return { folders, cut: steps.length, key: keyOf(folders) }
}

const groupsOf = (names: Names): readonly (readonly string[])[] => {
  const groups = new Map<Inode, string[]>()
  for (const [name, inode] of names) groups.set(inode, [...(groups.get(inode) ?? []), name])
  return [...groups.values()].filter(group => group.length > 1)
}

const hashes = new WeakMap<Uint8Array, string>()

/** SHA-1 of some bytes, counted once for each array. */
export const hashOf = (bytes: Uint8Array): string => {
  let hash = hashes.get(bytes)
  if (hash === undefined) {
    hash = createHash('sha1').update(bytes).digest('base64')
    hashes.set(bytes, hash)
  }
  return hash
}

const keyOf = (folders: Medium['folders']): string =>
  JSON.stringify(
    folders.map(({ files, shared }) => [[...files].map(([name, bytes]) => [name, hashOf(bytes)]).sort(), shared]),
  )

/** Lays a medium's folder out in a fresh directory; names on one chain become hard links. */
export const layOut = async (path: string, { files, shared }: Medium['folders'][number]): Promise<void> => {
  await rm(path, { recursive: true, force: true })
  await mkdir(path, { recursive: true })
  for (const [name, bytes] of files) {
    const first = shared.find(group => group.includes(name))?.[0]
    if (first !== undefined && first !== name) await link(join(path, first), join(path, name))
    else await writeFile(join(path, name), bytes)
  }
}
