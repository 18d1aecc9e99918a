import { randomBytes } from 'node:crypto'
import { closeSync, fchmodSync, fchownSync, futimesSync } from 'node:fs'
import { openSpare } from '../bytes/spare.js'
import { isLiveError, LiveError } from '../error.js'
import { hasXattrs } from '../fs/filesystem.js'
import { encodeName, printableName } from '../fs/name.js'
import type { FolderTraits } from '../host/folder.js'
import { canSetXattrs, hostTime, type Keeping, modeFor, tellLost, xattrSetter } from './copy-attributes.js'
import { type CopyCounts, type CopyFindings, noCounts } from './copy-findings.js'
import { hostName } from './copy-names.js'
import { enterPlace, obstacle, openTarget, type Place, shownPath } from './copy-place.js'
import {
  type Into,
  type Made,
  OBSTACLES,
  type Putting,
  putHardLink,
  putSpecial,
  putSymlink,
  tell,
  tellObstacle,
  tellOrThrow,
  xattrsFor,
} from './copy-put.js'
import { putFile } from './copy-put-file.js'
import { type CopyItem, type CopySource, hardLinks } from './copy-source.js'
import { isFatal } from './copy-write.js'
import { openWriter, type WriterOptions } from './copy-writer.js'

/** How a tree is put into a directory. */
export interface DirectoryCopy {
  readonly source: CopySource
  readonly to: string
  readonly keeping: Keeping
  readonly overwrite: boolean
  readonly keepPartial: boolean
  readonly traits: FolderTraits
  readonly findings: CopyFindings
  readonly signal: AbortSignal | undefined
  /** of the thread that writes; another than usual only in tests */
  readonly writing?: WriterOptions | undefined
  onBytes(bytes: number): void
}

/** Files being read at a time; each holds two pieces of 1 MiB at most. */
const FILES_AT_ONCE = 8

/** A directory of the target that things are being put into. It gets its attributes when the last of them let it go. */
interface OpenDirectory extends Into {
  readonly place: Place
  /** what it is a copy of; undefined for one that only leads to others */
  item: CopyItem | undefined
}

/** A level of the source's tree; nothing below it is copied where there is no directory for it. */
interface Level {
  readonly names: readonly string[]
  readonly open: OpenDirectory | undefined
}

/** Work of which at most FILES_AT_ONCE run, and what follows of it. After a failure none starts. */
const crew = (onFailure: () => void) => {
  let running = 0
  let following = 0
  let wake = (): void => {}
  const oneEnds = (): Promise<void> => new Promise(resolve => (wake = resolve))
  let failed: { readonly error: unknown } | undefined
  const failWith = (error: unknown): void => {
    failed ??= { error }
    onFailure()
  }
  const run = async (work: () => Promise<void>): Promise<void> => {
    try {
      await work()
    } catch (error) {
      failWith(error)
    } finally {
      running--
      wake()
    }
  }
  return {
    failWith,
    check(): void {
      if (failed) throw failed.error
    },
    async start(work: () => Promise<void>): Promise<void> {
      while (running >= FILES_AT_ONCE) await oneEnds()
      running++
      void run(work)
    },
    /** Waits for nobody to be fewer: what was begun is to be ended. */
    async follow(work: () => Promise<void>): Promise<void> {
      following++
      try {
        await work()
      } catch (error) {
        failWith(error)
      } finally {
        following--
        wake()
      }
    },
    async settle(): Promise<void> {
      while (running > 0 || following > 0) await oneEnds()
    },
  }
}

/**
 * Copies a tree into a directory. What is large, or may meet something of its name, is written under a name that starts with
 * `.liveos-part` and renamed when it is whole; small files in directories that this copy made get their name at once. Directories
 * get their mode and time when all is in them.
 *
 * @throws NO_SPACE, IO, READ_ONLY  of the target, after which nothing more could be written; CANCELLED
 */
