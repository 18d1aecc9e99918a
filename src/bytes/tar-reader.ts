import { unsupported } from '../error.js'
import { TAR_BLOCK, type TarKind, type TarMember, tarPadding } from './tar.js'
import {
  decimal,
  numberAt,
  type Place,
  type Records,
  reader,
  stringAt,
  type TarSource,
  text,
  wrong,
} from './tar-fields.js'
import { checkedRuns, type Run, readGnuRuns, readMap } from './tar-sparse.js'

export type { TarSource } from './tar-fields.js'

/*
 * The archives of `tar.ts`, and what GNU tar and bsdtar write besides: numbers in base 256 (the first byte has its highest bit
 * set), GNU's long names (members of typeflag `L` and `K` with the name as content) and GNU's own sparse files (typeflag `S`):
 *
 *   386 four of offset[12], numbytes[12] · 482 isextended · 483 realsize[12]
 *
 * after which follow, while `isextended` says so, blocks of 21 of offset[12], numbytes[12] and 504 isextended.
 */

/** A member of an archive. Its path is relative, without `.` and `..`, and empty for the root itself. */
export interface TarEntry extends TarMember {
  /** byte of the archive where its first header begins */
  readonly offset: number
  /** byte of the archive where its content begins: all of it, or its runs of data joined */
  readonly contentStart: number
}

const MAX_PATH = 4096
const SLASH = 0x2f

const KINDS: Readonly<Record<string, TarKind>> = {
  '0': 'file',
  '\0': 'file',
  '7': 'file',
  S: 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'character',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
}

/** A header as it stands, before the records that go with it. */
interface RawHeader {
  readonly block: Uint8Array
  readonly typeflag: string
  readonly path: Uint8Array
  readonly linkPath: Uint8Array
  readonly size: number
}

const isZeroBlock = (block: Uint8Array): boolean => block.every(byte => byte === 0)

const checkSum = (block: Uint8Array, place: Place): void => {
  const stated = numberAt(block, 148, 8, 'chksum', place)
  let sum = 0
  let signed = 0
  for (const [at, byte] of block.entries()) {
    const value = at >= 148 && at < 156 ? 0x20 : byte
    sum += value
    signed += value >= 0x80 ? value - 256 : value
  }
  // some old programs summed signed bytes
  if (stated !== sum && stated !== signed) throw wrong({ ...place, offset: place.offset + 148 }, 'chksum', sum, stated)
}

const parseHeader = (block: Uint8Array, place: Place): RawHeader => {
  checkSum(block, place)
  const name = stringAt(block, 0, 100)
  // GNU's own headers have other things where the prefix would stand
  const prefix = text(block.subarray(257, 263)) === 'ustar\0' ? stringAt(block, 345, 155) : new Uint8Array(0)
  const size = numberAt(block, 124, 12, 'size', place)
  if (size < 0) throw wrong({ ...place, offset: place.offset + 124 }, 'size', 'no negative number', size)
  return {
    block,
    typeflag: String.fromCharCode(block[156]!),
    path: prefix.length > 0 ? Buffer.concat([prefix, Buffer.of(SLASH), name]) : name,
    linkPath: stringAt(block, 157, 100),
    size,
  }
}

/**
 * The records of a pax header: `LENGTH KEYWORD=VALUE\n`, LENGTH counting all of it.
 *
 * @throws CORRUPT
 * @see POSIX.1-2017, pax, "pax Extended Header"
 */
const parseRecords = (content: Uint8Array, place: Place): { keyword: string; value: Uint8Array }[] => {
  const records: { keyword: string; value: Uint8Array }[] = []
  for (let at = 0; at < content.length; ) {
    const here = { ...place, offset: place.offset + at }
    const [digits] = /^\d{1,8}(?= )/.exec(text(content.subarray(at, at + 9))) ?? []
    const length = Number(digits ?? 0)
    const equals = content.indexOf(0x3d, at)
    const end = at + length
    if (digits === undefined || end > content.length || equals < 0 || equals >= end || content[end - 1] !== 0x0a)
      throw wrong(here, 'pax record', 'LENGTH KEYWORD=VALUE', JSON.stringify(text(content.subarray(at, at + 32))))
    records.push({
      keyword: text(content.subarray(at + digits.length + 1, equals)),
      value: content.subarray(equals + 1, end - 1),
    })
    at = end
  }
  return records
}

