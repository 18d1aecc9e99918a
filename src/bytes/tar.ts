import { assert } from '../error.js'

/*
 * An archive is members one behind the other and two blocks of zeros at the end. A block is 512 bytes. A member is its
 * ustar header, one block, and its content padded to whole blocks. What doesn't fit into the header stands in records of
 * a pax header before it, which is a member of typeflag `x` with the records as content.
 *
 *   0 name[100] · 100 mode[8] · 108 uid[8] · 116 gid[8] · 124 size[12] · 136 mtime[12] · 148 chksum[8] · 156 typeflag
 *   157 linkname[100] · 257 magic "ustar\0" · 263 version "00" · 265 uname[32] · 297 gname[32] · 329 devmajor[8]
 *   337 devminor[8] · 345 prefix[155] · 500 unused[12]
 *
 * Numbers are octal digits and a NUL. A record is `LENGTH KEYWORD=VALUE\n`; LENGTH counts all of it in bytes, so a value
 * may hold any byte. A sparse file (GNU format 1.0) has a map of its data before the data: lines of decimal numbers,
 * the count of runs and then offset and length of each, padded to whole blocks.
 */

/** bytes of a block; every part of an archive is whole blocks */
export const TAR_BLOCK = 512

/** What a member of an archive is. A `hardlink` is one more name of a member before it. */
export type TarKind = 'file' | 'hardlink' | 'symlink' | 'character' | 'block' | 'directory' | 'fifo'

/** A member: names, links and attributes' names are bytes as the filesystem has them. */
export interface TarMember {
  /** relative, without a slash at the end */
  readonly path: Uint8Array
  readonly kind: TarKind
  /** permission bits with set-uid, set-gid and sticky */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  /** seconds since 1970, negative before */
  readonly mtime: number
  /** what is less than a second, 0 to 999,999,999 */
  readonly mtimeNanoseconds: number
  /** bytes of a file, holes included; 0 of every other kind */
  readonly size: number
  /** where a symlink points to; the path of a hardlink's first name */
  readonly linkPath?: Uint8Array | undefined
  /** of a block or character device */
  readonly device?: { readonly major: number; readonly minor: number } | undefined
  readonly xattrs?: readonly { readonly name: Uint8Array; readonly value: Uint8Array }[] | undefined
  /** the runs of a file that hold data, in order and apart; only they follow as content. Without it, all of the file does. */
  readonly data?: readonly { readonly offset: number; readonly length: number }[] | undefined
}

const TYPEFLAG: Readonly<Record<TarKind, string>> = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  character: '3',
  block: '4',
  directory: '5',
  fifo: '6',
}
const NAME_SIZE = 100
const PREFIX_SIZE = 155
const SLASH = 0x2f
/** the largest numbers of 7 and of 11 octal digits */
const MAX_7 = 0o7777777
const MAX_11 = 0o77777777777

/** Bytes of zeros that make `size` bytes whole blocks. */
export const tarPadding = (size: number): number => (TAR_BLOCK - (size % TAR_BLOCK)) % TAR_BLOCK

/** What ends an archive. */
export const tarEnd = (): Uint8Array => new Uint8Array(2 * TAR_BLOCK)

/** A record; its length counts its own digits too. */
const record = (keyword: Uint8Array | string, value: Uint8Array | string): Uint8Array => {
  const text = [Buffer.from(' '), Buffer.from(keyword), Buffer.from('='), Buffer.from(value), Buffer.from('\n')]
  const behind = text.reduce((sum, part) => sum + part.length, 0)
  let digits = String(behind).length
  if (String(behind + digits).length > digits) digits++
  return Buffer.concat([Buffer.from(String(behind + digits)), ...text])
}