export const copyToDirectory = async (copy: DirectoryCopy): Promise<CopyCounts> => {
  const { source, keeping, overwrite, findings, traits } = copy
  const { from } = source
  const stop = new AbortController()
  const abort = (): void => stop.abort(copy.signal?.reason)
  copy.signal?.addEventListener('abort', abort)
  if (copy.signal?.aborted) abort()
  const token = randomBytes(4).toString('hex')
  let parts = 0
  const writer = openWriter(copy.writing)
  stop.signal.addEventListener('abort', () => writer.stop())
  const files = crew(() => stop.abort())
  const setsXattrs = keeping.xattrs && hasXattrs(from) && (await canSetXattrs())
  const putting: Putting = {
    ...copy,
    from,
    setsXattrs,
    counts: noCounts(),
    setter: xattrSetter(findings, stop.signal),
    writer,
    fail: error => files.failWith(error),
    signal: stop.signal,
    spare: openSpare(),
    partName: () => Buffer.from(`.liveos-part-${token}-${parts++}`),
  }
  const { counts, setter } = putting
  if (hasXattrs(from) && !setsXattrs)
    findings.add({
      code: 'XATTRS_NOT_KEPT',
      severity: 'note',
      where: copy.to,
      message: keeping.xattrs
        ? 'extended attributes were left out: the program setfattr is missing, install the package attr'
        : 'extended attributes (ACLs, file capabilities, security labels) were left out: --xattrs copies them',
    })

  const finish = ({ place, item }: OpenDirectory): void => {
    try {
      if (!item || !(place.isFresh || overwrite)) return
      if (keeping.owners) fchownSync(place.fd, item.stat.uid, item.stat.gid)
      if (keeping.modes) fchmodSync(place.fd, modeFor(item.stat, keeping))
      const time = hostTime(item.stat)
      futimesSync(place.fd, time, time)
    } catch (error) {
      tellOrThrow(putting, error, item!.path, shownPath(place.path))
    } finally {
      closeSync(place.fd)
    }
  }
  const opened = (place: Place, item: CopyItem | undefined): OpenDirectory => {
    let holders = 1
    const open: OpenDirectory = {
      place,
      item,
      hold: () => void holders++,
      async letGo() {
        if (--holders > 0) return
        writer.forget(place.id)
        const isOurs = open.item !== undefined && (place.isFresh || overwrite)
        const xattrs = isOurs && !stop.signal.aborted ? await xattrsFor(putting, open.item!) : []
        if (xattrs.length === 0) finish(open)
        else setter.add(place.atForTools(Buffer.from('.')), open.item!.path, xattrs, async () => finish(open))
      },
    }
    return open
  }
  const targetName = (name: string, { path }: CopyItem): Uint8Array => {
    const host = hostName(encodeName(name), traits.kind)
    if (host.changed) {
      const code = host.changed === 'escaped' ? 'NAME_ESCAPED' : 'NAME_SHORTENED'
      tell(putting, code, path, `the target can't hold this name, it is ${shownPath(host.name)} there`, 'warning')
    }
    return host.name
  }

  /** @param own  the directory is a copy of the item, and does not only lead to it */
  const enter = (
    parent: OpenDirectory | undefined,
    name: string,
    item: CopyItem,
    own: boolean,
  ): OpenDirectory | undefined => {
    if (!parent) return undefined
    try {
      const entered = enterPlace(parent.place, targetName(name, item))
      if ('refused' in entered) {
        tell(putting, 'NOT_COPIED', item.path, `${entered.refused}; nothing below it was copied`)
        return undefined
      }
      if (!own) return opened(entered.place, undefined)
      counts.directories++
      tellLost(item.stat, item.path, keeping, findings)
      if (entered.collides)
        tell(putting, 'NAMES_COLLIDE', item.path, `${OBSTACLES.collides}: what is in the two is together now`)
      return opened(entered.place, entered.collides ? undefined : item)
    } catch (error) {
      tellOrThrow(putting, error, item.path, item.path)
      return undefined
    }
  }

  const links = hardLinks<Promise<Made>>()

  const copyOne = async (open: OpenDirectory, item: CopyItem): Promise<void> => {
    const { path, stat, names } = item
    const name = targetName(names.at(-1)!, item)
    // What stands in the way is looked for before its name is given, too. Here it saves the reading, where anything may be
    // there, and has the next name of the file made its first.
    const blocked = open.place.isFresh && stat.linkCount === 1 ? undefined : obstacle(open.place, name, overwrite)
    if (blocked) {
      tellObstacle(putting, path, blocked)
      return
    }
    if (stat.kind === 'symlink' || stat.kind === 'file') open.hold()
    const letGo = (): void => void files.follow(() => open.letGo())
    try {
      if (stat.kind === 'symlink') await putSymlink(putting, open, item, name, letGo)
      else if (stat.kind !== 'file') await putSpecial(putting, open, item, name)
    } catch (error) {
      if (stat.kind === 'symlink') letGo()
      if (!isLiveError(error) || isFatal(error)) throw error
      tell(putting, 'UNREADABLE', path, error.message)
    }
    if (stat.kind !== 'file') return
    const first = links.first(item)
    let settle: (made: Made) => void = () => {}
    if (!first) links.remember(item, new Promise(resolve => (settle = resolve)))
    const done = (made: Made): void => {
      settle(made)
      letGo()
    }
    await files.start(async () => {
      try {
        const other = await first
        if (other && (await putHardLink(putting, open, item, name, other))) done(undefined)
        else await putFile(putting, open, item, name, done)
      } catch (error) {
        done(undefined)
        throw error
      }
    })
  }

  const root = opened(openTarget(copy.to), undefined)
  const levels: Level[] = [{ names: [], open: root }]
  const leaveTo = async (names: readonly string[]): Promise<void> => {
    const isAbove = (level: Level): boolean =>
      level.names.length < names.length && level.names.every((name, n) => name === names[n])
    while (levels.length > 1 && !isAbove(levels.at(-1)!)) await levels.pop()!.open?.letGo()
  }
  const copyItem = async (item: CopyItem): Promise<void> => {
    if (item.names.length === 0) {
      if (item.stat.kind !== 'directory')
        throw new LiveError('USAGE', `${printableName(item.path)} is no directory: it needs a name in ${copy.to}`)
      root.item = item
      counts.directories++
      tellLost(item.stat, item.path, keeping, findings)
      return
    }
    await leaveTo(item.names)
    // directories on the way to a path's own name
    for (let top = levels.at(-1)!; top.names.length < item.names.length - 1; top = levels.at(-1)!) {
      const next = item.names[top.names.length]!
      levels.push({ names: [...top.names, next], open: enter(top.open, next, item, false) })
    }
    const { open } = levels.at(-1)!
    if (item.stat.kind === 'directory')
      levels.push({ names: item.names, open: enter(open, item.names.at(-1)!, item, true) })
    else if (open) await copyOne(open, item)
  }
  try {
    try {
      for await (const item of source.items()) {
        files.check()
        await copyItem(item)
        if (setter.isFull) await setter.flush()
      }
    } catch (error) {
      // what is in flight would go on writing
      files.failWith(error)
    }
    await files.settle()
    await writer.drain()
    await files.settle()
    if (copy.signal?.aborted)
      throw new LiveError('CANCELLED', `copying to ${copy.to} was cancelled`, {}, copy.signal.reason)
    files.check()
    while (levels.length > 0) await levels.pop()!.open?.letGo()
    await setter.flush()
    return counts
  } finally {
    copy.signal?.removeEventListener('abort', abort)
    // where it ended early, directories get what they can and are closed
    stop.abort()
    await writer.close()
    await setter.drop()
    while (levels.length > 0)
      await levels
        .pop()!
        .open?.letGo()
        .catch(() => undefined)
  }
}
