import { corrupt } from '../error.js'
import type { ByteReader } from './byte-reader.js'

/*
 * The "new ASCII" format of cpio. An archive is members one behind the other and a last one named TRAILER!!!. A member is its
 * header, its name with a NUL, and its content; name and content are each padded with NULs to a multiple of four bytes.
 * Every field of the header is eight hexadecimal digits.
 *
 *    0 c_magic[6] "070701", or "070702" with a checksum · 6 c_ino · 14 c_mode · 22 c_uid · 30 c_gid · 38 c_nlink
 *   46 c_mtime · 54 c_filesize · 62 c_maj · 70 c_min · 78 c_rmaj · 86 c_rmin · 94 c_namesize · 102 c_chksum · 110 name
 *
 * Documentation/driver-api/early-userspace/buffer-format.rst
 */

/** bytes of a header */
export const CPIO_HEADER = 110
/** bytes of a name with its NUL, at most: the kernel's PATH_MAX */
export const MAX_CPIO_NAME = 4096
const TRAILER = 'TRAILER!!!'

/** The numbers of a header by the names that the format has for them. */
export interface CpioHeader {
  /** true of "070702": c_chksum is the sum of the content's bytes */
  readonly hasChecksum: boolean
  readonly c_ino: number
  readonly c_mode: number
  readonly c_uid: number
  readonly c_gid: number
  readonly c_nlink: number
  readonly c_mtime: number
  readonly c_filesize: number
  readonly c_maj: number
  readonly c_min: number
  readonly c_rmaj: number
  readonly c_rmin: number
  /** bytes of the name, its NUL among them */
  readonly c_namesize: number
  readonly c_chksum: number
}

/** What a member is. */
export type CpioKind = 'file' | 'directory' | 'symlink' | 'character' | 'block' | 'fifo' | 'socket' | 'unknown'

/** A member of an archive, its content still to come. */
export interface CpioMember {
  /** as bytes; without a leading `./` or `/`, `.` for the root itself */
  readonly path: Uint8Array
  readonly kind: CpioKind
  readonly header: CpioHeader
  /** bytes of the content; of several names of one file only the last has any */
  readonly size: number
  /**
   * The content, once and before the next member is asked for; only its first `limit` bytes.
   *
   * @throws CORRUPT  the archive ends in it
   */
  read(limit: number): Promise<Uint8Array>
}

const FIELDS = [
  'c_ino',
  'c_mode',
  'c_uid',
  'c_gid',
  'c_nlink',
  'c_mtime',
  'c_filesize',
  'c_maj',
  'c_min',
  'c_rmaj',
  'c_rmin',
  'c_namesize',
  'c_chksum',
] as const

const ascii = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')

/** True where bytes begin as a header does. */
export const isCpio = (bytes: Uint8Array): boolean => /^07070[12]/.test(ascii(bytes.subarray(0, 6)))

/**
 * Parses a header.
 *
 * @param place  what the bytes are of, and the first one's offset in it
 * @throws CORRUPT  it is none
 */
export const parseCpioHeader = (
  bytes: Uint8Array,
  place: { readonly device: string; readonly base: number },
): CpioHeader => {
  const bad = (field: string, at: number, expected: string, found: string) =>
    corrupt({ device: place.device, offset: place.base + at, field, expected, found })
  if (bytes.length < CPIO_HEADER) throw bad('header', 0, `${CPIO_HEADER} bytes`, `${bytes.length} bytes`)
  const text = ascii(bytes.subarray(0, CPIO_HEADER))
  if (!isCpio(bytes)) throw bad('c_magic', 0, '070701 or 070702', JSON.stringify(text.slice(0, 6)))
  const numbers = FIELDS.map((field, n) => {
    const digits = text.slice(6 + 8 * n, 14 + 8 * n)
    if (!/^[0-9a-f]{8}$/i.test(digits)) throw bad(field, 6 + 8 * n, 'eight hexadecimal digits', JSON.stringify(digits))
    return [field, Number.parseInt(digits, 16)] as const
  })
  const header = { hasChecksum: text[5] === '2', ...Object.fromEntries(numbers) } as unknown as CpioHeader
  if (header.c_namesize < 1 || header.c_namesize > MAX_CPIO_NAME)
    throw bad('c_namesize', 94, `1 to ${MAX_CPIO_NAME}`, String(header.c_namesize))
  return header
}