/** Seconds with up to nine digits behind the point, as records have them. */
const decimalTime = (seconds: number, nanoseconds: number): string => {
  const all = BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds)
  const size = all < 0n ? -all : all
  const fraction = String(size % 1_000_000_000n)
    .padStart(9, '0')
    .replace(/0+$/, '')
  return `${all < 0n ? '-' : ''}${size / 1_000_000_000n}${fraction && `.${fraction}`}`
}

const isAscii = (bytes: Uint8Array): boolean => bytes.every(byte => byte < 0x80)
const isUtf8 = (bytes: Uint8Array): boolean => {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    return true
  } catch {
    return false
  }
}

/** Where a long path is cut in prefix and name; undefined where no slash stands right. */
const splitAt = (path: Uint8Array): number | undefined => {
  // the last byte may be the slash of a directory, which stays with its name
  for (let at = Math.min(PREFIX_SIZE, path.length - 2); at > 0; at--)
    if (path[at] === SLASH) return path.length - at - 1 <= NAME_SIZE ? at : undefined
  return undefined
}

interface Header {
  readonly path: Uint8Array
  readonly typeflag: string
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly size: number
  readonly mtime: number
  readonly linkPath: Uint8Array
  readonly device?: { readonly major: number; readonly minor: number } | undefined
}

/** A ustar header. Numbers and names that don't fit are put in as far as they go: a record says them in full. */
const encodeHeader = (header: Header): Uint8Array => {
  const block = Buffer.alloc(TAR_BLOCK)
  const octal = (value: number, at: number, digits: number): void => {
    const fits = value >= 0 && value < 8 ** digits
    block.write((fits ? value : 0).toString(8).padStart(digits, '0'), at, 'latin1')
  }
  const cut = header.path.length > NAME_SIZE ? splitAt(header.path) : undefined
  block.set(header.path.subarray(cut === undefined ? 0 : cut + 1).subarray(0, NAME_SIZE), 0)
  octal(header.mode, 100, 7)
  octal(header.uid, 108, 7)
  octal(header.gid, 116, 7)
  octal(header.size, 124, 11)
  octal(header.mtime, 136, 11)
  block.write(header.typeflag, 156, 'latin1')
  block.set(header.linkPath.subarray(0, NAME_SIZE), 157)
  block.write('ustar\x0000', 257, 'latin1')
  octal(header.device?.major ?? 0, 329, 7)
  octal(header.device?.minor ?? 0, 337, 7)
  if (cut !== undefined) block.set(header.path.subarray(0, cut), 345)
  block.fill(0x20, 148, 156)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return block
}

/** Attribute names may hold the `=` that ends a keyword: GNU tar writes and reads it like this. */
const escapeKeyword = (name: Uint8Array): Uint8Array =>
  Buffer.from(Buffer.from(name).toString('latin1').replaceAll('%', '%25').replaceAll('=', '%3D'), 'latin1')

/** The map before a sparse file's data. A hole at the end is told by a run of no bytes at the file's end. */
const encodeMap = (runs: readonly { offset: number; length: number }[], size: number): Uint8Array => {
  const last = runs.at(-1)
  const all = last && last.offset + last.length === size ? runs : [...runs, { offset: size, length: 0 }]
  const text = [all.length, ...all.flatMap(({ offset, length }) => [offset, length])].join('\n')
  const map = Buffer.alloc(text.length + 1 + tarPadding(text.length + 1))
  map.write(`${text}\n`, 'latin1')
  return map
}

const withFolder = (path: Uint8Array, folder: string): Uint8Array => {
  const at = path.lastIndexOf(SLASH)
  return Buffer.concat([path.subarray(0, at + 1), Buffer.from(`${folder}/`), path.subarray(at + 1)])
}

/** The name of a header that only programs without pax see. */
const fallbackPath = (path: Uint8Array): Uint8Array => path.map(byte => (byte < 0x80 ? byte : 0x5f))

