/** How a piece of an initrd is packed: `none` is a cpio archive as it is. */
export type Packing = 'none' | 'gzip' | 'xz' | 'zstd' | 'lz4' | 'lzo' | 'lz4 frame' | 'lzma' | 'bzip2'

const MAGICS: readonly (readonly [Packing, readonly number[]])[] = [
  ['gzip', [0x1f, 0x8b]],
  ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
  ['lz4', [0x02, 0x21, 0x4c, 0x18]],
  ['lz4 frame', [0x04, 0x22, 0x4d, 0x18]],
  ['lzo', [0x89, 0x4c, 0x5a, 0x4f, 0x00, 0x0d, 0x0a, 0x1a, 0x0a]],
  ['bzip2', [0x42, 0x5a, 0x68]],
  ['lzma', [0x5d, 0x00, 0x00]],
  ['none', [0x30, 0x37, 0x30, 0x37, 0x30]],
]

/** How the bytes are packed, by the first of them; undefined where they are nothing that an initrd may hold. @see linux lib/decompress.c */
export const packingOf = (head: Uint8Array): Packing | undefined =>
  MAGICS.find(([, magic]) => magic.every((byte, n) => head[n] === byte))?.[0]