/** Seconds with digits behind a point; negative ones count from the second before. */
const timeOf = (value: Uint8Array, place: Place): { mtime: number; mtimeNanoseconds: number } => {
  const found = /^(-?)(\d{1,15})(?:\.(\d*))?$/.exec(text(value))
  if (!found) throw wrong(place, 'mtime', 'seconds', JSON.stringify(text(value)))
  const seconds = Number(found[2])
  const nanoseconds = Number((found[3] ?? '').slice(0, 9).padEnd(9, '0'))
  if (found[1] === '') return { mtime: seconds, mtimeNanoseconds: nanoseconds }
  return nanoseconds === 0
    ? { mtime: 0 - seconds, mtimeNanoseconds: 0 }
    : { mtime: -seconds - 1, mtimeNanoseconds: 1e9 - nanoseconds }
}

/**
 * A path of an archive without `.`, doubled slashes and the one at its end.
 *
 * @throws CORRUPT  it is absolute, leads upward, holds a NUL or is too long
 */
const checkedPath = (path: Uint8Array, field: string, place: Place): Uint8Array => {
  const names = text(path).split('/')
  if (path[0] === SLASH || path.includes(0) || names.includes('..') || path.length > MAX_PATH)
    throw wrong(place, field, 'a path below the root of the archive', JSON.stringify(text(path.subarray(0, 100))))
  return new Uint8Array(Buffer.from(names.filter(name => name !== '' && name !== '.').join('/'), 'latin1'))
}

const unescapeKeyword = (keyword: string): Uint8Array =>
  Buffer.from(keyword.replaceAll('%3D', '=').replaceAll('%25', '%'), 'latin1')

const XATTR = 'SCHILY.xattr.'

/** A member of its header, the records before it, and the names of GNU's long headers. */
const entryOf = async (
  source: TarSource,
  offset: number,
  at: number,
  header: RawHeader,
  records: Records,
): Promise<{ entry: TarEntry; next: number }> => {
  const place = { source, offset: at }
  const { block, typeflag } = header
  const kindFound = KINDS[typeflag]
  if (!kindFound)
    throw unsupported(
      'tar member type',
      source.name,
      `the member at byte ${at} is of type ${JSON.stringify(typeflag)}, which is not known here`,
    )
  const stated = records.get('GNU.sparse.name') ?? records.get('path') ?? header.path
  // archives from before ustar know a directory by the slash at its end
  const kind = kindFound === 'file' && stated.at(-1) === SLASH ? 'directory' : kindFound
  const path = checkedPath(stated, 'path', place)
  const size = decimal(records, 'size', place) ?? header.size
  // links and devices may state a size and have no content; a link of pax may have one and is then none of ours
  const stored = kind === 'file' ? size : kind === 'hardlink' && size > 0 ? unsupportedLink(source, at) : 0
  let contentStart = at + TAR_BLOCK
  let data: Run[] | undefined
  let realSize = stored
  if (kind === 'file' && typeflag === 'S') {
    const { runs, mapLength } = await readGnuRuns(source, block, at)
    realSize = numberAt(block, 483, 12, 'realsize', place)
    data = checkedRuns(runs, realSize, stored, place)
    contentStart += mapLength
  } else if (kind === 'file' && [...records.keys()].some(keyword => keyword.startsWith('GNU.sparse.'))) {
    if (text(records.get('GNU.sparse.major') ?? new Uint8Array(0)) !== '1')
      throw unsupported('GNU sparse format before 1.0', source.name)
    realSize = decimal(records, 'GNU.sparse.realsize', place) ?? stored
    const { runs, mapLength } = await readMap(source, contentStart, stored)
    data = checkedRuns(runs, realSize, stored - mapLength, place)
    contentStart += mapLength
  }
  const end = contentStart + (data ? data.reduce((sum, run) => sum + run.length, 0) : stored)
  if (end > source.size)
    throw wrong(place, 'size', `at most ${source.size - contentStart} bytes`, `${stored}, past the end of the archive`)
  const link = records.get('linkpath') ?? header.linkPath
  const xattrs = [...records].flatMap(([keyword, value]) =>
    keyword.startsWith(XATTR) ? [{ name: unescapeKeyword(keyword.slice(XATTR.length)), value }] : [],
  )
  const time = records.get('mtime')
  const uid = decimal(records, 'uid', place) ?? numberAt(block, 108, 8, 'uid', place)
  const gid = decimal(records, 'gid', place) ?? numberAt(block, 116, 8, 'gid', place)
  if (uid < 0 || gid < 0) throw wrong(place, 'uid and gid', 'no negative number', Math.min(uid, gid))
  return {
    entry: {
      path,
      kind,
      mode: numberAt(block, 100, 8, 'mode', place) & 0o7777,
      uid,
      gid,
      ...(time ? timeOf(time, place) : { mtime: numberAt(block, 136, 12, 'mtime', place), mtimeNanoseconds: 0 }),
      size: kind === 'file' ? realSize : 0,
      linkPath: kind === 'symlink' ? link : kind === 'hardlink' ? checkedPath(link, 'linkpath', place) : undefined,
      device:
        kind === 'block' || kind === 'character'
          ? {
              major: decimal(records, 'SCHILY.devmajor', place) ?? numberAt(block, 329, 8, 'devmajor', place),
              minor: decimal(records, 'SCHILY.devminor', place) ?? numberAt(block, 337, 8, 'devminor', place),
            }
          : undefined,
      xattrs: xattrs.length > 0 ? xattrs : undefined,
      data: data && data.reduce((sum, run) => sum + run.length, 0) !== realSize ? data : undefined,
      offset,
      contentStart,
    },
    next: end + tarPadding(end - contentStart),
  }
}

