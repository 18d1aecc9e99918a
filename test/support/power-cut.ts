import { link, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { WritableDevice } from '../../src/block/device.js'
import type { GrowingFile } from '../../src/block/file.js'
import { FAT_MAX_FILE, type Folder, type FolderTraits } from '../../src/host/folder.js'

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

const FAT: FolderTraits = { kind: 'fat', atomicRename: false, maxFileSize: FAT_MAX_FILE, holes: false }

/** Faults that make a writer wrong, to prove that a test can fail. */
export interface Faults {
  /** flushes of files say done and do nothing */
  readonly noFlush?: boolean
  /** syncs of folders say done and do nothing */
  readonly noSync?: boolean
}

/**
 * A folder that does everything for real and writes each step into one log. `before` may throw, as a full stick would.
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
      await file.flush()
    },
    close: () => file.close(),
  })
  return {
    ...real,
    traits: kind === 'fat' ? FAT : real.traits,
    async create(name) {
      note({ kind: 'create', folder: index, name })
      const file: GrowingFile = await real.create(name)
      return Object.defineProperties({} as GrowingFile, {
        ...Object.getOwnPropertyDescriptors(writable(name, file)),
        path: { value: file.path },
        truncate: {
          value: async (size: number) => {
            note({ kind: 'truncate', folder: index, name, size })
            await file.truncate(size)
          },
        },
      })
    },
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
      await real.sync()
    },
  }
}

interface Inode {
  durable: Uint8Array
  pending: Extract<Step, { kind: 'write' | 'truncate' }>[]
}

/** Names to inodes; two names may have one inode. */
type Names = Map<string, Inode>

/** What a folder holds. */
export type Content = ReadonlyMap<string, Uint8Array>

/** A medium that a power cut could leave: the folders with their files; `shared` lists names on one cluster chain. */
export interface Medium {
  readonly folders: readonly { readonly files: Content; readonly shared: readonly (readonly string[])[] }[]
  readonly cut: number
}

/** Files of a directory. */
export const contentOf = async (path: string): Promise<Map<string, Uint8Array>> => {
  const files = new Map<string, Uint8Array>()
  for (const name of (await readdir(path)).sort()) files.set(name, new Uint8Array(await readFile(join(path, name))))
  return files
}

/** What a lost write leaves where the file was grown by others: whatever was on the medium. */
const DIRT = 0x5a

const apply = (inode: Inode, keep: (index: number, count: number) => boolean | 'half', grown: boolean): Uint8Array => {
  const { durable, pending } = inode
  const end = pending.reduce(
    (size, step) => (step.kind === 'truncate' ? step.size : Math.max(size, step.offset + step.bytes.length)),
    durable.length,
  )
  const kept = pending.map((_, index) => keep(index, pending.length))
  const reach = pending.reduce(
    (size, step, index) =>
      !kept[index] ? size : step.kind === 'truncate' ? step.size : Math.max(size, step.offset + step.bytes.length),
    durable.length,
  )
  const bytes = new Uint8Array(grown ? Math.max(end, reach) : reach).fill(DIRT)
  bytes.set(durable.subarray(0, bytes.length))
  // what a truncate adds is a hole, or zeroed by the filesystem; only what was to be written there may be dirty
  for (const [index, step] of pending.entries())
    if (step.kind === 'truncate' && kept[index]) bytes.fill(0, durable.length, Math.max(durable.length, step.size))
  for (const [index, step] of pending.entries())
    if (step.kind === 'write' && kept[index] !== true)
      bytes.fill(DIRT, Math.max(durable.length, step.offset), Math.max(durable.length, step.offset + step.bytes.length))
  for (const [index, step] of pending.entries()) {
    const how = kept[index]
    if (!how || step.kind === 'truncate') continue
    // sectors are whole, but a write of several may be cut between two of them
    const part =
      how === 'half' ? step.bytes.subarray(0, Math.max(512, Math.floor(step.bytes.length / 1024) * 512)) : step.bytes
    if (step.offset + part.length <= bytes.length) bytes.set(part, step.offset)
  }
  return bytes
}

/** Choices over the writes of a file that were not flushed: all lost, all there, only the last, all but the first, the last cut in half. */
const CHOICES: readonly ((index: number, count: number) => boolean | 'half')[] = [
  () => false,
  () => true,
  (index, count) => index === count - 1,
  index => index !== 0,
  (index, count) => (index === count - 1 ? 'half' : true),
]

type NameStep = Extract<Step, { kind: 'create' | 'rename' | 'link' | 'unlink' }>

const takeName = (names: Names, step: NameStep, made: Map<NameStep, Inode>, half: boolean): void => {
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

/** Every medium that a cut in the log could leave, each state once. */
export function* powerCuts(initial: readonly Content[], log: readonly Step[], kind: Kind): Generator<Medium> {
  const seen = new Set<string>()
  for (let cut = 0; cut <= log.length; cut++) {
    const inodes: Inode[] = []
    const made = new Map<NameStep, Inode>()
    const folders = initial.map(files => {
      const names: Names = new Map()
      for (const [name, bytes] of files) {
        const inode: Inode = { durable: bytes, pending: [] }
        inodes.push(inode)
        names.set(name, inode)
      }
      return { durable: names, live: new Map(names), pending: [] as NameStep[] }
    })
    for (const step of log.slice(0, cut)) {
      const folder = folders[step.folder]!
      if (step.kind === 'write' || step.kind === 'truncate') folder.live.get(step.name)!.pending.push(step)
      else if (step.kind === 'flush') {
        const inode = folder.live.get(step.name)!
        inode.durable = apply(inode, () => true, true)
        inode.pending = []
      } else if (step.kind === 'sync') {
        for (const name of folder.pending.splice(0)) takeName(folder.durable, name, made, false)
      } else {
        if (step.kind === 'create') {
          const inode: Inode = { durable: new Uint8Array(0), pending: [] }
          inodes.push(inode)
          made.set(step, inode)
        }
        takeName(folder.live, step, made, false)
        folder.pending.push(step)
      }
    }
    const nameChoices = folders.reduce((most, folder) => Math.max(most, folder.pending.length), 0)
    for (let kept = 0; kept <= nameChoices; kept++)
      for (const half of kind === 'fat' && kept > 0 ? [false, true] : [false])
        for (const choice of CHOICES)
          for (const grown of [true, false]) {
            const medium = folders.map(({ durable, pending }) => {
              const names: Names = new Map(durable)
              const steps = pending.slice(0, kept)
              for (const [index, step] of steps.entries())
                takeName(names, step, made, half && index === steps.length - 1)
              const bytes = new Map<Inode, Uint8Array>()
              for (const inode of names.values()) bytes.set(inode, apply(inode, choice, grown))
              const groups = new Map<Inode, string[]>()
              for (const [name, inode] of names) groups.set(inode, [...(groups.get(inode) ?? []), name])
              return {
                files: new Map([...names].map(([name, inode]) => [name, bytes.get(inode)!])),
                shared: [...groups.values()].filter(group => group.length > 1),
              }
            })
            const key = medium
              .map(
                ({ files, shared }) =>
                  [...files]
                    .map(([name, b]) => `${name}:${b.length}:${fingerprint(b)}`)
                    .sort()
                    .join() + JSON.stringify(shared),
              )
              .join('|')
            if (seen.has(key)) continue
            seen.add(key)
            yield { folders: medium, cut }
          }
  }
}

const known = new WeakMap<Uint8Array, number>()

/** FNV-1a over the bytes: states are told apart, not attackers kept out. */
const fingerprint = (bytes: Uint8Array): number => {
  const before = known.get(bytes)
  if (before !== undefined) return before
  let hash = 0x811c9dc5
  for (let n = 0; n < bytes.length; n++) hash = Math.imul(hash ^ bytes[n]!, 0x01000193)
  known.set(bytes, hash)
  return hash
}

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
