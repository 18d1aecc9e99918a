import { isLiveError } from '../error.js'
import type { Stat, Xattr } from '../fs/filesystem.js'
import { encodeName } from '../fs/name.js'
import { findTool, startFed } from '../host/process.js'
import type { CopyFindings } from './copy-findings.js'

/** What is kept of owners, modes and attributes. */
export interface Keeping {
  /** owners and groups, by number; only root can */
  readonly owners: boolean
  readonly setUid: boolean
  readonly devices: boolean
  readonly xattrs: boolean
  /** false on filesystems without them */
  readonly modes: boolean
}

const SET_IDS = 0o6000

/** The mode that a copy gets. */
export const modeFor = ({ mode }: Stat, { setUid }: Keeping): number => (setUid ? mode : mode & ~SET_IDS)

let callerIds: { readonly uid: number; readonly gid: number } | undefined
/** Whom new files belong to. Asked once: a process that changes it in the middle of a copy is no matter of ours. */
const caller = (): { readonly uid: number; readonly gid: number } => {
  callerIds ??= { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 }
  return callerIds
}

/** Tells what the copy of an inode does not keep of it. */
export const tellLost = (stat: Stat, path: string, keeping: Keeping, findings: CopyFindings): void => {
  if (!keeping.modes) {
    findings.lose('MODES_NOT_KEPT', 'the target keeps no owners and modes', path, 'note')
    return
  }
  if (stat.mode & SET_IDS && !keeping.setUid && stat.kind !== 'symlink')
    // who asked for them and can't have them is told that once, as of the owners
    findings.lose('SET_UID_NOT_KEPT', 'set-uid or set-gid bits were left out', path, 'note')
  if (keeping.owners) return
  const { uid, gid } = caller()
  if (stat.uid !== uid || stat.gid !== gid)
    findings.lose('OWNERS_NOT_KEPT', `files belong to ${uid}:${gid} now`, path, 'note')
}

/**
 * A time for Node's utimes: it takes seconds as a number, keeps microseconds of it, and takes negative numbers only as text.
 * Half a microsecond further from 0, so that cutting gives the microsecond that is meant.
 */
export const hostTime = ({ mtime, mtimeNanoseconds }: Stat): number | string => {
  const seconds = mtime + (Math.floor(mtimeNanoseconds / 1000) + (mtime < 0 ? -0.5 : 0.5)) / 1e6
  return seconds < 0 ? seconds.toFixed(7) : seconds
}

/** Paths and names of setfattr's input: what is no plain character is octal. */
const escaped = (bytes: Uint8Array): string =>
  [...bytes]
    .map(byte =>
      byte > 0x20 && byte < 0x7f && byte !== 0x5c && byte !== 0x3d
        ? String.fromCharCode(byte)
        : `\\${byte.toString(8).padStart(3, '0')}`,
    )
    .join('')

/** A file whose attributes wait to be set. */
interface Waiting {
  readonly at: Uint8Array
  readonly path: string
  readonly xattrs: readonly Xattr[]
  readonly after: () => Promise<void>
}

/** Extended attributes are set by `setfattr`, for many files at a time: Node can't set them. */
export interface XattrSetter {
  /** `after` runs when the attributes are set, or could not be */
  add(at: Uint8Array, path: string, xattrs: readonly Xattr[], after: () => Promise<void>): void
  /** true where so many wait that they should be set: each keeps its directory open */
  readonly isFull: boolean
  /** sets all that waits, also what is added meanwhile */
  flush(): Promise<void>
  /** gives up what waits; `after` runs all the same */
  drop(): Promise<void>
}

const BATCH = 256
const BATCH_BYTES = 1 << 20
/** So many files one behind the other that take no attributes: then the target takes none. */
const REFUSALS = 32

export const xattrSetter = (findings: CopyFindings, signal: AbortSignal | undefined): XattrSetter => {
  const waiting: Waiting[] = []
  let bytes = 0
  let refusals = 0

  const run = async (batch: readonly Waiting[]): Promise<void> => {
    const text = batch
      .map(({ at, xattrs }) =>
        [
          `# file: ${escaped(at)}`,
          ...xattrs.map(({ name, value }) => `${escaped(encodeName(name))}=0x${Buffer.from(value).toString('hex')}`),
          '',
        ].join('\n'),
      )
      .join('\n')
    const tool = await startFed('setfattr', ['-h', '--restore=-'], signal)
    await tool.write(Buffer.from(`${text}\n`))
    await tool.finish()
  }
  /** One by one where some of many failed, so that it is known which. */
  const set = async (batch: readonly Waiting[]): Promise<void> => {
    try {
      if (refusals < REFUSALS) {
        await run(batch)
        refusals = 0
        return
      }
    } catch (error) {
      if (!isLiveError(error) || error.code === 'CANCELLED') throw error
      if (batch.length > 1) {
        const half = batch.length >> 1
        await set(batch.slice(0, half))
        await set(batch.slice(half))
        return
      }
      refusals++
    }
    for (const { path, xattrs } of batch) {
      const names = xattrs.map(({ name }) => name).join(', ')
      findings.lose('XATTRS_NOT_SET', `the target does not take extended attributes such as ${names}`, path)
    }
  }
  return {
    add(at, path, xattrs, after) {
      waiting.push({ at, path, xattrs, after })
      for (const { value } of xattrs) bytes += value.length * 2
    },
    get isFull() {
      return waiting.length >= BATCH || bytes >= BATCH_BYTES
    },
    async flush() {
      while (waiting.length > 0) {
        const batch = waiting.splice(0, BATCH)
        bytes = 0
        try {
          await set(batch)
        } catch (error) {
          for (const { after } of batch) await after().catch(() => undefined)
          throw error
        }
        for (const { after } of batch) await after()
      }
    },
    async drop() {
      for (let next = waiting.pop(); next; next = waiting.pop()) await next.after().catch(() => undefined)
    },
  }
}

/** The attributes that may be set; tells of the others. Users may set `user.` ones and ACLs of their own files. */
export const settable = (
  xattrs: readonly Xattr[],
  path: string,
  { owners }: Keeping,
  findings: CopyFindings,
): readonly Xattr[] =>
  xattrs.filter(({ name }) => {
    const may =
      process.getuid?.() === 0
        ? owners || !/^(trusted|security\.capability)/.test(name)
        : /^user\.|^system\.posix_acl_/.test(name)
    if (!may) {
      const prefix = /^security\.|^trusted\./.exec(name)?.[0] === 'trusted.' ? 'trusted.*' : name
      findings.lose(`XATTR_NOT_KEPT ${prefix}`, `the extended attribute ${prefix} was left out`, path)
    }
    return may
  })

/** True where the program that sets attributes is installed. */
export const canSetXattrs = async (): Promise<boolean> => (await findTool('setfattr')) !== undefined