const KINDS: Readonly<Record<number, CpioKind>> = {
  1: 'fifo',
  2: 'character',
  4: 'directory',
  6: 'block',
  8: 'file',
  10: 'symlink',
  12: 'socket',
}

/** NULs that make so many bytes a multiple of four. */
const padding = (length: number): number => (4 - (length % 4)) % 4

/**
 * A name may end in several NULs: so dracut-cpio brings the content to a multiple of the filesystem's blocks.
 *
 * @throws CORRUPT  no NUL at its end, one in it, or a `..` that leads out of its directory
 */
const pathOf = (name: Uint8Array, device: string, offset: number): Uint8Array => {
  const end = name.indexOf(0)
  const text = ascii(name)
  if (end < 0 || name.subarray(end).some(byte => byte !== 0))
    throw corrupt({ device, offset, field: 'name', expected: 'a NUL at its end alone', found: JSON.stringify(text) })
  const bare = text.slice(0, end).replace(/^(\.?\/+)+/, '')
  if (bare.split('/').includes('..'))
    throw corrupt({ device, offset, field: 'name', expected: 'a path without ..', found: JSON.stringify(text) })
  return name.subarray(end - bare.length, end)
}

/**
 * The members of one archive, up to its trailer; the reader stands behind the trailer then. Content that nobody asks for is
 * passed over, and memory holds one header, one name and what `read` gives.
 *
 * @throws CORRUPT  also where a checksum is wrong of a content that was read or passed over as a whole
 * @see linux init/initramfs.c
 */
export async function* cpioMembers(from: ByteReader): AsyncGenerator<CpioMember> {
  for (;;) {
    const start = from.offset
    const place = { device: from.name, base: start }
    const header = parseCpioHeader(await from.take(CPIO_HEADER, 'header'), place)
    const name = new Uint8Array(await from.take(header.c_namesize, 'name'))
    const path = pathOf(name, from.name, start + CPIO_HEADER)
    const kind = KINDS[header.c_mode >> 12] ?? 'unknown'
    const size = header.c_filesize
    const isTrailer = ascii(path) === TRAILER
    await skipPadding(from, padding(CPIO_HEADER + header.c_namesize), isTrailer)
    if (isTrailer) {
      await from.skip(size, 'trailer')
      return
    }
    const content = contentOf(from, header, start)
    yield { path: path.length === 0 ? Buffer.from('.') : path, kind, header, size, read: content.read }
    await content.end()
    await skipPadding(from, padding(size), false)
  }
}

/** An archive may be cut behind its trailer's name. */
const skipPadding = async (from: ByteReader, length: number, mayEnd: boolean): Promise<void> => {
  const left = mayEnd ? Math.min(length, (await from.peek(length)).length) : length
  await from.skip(left, 'padding')
}

const contentOf = (from: ByteReader, { c_filesize, c_chksum, hasChecksum, c_mode }: CpioHeader, start: number) => {
  let left = c_filesize
  let sum = 0
  const add = (bytes: Uint8Array): void => {
    left -= bytes.length
    if (hasChecksum) for (const byte of bytes) sum = (sum + byte) >>> 0
  }
  return {
    async read(limit: number): Promise<Uint8Array> {
      const bytes = new Uint8Array(await from.take(Math.min(limit, left), 'content'))
      add(bytes)
      return bytes
    },
    async end(): Promise<void> {
      await from.skip(left, 'content', add)
      if (hasChecksum && c_mode >> 12 === 8 && sum !== c_chksum)
        throw corrupt({ device: from.name, offset: start + 102, field: 'c_chksum', expected: sum, found: c_chksum })
    },
  }
}