const unsupportedLink = (source: TarSource, at: number): never => {
  throw unsupported('tar hard link with content', `${source.name} at byte ${at}`)
}

/**
 * Reads the members of an archive one after another: ustar, pax, GNU and what came before them, with pax records, GNU's long
 * names, numbers in base 256, and sparse files of GNU's format 1.0 and of its own. Contents are not read.
 *
 * An archive ends with two blocks of zeros; one that ends otherwise was cut off. What follows them is not looked at.
 *
 * @throws CORRUPT  damaged, cut off, or a name that leads out of the archive
 * @throws UNSUPPORTED  members of a kind or size that is not known; IO
 * @see POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format" and "Storing Sparse Files"
 */
export async function* readTar(source: TarSource): AsyncGenerator<TarEntry> {
  const { block, small } = reader(source)
  const global = new Map<string, Uint8Array>()
  let own = new Map<string, Uint8Array>()
  let first: number | undefined
  for (let at = 0; ; ) {
    const place = { source, offset: at }
    const bytes = await block(at, 'header')
    if (isZeroBlock(bytes)) {
      if (!isZeroBlock(await block(at + TAR_BLOCK, 'end of the archive')))
        throw wrong({ source, offset: at + TAR_BLOCK }, 'end of the archive', 'two blocks of zeros', 'one')
      if (first !== undefined) throw wrong(place, 'header', 'the member that records are about', 'the end')
      return
    }
    const header = parseHeader(bytes, place)
    first ??= at
    const { typeflag, size } = header
    if (typeflag === 'x' || typeflag === 'g') {
      const to = typeflag === 'g' ? global : own
      const content = await small(at + TAR_BLOCK, size, 'pax header')
      for (const { keyword, value } of parseRecords(content, { source, offset: at + TAR_BLOCK })) to.set(keyword, value)
      if (global.size > 1000) throw wrong(place, 'pax header', 'at most 1000 global records', global.size)
      if (typeflag === 'g' && own.size === 0) first = undefined
    } else if (typeflag === 'L' || typeflag === 'K') {
      const name = await small(at + TAR_BLOCK, size, 'long name')
      own.set(typeflag === 'L' ? 'path' : 'linkpath', stringAt(name, 0, name.length))
    } else {
      const records = new Map(global)
      // an empty value takes a record back
      for (const [keyword, value] of own)
        if (value.length > 0 || keyword.startsWith(XATTR)) records.set(keyword, value)
        else records.delete(keyword)
      const { entry, next } = await entryOf(source, first, at, header, records)
      yield entry
      own = new Map()
      first = undefined
      at = next
      continue
    }
    at += TAR_BLOCK + size + tarPadding(size)
  }
}