const checkMember = ({ path, kind, size, linkPath, mtimeNanoseconds, data }: TarMember): void => {
  assert(path.length > 0 && !path.includes(0) && path[0] !== SLASH, 'a member has a relative path')
  assert(kind === 'file' || (size === 0 && !data), `a ${kind} has no content`)
  assert(
    (linkPath !== undefined) === (kind === 'symlink' || kind === 'hardlink'),
    'links and only links point elsewhere',
  )
  assert(mtimeNanoseconds >= 0 && mtimeNanoseconds < 1e9, `${mtimeNanoseconds} ns are no part of a second`)
  let end = 0
  for (const { offset, length } of data ?? []) {
    assert(offset >= end && length > 0, 'runs of a sparse file come in order')
    end = offset + length
  }
  assert(end <= size, 'runs of a sparse file end with it')
}

/**
 * All that stands before a member's content: pax header where one is wanted, header, the map of a sparse file. The content
 * follows (of a sparse file only its runs of data, joined) and `tarPadding` of its bytes.
 *
 * @see POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar manual, "Storing Sparse Files"
 */
export const encodeTarMember = (member: TarMember): Uint8Array => {
  checkMember(member)
  const { kind, size, data, device } = member
  const path = kind === 'directory' ? Buffer.concat([member.path, Buffer.of(SLASH)]) : member.path
  const linkPath = member.linkPath ?? new Uint8Array(0)
  const map = data ? encodeMap(data, size) : new Uint8Array(0)
  const stored = data ? map.length + data.reduce((sum, { length }) => sum + length, 0) : size
  const records: Uint8Array[] = []
  const add = (keyword: Uint8Array | string, value: Uint8Array | string): void =>
    void records.push(record(keyword, value))

  // before the names it is about
  if (!isUtf8(path) || !isUtf8(linkPath)) add('hdrcharset', 'BINARY')
  const longPath = !isAscii(path) || (path.length > NAME_SIZE && splitAt(path) === undefined)
  if (data) {
    add('GNU.sparse.major', '1')
    add('GNU.sparse.minor', '0')
    add('GNU.sparse.name', path)
    add('GNU.sparse.realsize', String(size))
  } else if (longPath) add('path', path)
  if (linkPath.length > NAME_SIZE || !isAscii(linkPath)) add('linkpath', linkPath)
  if (stored > MAX_11) add('size', String(stored))
  if (member.uid > MAX_7) add('uid', String(member.uid))
  if (member.gid > MAX_7) add('gid', String(member.gid))
  if (member.mtime < 0 || member.mtime > MAX_11 || member.mtimeNanoseconds > 0)
    add('mtime', decimalTime(member.mtime, member.mtimeNanoseconds))
  if (device && (device.major > MAX_7 || device.minor > MAX_7)) {
    add('SCHILY.devmajor', String(device.major))
    add('SCHILY.devminor', String(device.minor))
  }
  for (const { name, value } of member.xattrs ?? [])
    add(Buffer.concat([Buffer.from('SCHILY.xattr.'), escapeKeyword(name)]), value)

  const shown = data ? withFolder(path, 'GNUSparseFile.0') : path
  const header = encodeHeader({
    path: longPath || data ? fallbackPath(shown) : shown,
    typeflag: TYPEFLAG[kind],
    mode: member.mode & 0o7777,
    uid: member.uid,
    gid: member.gid,
    size: stored,
    mtime: member.mtime,
    linkPath: isAscii(linkPath) ? linkPath : fallbackPath(linkPath),
    device,
  })
  if (records.length === 0) return header
  const content = Buffer.concat(records)
  const pax = encodeHeader({
    path: fallbackPath(withFolder(member.path, 'PaxHeaders')),
    typeflag: 'x',
    mode: 0o644,
    uid: 0,
    gid: 0,
    size: content.length,
    mtime: Math.max(0, Math.min(member.mtime, MAX_11)),
    linkPath: new Uint8Array(0),
  })
  return Buffer.concat([pax, content, new Uint8Array(tarPadding(content.length)), header, map])
}
